"""The layers that the loops of ``kernels.plastic`` can run."""

import torch

from rllib_stpn.kernels.availability import can_run_fused
from rllib_stpn.kernels.plastic import Plasticity, plastic
from rllib_stpn.layers.layer import Layer


class PlasticLayer(Layer):
    """Base of the recurrent layers with plastic matrices: compiled loops where they can run, else ``step``.

    State: ``h`` ``[B, H]``, the last outputs, then one or two matrices ``[B, H, H]``.
    """

    def plasticity(self) -> Plasticity | None:
        """What ``step`` does in the terms of the compiled loops, None where they cannot do it."""
        return None

    def run(self, inputs, state, is_first, return_energy):
        """The sequence, by the compiled loops where ``plasticity`` and the tensors allow it, else step by step."""
        plasticity = self.plasticity()
        leaves: dict[str, torch.Tensor | None] = dict.fromkeys(self.state_shapes()) | (state or {})
        if plasticity is None or not can_run_fused(inputs, *leaves.values(), plasticity.weight):
            return self.run_steps(inputs, state, is_first, return_energy)
        h = leaves.pop("h")
        outputs, matrices, energy = plastic(plasticity, inputs, h, list(leaves.values()), is_first, return_energy)
        h = outputs.select(1, -1).clone()  # Who changes the outputs in place does not change the state.
        return outputs, {"h": h, **dict(zip(leaves, matrices, strict=True))}, energy
