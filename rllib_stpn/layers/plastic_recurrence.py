"""What the recurrent networks with differentiable plasticity share."""

import abc
from typing import ClassVar

import torch

from rllib_stpn.kernels.batched import matvec
from rllib_stpn.kernels.plastic import Plasticity
from rllib_stpn.kernels.synaptic_energy import synaptic_energy
from rllib_stpn.layers.layer import State, linear
from rllib_stpn.layers.plastic_layer import PlasticLayer


class PlasticRecurrence(PlasticLayer):
    """Base of the plastic RNNs: recurrent weights with a plastic part that a rule of the subclass changes.

    ::

        h = tanh(Wx x + b + (Wh + α ⊙ P) h)          P: the leaf of the state that ``plastic`` names, "Hebb"
        P, ... = update(...)

    A rule of your own is a subclass with one method, ``update`` (docs/your_layer.md); one with more than one matrix
    also defines ``state_shapes``.

    Parameters: ``weight_x`` ``[H, I]`` and ``bias`` ``[H]`` from U(±1/sqrt(I)); ``weight_h`` and
    ``weight_alpha`` ``[H, H]``, one row per postsynaptic unit, from U(0, 0.01). State: ``h`` ``[B, H]`` and matrices
    ``[B, H, H]``. Energy: one value per unit, ``|Wx| x² + |Wh + α ⊙ P| h²``."""

    plastic: ClassVar[str] = "Hebb"
    graph_tensors = 4

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.weight_x, self.bias = linear(input_size, hidden_size)
        self.weight_h = torch.nn.Parameter(0.01 * torch.rand(hidden_size, hidden_size))
        self.weight_alpha = torch.nn.Parameter(0.01 * torch.rand(hidden_size, hidden_size))

    def state_shapes(self):
        """``h`` ``[H]`` and ``Hebb`` ``[H, H]``."""
        return {"h": (self.hidden_size,), self.plastic: (self.hidden_size, self.hidden_size)}

    def _plasticity(self, rule, **options):
        return Plasticity(rule, self.weight_x, self.bias, self.weight_h, self.weight_alpha, **options)

    def drive(self, inputs):
        """``Wx x + b``."""
        return torch.nn.functional.linear(inputs, self.weight_x, self.bias)

    def step(self, x, drive, state, return_energy):
        """The new h, then the rule."""
        h = state["h"]
        G = torch.addcmul(self.weight_h, self.weight_alpha, state[self.plastic])  # [B, H, H]
        output = torch.tanh(drive + matvec(G, h))
        energy = synaptic_energy(self.weight_x, x) + synaptic_energy(G, h) if return_energy else None
        return output, {"h": output, **self.update(state, output)}, energy

    @abc.abstractmethod
    def update(self, state: State, output: torch.Tensor) -> State:
        """The rule: the state's matrices, by name, after a step from ``state`` to ``output`` ``[B, H]``."""
        raise NotImplementedError
