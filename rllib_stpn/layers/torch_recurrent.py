"""The recurrent layers that torch itself has, in the form all layers here have."""

from typing import ClassVar

import torch

from rllib_stpn.errors import one_of
from rllib_stpn.kernels import energy as synaptic_energy
from rllib_stpn.layers.layer import Layer, reset, uniform

BIASES = ("double", "single")


class TorchRecurrent(Layer):
    """Base of RNN, LSTM and GRU: a number of gates, the names of the state, and torch's function.

    Parameters: ``weight_ih`` ``[gates·H, I]``, ``weight_hh`` ``[gates·H, H]``, ``bias_ih`` ``[gates·H]`` and, with two
    bias vectors, ``bias_hh`` ``[gates·H]``, all drawn from U(±1/sqrt(H)) as torch does. Energy: one value per gate row.

    Args:
        input_size: Features per step.
        hidden_size: Units.
        bias: "double" has torch's two bias vectors, "single" only one, as some published baselines.

    Raises:
        UsageError: An option outside what is listed here.
    """

    gates: ClassVar[int]
    keys: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, input_size: int, hidden_size: int, *, bias: str = "double"):
        super().__init__(input_size, hidden_size)
        if bias not in BIASES:
            raise one_of(f"{self.name}: bias", bias, BIASES)
        self.bias = bias
        rows, k = self.gates * hidden_size, hidden_size**-0.5
        self.weight_ih = uniform(k, rows, input_size)
        self.weight_hh = uniform(k, rows, hidden_size)
        self.bias_ih = uniform(k, rows)
        if bias == "double":
            self.bias_hh = uniform(k, rows)

    def state_shapes(self):
        """Each ``[H]``."""
        return dict.fromkeys(self.keys, (self.hidden_size,))

    def sequence(
        self, inputs: torch.Tensor, start: tuple[torch.Tensor, ...], parameters: list[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Torch's function without resets: start states ``[1, B, H]`` to outputs ``[B, T, H]``, then end states."""
        raise NotImplementedError

    def cell(
        self, x: torch.Tensor, start: tuple[torch.Tensor, ...], parameters: list[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Torch's function for a single step: input ``[B, I]`` and states ``[B, H]`` to the next states."""
        raise NotImplementedError

    def run(self, inputs, state, is_first, return_energy):
        """The sequence, by one call of torch's function per stretch without resets."""
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
            start = tuple(state[key][None].contiguous() for key in self.keys)
            output, *ends = self.sequence(inputs[:, begin:end], start, parameters)
            if return_energy:
                previous += [state["h"][:, None], output[:, :-1]][: end - begin]
            outputs.append(output)
            state = {key: leaf[0] for key, leaf in zip(self.keys, ends, strict=True)}
        energy = None
        if return_energy:
            h = _joined(previous)  # [B, T, H], each step's h before the step
            energy = synaptic_energy(self.weight_ih, inputs, self.weight_hh, h)
        return _joined(outputs), state, energy

    def energy_without(self, inputs, state, columns=None):
        """As in ``Layer``, without the step itself: its energy depends on inputs and h alone."""
        if state is None:
            state = self.initial_state(inputs.shape[0])
        silent = inputs.clone()
        silent[..., slice(None) if columns is None else list(columns)] = 0
        return synaptic_energy(self.weight_ih, silent, self.weight_hh, state["h"][:, None])


def _joined(stretches: list[torch.Tensor]) -> torch.Tensor:
    """One after the other along time."""
    return torch.cat(stretches, 1) if len(stretches) > 1 else stretches[0]
