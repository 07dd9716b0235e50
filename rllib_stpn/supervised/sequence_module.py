"""A layer with an encoder in front of it and a read-out behind it."""

from typing import Any

import numpy as np
import torch

from rllib_stpn.layers import Layer
from rllib_stpn.layers.layer import State


class SequenceModule(torch.nn.Module):
    """Encoder, layer and read-out.

    ::

        logits, state = module(inputs, state)
        logits, state, energy = module(inputs, state, return_energy=True)

    ``inputs`` are a task's, ``[B, T]`` or ``[B, T, I]``; ``state`` and ``energy`` are the layer's own
    (:class:`rllib_stpn.layers.Layer`): encoder and read-out are not counted in the energy.

    Args:
        encoder: From the task's inputs to the layer's, ``[B, T, I]``.
        layer: The layer.
        readout: From the layer's outputs ``[B, T, H]`` to logits.
    """

    def __init__(self, encoder: torch.nn.Module, layer: Layer, readout: torch.nn.Module):
        super().__init__()
        self.encoder = encoder
        self.layer = layer
        self.readout = readout

    def forward(self, inputs: torch.Tensor, state: State | None = None, return_energy: bool = False) -> tuple[Any, ...]:
        """Runs the sequence."""
        outputs, *rest = self.layer(self.encoder(inputs), state, return_energy=return_energy)
        return self.readout(outputs), *rest


class OneHot(torch.nn.Module):
    """Token ids ``[B, T]`` to one-hot vectors ``[B, T, size]``, on the CPU."""

    def __init__(self, size: int):
        super().__init__()
        self._vectors = np.eye(size, dtype=np.float32)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Looks the vectors up, by numpy: torch would wake its other threads for it, which then spin for a while."""
        return torch.from_numpy(self._vectors[tokens.numpy()])


class Float(torch.nn.Module):
    """Inputs of any type as float32."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Converts."""
        return inputs.float()


class LastStep(torch.nn.Linear):
    """A linear read-out of the last step: ``[B, T, H]`` to ``[B, outputs]``."""

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        """The logits of the last step."""
        return super().forward(outputs[:, -1])


class EveryStep(torch.nn.Linear):
    """A linear read-out of one logit at every step: ``[B, T, H]`` to ``[B, T]``."""

    def __init__(self, hidden_size: int):
        super().__init__(hidden_size, 1)

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        """The logits of all steps."""
        return super().forward(outputs).squeeze(-1)


class MeanUnit(torch.nn.Module):
    """One logit at every step from the mean over units, with a learned scale and bias: ``[B, T, H]`` to ``[B, T]``.

    The read-out of Tyulmankov, Yang, Abbott (Neuron 2022) whose weights are all the same, but for a factor H in the
    scale. It starts at ``10 (1/2 - mean)``: units of HebbFF are less active when they have seen the input before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(-10.0))
        self.bias = torch.nn.Parameter(torch.tensor(5.0))

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        """The logits of all steps."""
        return self.scale * outputs.mean(-1) + self.bias
