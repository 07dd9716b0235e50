"""The RLModule that RLlib trains."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.appo.torch.default_appo_torch_rl_module import DefaultAPPOTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ACTOR, CRITIC, ENCODER_OUT

from rllib_stpn.models.catalog import ActorCriticCatalog


class MemoryRLModule(DefaultAPPOTorchRLModule):
    """RLlib's actor-critic module, which env runners can ask for values too. For PPO, A2C, IMPALA and APPO.

    With ``LayerCatalog`` its encoder is one of our layers; without, what RLlib's own catalog makes of the model config.
    """

    def __init__(self, *args: Any, catalog_class: type[ActorCriticCatalog] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, catalog_class=catalog_class or ActorCriticCatalog, **kwargs)

    @classmethod
    def overridden(cls, *names: str) -> str | None:
        """The first of these methods of which a subclass has its own form; None where all are those of here."""
        return next((name for name in names if getattr(cls, name) is not getattr(MemoryRLModule, name)), None)

    def get_non_inference_attributes(self) -> list[str]:
        """APPO's target networks, where it made them; not the value function, which env runners get, too.

        RLlib leaves it out of the weights it sends to them. They would then record values of the first, random one,
        and, with a recurrent critic of its own, that critic's states.
        """
        return [name for name in ("_old_encoder", "_old_pi") if hasattr(self, name)]

    def forward_rollout(self, batch: dict[str, Any], overwrite_state: bool = False) -> dict[str, Any]:
        """One pass of the encoder for the action, the value and the next state.

        RLlib's own exploration pass leaves the value out, which would cost the encoder a second pass.

        Args:
            batch: ``obs`` ``[B, T, ...]`` (``[B, ...]`` without state) and, with state, ``state_in`` ``[B, ...]``.
            overwrite_state: Whether ``state_in`` may be written over, which spares memory traffic.

        Returns:
            ``action_dist_inputs`` and ``vf_preds``, with the leading axes of ``obs``, and ``state_out``.
        """
        encoded = self.encoder(batch, overwrite_state=overwrite_state)
        outputs = {
            Columns.ACTION_DIST_INPUTS: self.pi(encoded[ENCODER_OUT][ACTOR]),
            Columns.VF_PREDS: self.vf(encoded[ENCODER_OUT][CRITIC]).squeeze(-1),
        }
        if Columns.STATE_OUT in encoded:
            outputs[Columns.STATE_OUT] = encoded[Columns.STATE_OUT]
        return outputs

    def compute_values(self, batch: dict[str, Any], embeddings: torch.Tensor | None = None) -> torch.Tensor:
        """Values ``[B, T]``; without ``embeddings`` no graph is built.

        RLlib's advantage connector calls this with gradients on and throws the graph away. The loss always has
        the embeddings of ``forward_train`` at hand.
        """
        if embeddings is not None:
            return super().compute_values(batch, embeddings)
        with torch.no_grad():
            return super().compute_values(batch)
