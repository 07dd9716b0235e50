"""PPO's loss in few operations."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.ppo.ppo import (
    LEARNER_RESULTS_KL_KEY,
    LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY,
    LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY,
)
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.torch_utils import explained_variance

from rllib_stpn.learners.lean import LeanLearner, masked_mean
from rllib_stpn.models.lean_distributions import lean_distribution


class LeanPPOTorchLearner(LeanLearner, PPOTorchLearner):
    """RLlib's PPO learner with the update of ``LeanLearner``: the same loss, settings and metrics."""

    def loss_and_metrics(self, *, module_id, config, batch, fwd_out, measure) -> tuple[torch.Tensor, dict[str, Any]]:
        """PPO's clipped surrogate, value loss, entropy bonus and, with ``use_kl_loss``, KL penalty."""
        module = self.module[module_id].unwrapped()
        mean = masked_mean(batch)
        advantages = batch[Postprocessing.ADVANTAGES]
        now = lean_distribution(module.get_train_action_dist_cls())(fwd_out[Columns.ACTION_DIST_INPUTS])
        entropy = now.entropy()
        ratio = (now.logp(batch[Columns.ACTIONS]) - batch[Columns.ACTION_LOGP]).exp()
        clipped_ratio = ratio.clamp(1 - config.clip_param, 1 + config.clip_param)
        surrogate = torch.min(advantages * ratio, advantages * clipped_ratio)
        per_step = -surrogate - self.entropy_coeff_schedulers_per_module[module_id].get_current_value() * entropy
        if config.use_critic:
            values = module.compute_values(batch, embeddings=fwd_out.get(Columns.EMBEDDINGS))
            squared_error = (values - batch[Postprocessing.VALUE_TARGETS]).square()
            clipped_error = squared_error.clamp(max=config.vf_clip_param)
            per_step = per_step + config.vf_loss_coeff * clipped_error
        loss = mean(per_step)
        if config.use_kl_loss:
            before = lean_distribution(module.get_exploration_action_dist_cls())(batch[Columns.ACTION_DIST_INPUTS])
            kl = mean(before.kl(now))
            loss = loss + self.curr_kl_coeffs_per_module[module_id] * kl
        if not measure:
            return loss, {}
        zero = torch.zeros((), device=loss.device)
        with torch.no_grad():
            return loss, {
                POLICY_LOSS_KEY: -mean(surrogate),
                VF_LOSS_KEY: mean(clipped_error) if config.use_critic else zero,
                LEARNER_RESULTS_VF_LOSS_UNCLIPPED_KEY: mean(squared_error) if config.use_critic else zero,
                LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY: explained_variance(
                    batch[Postprocessing.VALUE_TARGETS], values if config.use_critic else zero
                ),
                ENTROPY_KEY: mean(entropy),
                LEARNER_RESULTS_KL_KEY: kl.detach() if config.use_kl_loss else zero,
            }
