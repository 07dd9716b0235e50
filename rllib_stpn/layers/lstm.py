"""Long short-term memory."""

import torch

from rllib_stpn.errors import one_of
from rllib_stpn.kernels import energy as synaptic_energy
from rllib_stpn.layers.layer import Layer, reset, uniform


class LSTM(Layer):
    """Long short-term memory (Hochreiter & Schmidhuber, 1997), torch's own, in the form all layers here have.

    >>> outputs, state = LSTM(17, 47)(torch.zeros(2, 9, 17))
    >>> outputs.shape, sorted(state)
    (torch.Size([2, 9, 47]), ['c', 'h'])

    Parameters: ``weight_ih`` ``[4H, I]``, ``weight_hh`` ``[4H, H]``, ``bias_ih`` ``[4H]`` and, with two bias vectors,
    ``bias_hh`` ``[4H]``; gate rows in torch's order (input, forget, cell, output), all drawn from U(±1/sqrt(H)) as
    torch does. State: ``h`` and ``c``, each ``[B, H]``. Energy: one value per gate row, ``4H``.

    Args:
        input_size: Features per step.
        hidden_size: Units.
        bias: "double" has torch's two bias vectors, "single" only one, as some published baselines.

    Raises:
        UsageError: An option outside what is listed here.
    """

    name = "lstm"

    def __init__(self, input_size: int, hidden_size: int, *, bias: str = "double"):
        super().__init__(input_size, hidden_size)
        if bias not in ("double", "single"):
            raise one_of("lstm: bias", bias, ("double", "single"))
        self.bias = bias
        k = hidden_size**-0.5
        self.weight_ih = uniform(k, 4 * hidden_size, input_size)
        self.weight_hh = uniform(k, 4 * hidden_size, hidden_size)
        self.bias_ih = uniform(k, 4 * hidden_size)
        if bias == "double":
            self.bias_hh = uniform(k, 4 * hidden_size)

    def state_shapes(self):
        """``h`` ``[H]`` and ``c`` ``[H]``."""
        return {"h": (self.hidden_size,), "c": (self.hidden_size,)}

    def run(self, inputs, state, is_first, return_energy):
        """The sequence, by one call of torch's LSTM per stretch without resets."""
        if state is None:
            state = self.initial_state(inputs.shape[0])
        steps = inputs.shape[1]
        bias_hh = self.bias_hh if self.bias == "double" else torch.zeros_like(self.bias_ih)
        parameters = [self.weight_ih, self.weight_hh, self.bias_ih, bias_hh]
        starts = [] if is_first is None else is_first.any(0).nonzero().flatten().tolist()
        edges = sorted({0, *starts, steps})
        outputs, previous = [], []
        for begin, end in zip(edges[:-1], edges[1:], strict=True):
            if begin in starts:
                state = reset(state, is_first[:, begin])
            start = (state["h"][None].contiguous(), state["c"][None].contiguous())
            output, h, c = torch.lstm(inputs[:, begin:end], start, parameters, True, 1, 0.0, self.training, False, True)
            previous += [state["h"][:, None], output[:, :-1]]
            outputs.append(output)
            state = {"h": h[0], "c": c[0]}
        energy = None
        if return_energy:
            h = torch.cat(previous, 1)  # [B, T, H], each step's h before the step
            energy = synaptic_energy(self.weight_ih, inputs) + synaptic_energy(self.weight_hh, h)
        return torch.cat(outputs, 1), state, energy
