"""Gated recurrent units."""

import torch

from rllib_stpn.layers.torch_recurrent import TorchRecurrent


class GRU(TorchRecurrent):
    """Gated recurrent units (Cho et al., 2014), torch's own, with the interface of the layers here.

    ::

        r, z = sigmoid(Wx x + bx + Wh h + bh)     two thirds of the rows
        n = tanh(Wx x + bx + r ⊙ (Wh h + bh))     the last third
        h = (1 - z) ⊙ n + z ⊙ h

    >>> outputs, state = GRU(17, 53)(torch.zeros(2, 9, 17))
    >>> outputs.shape, sorted(state)
    (torch.Size([2, 9, 53]), ['h'])

    Parameters: ``weight_ih`` ``[3H, I]``, ``weight_hh`` ``[3H, H]``, ``bias_ih`` ``[3H]`` and, with two bias vectors,
    ``bias_hh`` ``[3H]``; gate rows in torch's order (reset, update, new), all drawn from U(±1/sqrt(H)) as torch does.
    State: ``h`` ``[B, H]``. Energy: one value per gate row, ``3H``.

    Args:
        input_size: Features per step.
        hidden_size: Units.
        bias: "double" has torch's two bias vectors, "single" only the first, ``bx``.

    Raises:
        UsageError: An option outside what is listed here.
    """

    name = "gru"
    gates = 3

    def sequence(self, inputs, start, parameters):
        """``torch.gru``."""
        return torch.gru(inputs, start[0], parameters, True, 1, 0.0, self.training, False, True)

    def cell(self, x, start, parameters):
        """``torch.gru_cell``."""
        return (torch.gru_cell(x, start[0], *parameters),)
