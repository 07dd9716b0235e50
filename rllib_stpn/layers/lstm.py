"""Long short-term memory."""

import torch

from rllib_stpn.layers.torch_recurrent import TorchRecurrent


class LSTM(TorchRecurrent):
    """Long short-term memory (Hochreiter & Schmidhuber, 1997), torch's own, with the interface of the layers here.

    ::

        i, f, g, o = Wx x + Wh h + b              a quarter of the rows each
        c = sigmoid(f) ⊙ c + sigmoid(i) ⊙ tanh(g)
        h = sigmoid(o) ⊙ tanh(c)

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
    gates = 4
    keys = ("h", "c")

    def sequence(self, inputs, start, parameters):
        """``torch.lstm``."""
        return torch.lstm(inputs, start, parameters, True, 1, 0.0, self.training, False, True)

    def cell(self, x, start, parameters):
        """``torch.lstm_cell``."""
        return torch.lstm_cell(x, start, *parameters)
