"""The feed-forward network with Hebbian plasticity."""

import math

import torch

from rllib_stpn.kernels.availability import can_run_fused
from rllib_stpn.kernels.hebbff import CHUNK, hebbff, hebbff_step
from rllib_stpn.kernels.recomputed import run_in_chunks
from rllib_stpn.kernels.synaptic_energy import synaptic_energy
from rllib_stpn.layers.layer import Layer, linear


class HebbFF(Layer):
    """HebbFF: a feed-forward layer that remembers its inputs in anti-Hebbian weights.

    Tyulmankov, Yang, Abbott, "Meta-learning synaptic plasticity and memory addressing for continual familiarity
    detection" (Neuron 2022), the hidden layer of its equations::

        h = sigmoid((W + A) x + b)
        A = λ A + η h xᵀ

    >>> outputs, state = HebbFF(37, 26)(torch.zeros(2, 9, 37))
    >>> outputs.shape, {key: leaf.shape for key, leaf in state.items()}
    (torch.Size([2, 9, 26]), {'A': torch.Size([2, 26, 37])})

    Parameters: ``weight`` ``[H, I]``, ``bias`` ``[H]``, ``lambda_logit`` ``[1]`` with ``λ = sigmoid(lambda_logit)``,
    0.99 at the start, and ``log_eta`` ``[1]`` with ``η = -exp(log_eta)``, -5/I at the start as in the original; weight
    and bias start in U(±1/sqrt(I)). State: ``A`` ``[B, H, I]``. Energy: one value per unit.

    Args:
        input_size: Features per step.
        hidden_size: Units.
    """

    name = "hebbff"
    graph_tensors = 2

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.weight, self.bias = linear(input_size, hidden_size)
        self.lambda_logit = torch.nn.Parameter(torch.tensor([math.log(0.99 / 0.01)]))
        self.log_eta = torch.nn.Parameter(torch.tensor([math.log(5 / input_size)]))

    def state_shapes(self):
        """``A`` ``[H, I]``."""
        return {"A": (self.hidden_size, self.input_size)}

    def drive(self, inputs):
        """``W x + b``."""
        return torch.nn.functional.linear(inputs, self.weight, self.bias)

    def run(self, inputs, state, is_first, return_energy):
        """The fused form where no energy is asked for and the tensors allow it, else ``run_steps``."""
        leaves: tuple[torch.Tensor, ...] = () if state is None else (state["A"],)
        if return_energy or not can_run_fused(inputs, *leaves, self.weight):
            return self.run_steps(inputs, state, is_first, return_energy)
        if not leaves and inputs.shape[1] > CHUNK:
            leaves = tuple(self.initial_state(len(inputs)).values())
        outputs, _, (A,) = run_in_chunks(self._fused, (inputs,), is_first, False, leaves, self, 2 / CHUNK)
        return outputs, {"A": A}, None

    def _fused(self, is_first, measure, inputs, A=None):
        keep, rate = self._rates()
        outputs, A = hebbff(inputs, self.weight, self.bias, A, keep, rate, is_first)
        return outputs, None, A

    def _rates(self):
        return torch.sigmoid(self.lambda_logit), -torch.exp(self.log_eta)

    def step(self, x, drive, state, return_energy):
        """The two equations."""
        energy = synaptic_energy(self.weight + state["A"], x) if return_energy else None
        h, A = hebbff_step(x, drive, state["A"], *self._rates())
        return h, {"A": A}, energy
