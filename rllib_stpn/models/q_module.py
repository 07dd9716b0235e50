"""The RLModule of DQN with memory."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.core.columns import Columns


class MemoryQModule(DefaultDQNTorchRLModule):
    """RLlib's module of DQN, which explores with memory in any number of environments.

    RLlib's draws random actions without the axis of time, so that those of several environments with state get mixed
    up. With ``LayerQCatalog`` its encoder is one of our layers; without, what RLlib's own catalog makes of the model
    config, such as its LSTM.
    """

    def _forward_exploration(self, batch: dict[str, Any], t: int) -> dict[str, Any]:
        """Actions ``[B, ...]``, of which a share of epsilon is drawn at random."""
        outputs = self._forward_inference(batch)
        self.epsilon_schedule.update(t)
        greedy = outputs[Columns.ACTIONS]
        is_random = torch.rand(greedy.shape, device=greedy.device) < self.epsilon_schedule.get_current_value()
        outputs[Columns.ACTIONS] = torch.where(is_random, torch.randint_like(greedy, self.action_space.n), greedy)
        return outputs
