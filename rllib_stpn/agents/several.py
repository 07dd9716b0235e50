"""Several agents that were trained in one environment: played together, or one policy taken out of them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.connectors.common.flatten_observations import FlattenObservations
from ray.rllib.connectors.env_to_module import AgentToModuleMapping, EnvToModulePipeline
from ray.rllib.connectors.module_to_env import (
    ModuleToAgentUnmapping,
    ModuleToEnvPipeline,
    NormalizeAndClipActions,
)
from ray.rllib.core.columns import Columns
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode

from rllib_stpn.agents.checkpoints import Checkpoint
from rllib_stpn.agents.environments import make_env
from rllib_stpn.errors import UsageError
from rllib_stpn.rollouts.connectors import of_the_runner
from rllib_stpn.rollouts.failure import telling


class SeveralAgents:
    """All policies of a checkpoint, as RLlib's env runner plays them.

    Attributes:
        env_id: The environment as the training's config named it.
        env_config: Its arguments.
        algorithm: Name of the algorithm, e.g. ``"PPO"``.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.algorithm = checkpoint.algorithm
        self.env_id = checkpoint.config.env
        self.env_config = dict(checkpoint.config.env_config)
        self._checkpoint = checkpoint
        for connector in checkpoint.env_to_module.connectors:
            if hasattr(connector, "_update_stats"):
                connector._update_stats = False

    def make_env(self) -> Any:
        """Makes one of RLlib's ``MultiAgentEnv``, that which they were trained in.

        Raises:
            UsageError: It is not known in this process, or cannot be made.
        """
        return make_env(self.env_id, self.env_config)

    @torch.no_grad()
    def play(self, env: Any, seed: int, explore: bool) -> tuple[dict[Hashable, float], int]:
        """Plays an episode.

        Args:
            env: What ``make_env`` returns.
            seed: That of its reset.
            explore: Whether actions are sampled, by torch's global generator; otherwise they are greedy.

        Returns:
            The sum of each agent's rewards, and the steps of the environment.

        Raises:
            RolloutError: What the environment raised.
        """
        module: Any = self._checkpoint.module
        observations_of, actions_of = spaces_of(self._checkpoint)
        forward = module.forward_exploration if explore else module.forward_inference
        arguments = {"t": self._checkpoint.env_steps} if explore else {}
        episode = MultiAgentEpisode(
            id_=f"episode of seed {seed}",  # a mapping to policies may go by it
            observation_space=observations_of,
            action_space=actions_of,
            agent_to_module_mapping_fn=self._checkpoint.config.policy_mapping_fn,
        )
        with telling(f"the environment of seed {seed}, as it was reset"):
            observations, infos = env.reset(seed=seed)
        episode.add_env_reset(observations=observations, infos=infos)
        returns: dict[Hashable, float] = dict.fromkeys(observations, 0.0)
        while not episode.is_done:
            shared: dict[str, Any] = {}
            common = {"rl_module": module, "episodes": [episode], "explore": explore, "shared_data": shared}
            batch = self._checkpoint.env_to_module(batch={}, **common)
            chosen = self._checkpoint.module_to_env(batch=forward(batch, **arguments), **common) if batch else {}
            (actions,) = chosen.pop(Columns.ACTIONS, [{}])
            (for_env,) = chosen.pop(Columns.ACTIONS_FOR_ENV, [actions])
            outputs: dict[Hashable, dict[str, Any]] = {agent: {} for agent in actions}
            for column, (values,) in chosen.items():
                for agent, value in values.items():
                    outputs[agent][column] = value
            with telling(f"the environment of seed {seed}, at step {episode.env_steps() + 1} of its episode"):
                observations, rewards, terminated, truncated, infos = env.step(for_env)
            for agent, reward in rewards.items():
                returns[agent] = returns.get(agent, 0.0) + float(reward)
            episode.add_env_step(
                observations, actions, rewards, infos, terminateds=terminated, truncateds=truncated,
                extra_model_outputs=outputs,
            )  # fmt: skip
        return returns, episode.env_steps()


def spaces_of(checkpoint: Checkpoint) -> tuple[dict[Any, gym.Space], dict[Any, gym.Space]]:
    """The observation space and the action space of each agent."""
    observations, actions = checkpoint.observation_space, checkpoint.action_space
    assert isinstance(observations, gym.spaces.Dict) and isinstance(actions, gym.spaces.Dict)
    return dict(observations.spaces), dict(actions.spaces)


def of_policy(checkpoint: Checkpoint, policy: Hashable | None) -> Checkpoint:
    """One policy of a checkpoint of several agents, for observations of one of its agents.

    Args:
        checkpoint: Whose module is a ``MultiRLModule``.
        policy: Its name; None for the only one.

    Raises:
        UsageError: There is no such policy, its agents differ in their spaces, or a connector needs the episodes of all
            agents.
    """
    where, policies = f"checkpoint {checkpoint.path}: policy", sorted(checkpoint.module.keys(), key=str)
    if policy is None and len(policies) == 1:
        (policy,) = policies
    if policy not in policies:
        told = ", ".join(map(repr, policies))
        raise UsageError(f"{where}: got {policy!r}, allowed is one of {told}; rllib_stpn.evaluate plays all of them")
    observations_of, actions_of = spaces_of(checkpoint)
    mapping, agents = checkpoint.config.policy_mapping_fn, list(observations_of)
    own = [agent for agent in agents if mapping(agent, MultiAgentEpisode()) == policy] or agents
    spaces = [(observations_of[agent], actions_of[agent]) for agent in own]
    observation_space, action_space = spaces[0]
    if any(each != spaces[0] for each in spaces):
        told = ", ".join(map(repr, own))
        raise UsageError(
            f"{where} {policy!r}: its agents {told} differ in their spaces; rllib_stpn.evaluate plays them"
        )
    pieces = [_of_one(where, each, own[0]) for each in checkpoint.env_to_module.connectors]
    to_env = [_of_one(where, each, own[0]) for each in checkpoint.module_to_env.connectors]
    return checkpoint._replace(
        module=checkpoint.module[policy],
        observation_space=observation_space,
        action_space=action_space,
        env_to_module=EnvToModulePipeline(observation_space, action_space, connectors=[p for p in pieces if p]),
        module_to_env=ModuleToEnvPipeline(observation_space, action_space, connectors=[p for p in to_env if p]),
    )


def _of_one(where: str, connector: Any, agent: Hashable) -> Any:
    """What a connector of several agents does for one of them, as a connector; None for nothing."""
    if of_the_runner(connector) or isinstance(connector, AgentToModuleMapping | ModuleToAgentUnmapping):
        return None
    if hasattr(connector, "batched"):
        return connector
    if type(connector) is FlattenObservations:
        return None if connector._agent_ids and agent not in connector._agent_ids else FlattenObservations()
    if type(connector) is NormalizeAndClipActions:
        return NormalizeAndClipActions(
            normalize_actions=connector.normalize_actions, clip_actions=connector.clip_actions
        )
    raise UsageError(
        f"{where}: got the connector {type(connector).__name__}, which needs the episodes of all agents, allowed are "
        "FlattenObservations and connectors with a method `batched(array)`; rllib_stpn.evaluate plays all agents"
    )
