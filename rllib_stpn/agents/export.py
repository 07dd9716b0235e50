"""A trained policy as one step with its state in and out: for ``torch.export``, and through it for ONNX."""

from __future__ import annotations

from typing import Any

import torch
import tree
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ACTOR, ENCODER_OUT

from rllib_stpn.agents.agent import Agent
from rllib_stpn.errors import UsageError
from rllib_stpn.models.module import MemoryRLModule


class PolicyStep(torch.nn.Module):
    """One step of an agent's policy, in plain torch.

    ::

        step = PolicyStep(rllib_stpn.load("maze_stpn"))
        logits, state = step(observations, is_first, step.initial_state(8))
        program = torch.export.export(step, step.example(batch_size=8))

    Observations are what the module sees, behind the agent's connectors: of the maze what the environment shows. Of an
    observation filter, and of parts that are flattened, the caller takes care. What comes out is the input of the
    action distribution: logits of discrete actions, whose largest is the greedy one, or means, then log deviations.

    Args:
        agent: As :func:`rllib_stpn.load` returns it, with a module of this package.

    Raises:
        UsageError: A module of RLlib's own, or one whose class overrides how it acts.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        if not isinstance(agent.module, MemoryRLModule):
            raise UsageError(f"export: got {type(agent.module).__name__}, allowed are modules of this package")
        if own := agent.module.overridden("forward_inference", "_forward_inference", "_forward"):
            raise UsageError(
                f"export: got {type(agent.module).__name__} with its own {own}, which would be left out; allowed are "
                "modules that act as MemoryRLModule does"
            )
        self._encoder, self._pi = agent.module.encoder, agent.module.pi
        self._start = agent.module.get_initial_state() or {}
        self._space = agent.module.observation_space

    def initial_state(self, batch_size: int) -> dict[str, Any]:
        """Zeros, ``[batch_size, ...]``."""
        return tree.map_structure(lambda leaf: leaf.expand(batch_size, *leaf.shape).clone(), self._start)

    def example(self, batch_size: int = 1) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Arguments of a call, for ``torch.export.export``."""
        observations = torch.zeros(batch_size, *self._space.shape, dtype=torch.as_tensor(self._space.sample()).dtype)
        return observations, torch.ones(batch_size, dtype=torch.bool), self.initial_state(batch_size)

    def forward(
        self, observations: torch.Tensor, is_first: torch.Tensor, state: dict[str, Any]
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """One step.

        Args:
            observations: ``[B, ...]``.
            is_first: ``[B]`` bool, True where an episode begins: the state is set to zero there.
            state: As the step before returned it.

        Returns:
            Inputs of the action distribution ``[B, K]``, and the next state.
        """
        begun = tree.map_structure(
            lambda leaf: torch.where(is_first.view(-1, *[1] * (leaf.dim() - 1)), torch.zeros_like(leaf), leaf), state
        )
        encoded = self._encoder({Columns.OBS: observations[:, None], Columns.STATE_IN: begun})
        return self._pi(encoded[ENCODER_OUT][ACTOR])[:, 0], encoded.get(Columns.STATE_OUT, {})
