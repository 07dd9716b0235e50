"""The control without memory."""

import torch

from rllib_stpn.kernels.synaptic_energy import synaptic_energy
from rllib_stpn.layers.layer import Layer, uniform


class MLP(Layer):
    """``tanh(W x + b)`` at every step, without memory: what a task is worth to an agent that remembers nothing.

    >>> outputs, state = MLP(4, 64)(torch.zeros(2, 9, 4))
    >>> outputs.shape, state
    (torch.Size([2, 9, 64]), {})

    Parameters: ``weight`` ``[H, I]`` and ``bias`` ``[H]``, from U(±1/sqrt(I)) as in ``torch.nn.Linear``. State: none.
    Energy: one value per unit.

    Args:
        input_size: Features per step.
        hidden_size: Units.
    """

    name = "mlp"

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        k = input_size**-0.5
        self.weight = uniform(k, hidden_size, input_size)
        self.bias = uniform(k, hidden_size)

    def state_shapes(self):
        """Nothing."""
        return {}

    def run(self, inputs, state, is_first, return_energy):
        """The sequence, all steps at once."""
        outputs = torch.tanh(torch.nn.functional.linear(inputs, self.weight, self.bias))
        return outputs, {}, synaptic_energy(self.weight, inputs) if return_energy else None
