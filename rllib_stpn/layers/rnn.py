"""The plain recurrent network."""

import torch

from rllib_stpn.layers.torch_recurrent import TorchRecurrent


class RNN(TorchRecurrent):
    """Recurrent network of tanh units (Elman, 1990), torch's own, with the interface of the layers here.

    ::

        h = tanh(Wx x + Wh h + b)

    >>> outputs, state = RNN(17, 100, bias="single")(torch.zeros(2, 9, 17))
    >>> outputs.shape, sorted(state)
    (torch.Size([2, 9, 100]), ['h'])

    Parameters: ``weight_ih`` ``[H, I]``, ``weight_hh`` ``[H, H]``, ``bias_ih`` ``[H]`` and, with two bias vectors,
    ``bias_hh`` ``[H]``, all drawn from U(±1/sqrt(H)) as torch does. State: ``h`` ``[B, H]``. Energy: one value per
    unit.

    Args:
        input_size: Features per step.
        hidden_size: Units.
        bias: "double" has torch's two bias vectors, "single" only one, as some published baselines.

    Raises:
        UsageError: An option outside what is listed here.
    """

    name = "rnn"
    gates = 1

    def sequence(self, inputs, start, parameters):
        """``torch.rnn_tanh``."""
        return torch.rnn_tanh(inputs, start[0], parameters, True, 1, 0.0, self.training, False, True)

    def cell(self, x, start, parameters):
        """``torch.rnn_tanh_cell``."""
        return (torch.rnn_tanh_cell(x, start[0], *parameters),)
