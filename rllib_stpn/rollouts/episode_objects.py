"""RLlib's episode objects beside batched sampling, for callbacks that ask for them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tree
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from ray.rllib.utils.spaces.space_utils import unbatch

from rllib_stpn.rollouts.copies import copied
from rllib_stpn.rollouts.episode_runner import EpisodeEnvRunner

_EPISODE_CALLBACKS = ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end")


class Step(NamedTuple):
    """One step of B environments, as arrays ``[B, ...]``.

    Attributes:
        outputs: What the module gave, by column.
        actions: The module's actions.
        rewards: As the environments returned them.
        terminated: Likewise.
        truncated: Likewise.
        valid: bool, which environments did more than reset.
        ended: ``[ended]``, the indices of those whose episode ended.
        observations: Those after the step, and after resets, as the module sees them.
        final_observations: The last ones of the episodes that ended, ``[ended, ...]``; None where they are among
            ``observations``.
        begins: bool, whose observation begins an episode.
        infos: gymnasium's, of the step.
        final_infos: Those of the episodes that ended.
        reset_infos: Those of the episodes that begin.
    """

    outputs: dict[str, Any]
    actions: Any
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray
    ended: np.ndarray
    observations: Any
    final_observations: Any
    begins: np.ndarray
    infos: Any
    final_infos: Any
    reset_infos: Any


class KeepsEpisodes(EpisodeEnvRunner):
    """An env runner on arrays that keeps a ``SingleAgentEpisode`` of each environment, if a callback asks for them.

    Keeping these costs time per environment and step.
    """

    def _construct(self, *, config, **kwargs) -> None:
        super()._construct(config=config, **kwargs)
        self._keeps_episodes = any(getattr(self.config, f"callbacks_{which}") for which in _EPISODE_CALLBACKS) or any(
            getattr(type(callbacks), which) is not getattr(RLlibCallback, which)
            for callbacks in self._callbacks
            for which in _EPISODE_CALLBACKS
            if not hasattr(callbacks, "on_vector_step")
        )

    def _begin_all_episodes(self, observations: Any, infos: Any) -> None:
        self._ongoing_episodes_for_metrics.clear()
        for index in range(self.num_envs):
            self._new_episode(index)
            self._begin_episode(index, observations, infos)

    def _begin_episode(self, index: int, observations: Any, infos: Any) -> None:
        self._ongoing_episodes[index].add_env_reset(
            observation=_row(observations, index), infos=info_of(infos, index)
        )
        self._make_on_episode_callback("on_episode_start", index, self._ongoing_episodes)

    def _new_episode(self, env_index, episodes=None):
        episodes = self._ongoing_episodes if episodes is None else episodes
        episodes[env_index] = SingleAgentEpisode(
            observation_space=self._env_to_module.observation_space, action_space=self.env.single_action_space
        )
        self._make_on_episode_callback("on_episode_created", env_index, episodes)

    def _add_to_episodes(self, step: Step) -> None:
        actions = unbatch(step.actions)
        place = {int(index): place for place, index in enumerate(step.ended)}  # among the episodes that ended
        for index in range(self.num_envs):
            ends = index in place
            if step.valid[index]:
                observation = _row(step.observations, index)
                if ends and step.final_observations is not None:
                    observation = _row(step.final_observations, place[index])
                self._ongoing_episodes[index].add_env_step(
                    observation=observation,
                    action=actions[index],
                    reward=float(step.rewards[index]),
                    infos=info_of(step.final_infos if ends else step.infos, index),
                    terminated=bool(step.terminated[index]),
                    truncated=bool(step.truncated[index]),
                    extra_model_outputs={**_row(step.outputs, index), WEIGHTS_SEQ_NO: self._weights_seq_no},
                )
                self._make_on_episode_callback("on_episode_step", index, self._ongoing_episodes)
            if ends:
                self._make_on_episode_callback("on_episode_end", index, self._ongoing_episodes)
                self._ongoing_episodes_for_metrics.pop(self._ongoing_episodes[index].id_, None)
                self._new_episode(index)
            if step.begins[index]:
                self._begin_episode(index, step.observations, step.reset_infos)

    def _cut_episodes(self) -> None:
        """At the end of a fragment, so that an episode of many fragments does not grow without end."""
        for index, episode in enumerate(self._ongoing_episodes):
            if episode.is_reset and len(episode):
                self._ongoing_episodes[index] = episode.cut(len_lookback_buffer=self.config.episode_lookback_horizon)
                self._ongoing_episodes_for_metrics[episode.id_].append(episode)


def info_of(infos: Any, index: int) -> dict:
    """A copy of one environment's info out of gymnasium's vector infos: arrays, each with a mask named ``_key``."""
    if isinstance(infos, (list, tuple)):
        return copied(infos[index])
    single = {}
    for key, values in infos.items():
        if key.startswith("_"):
            continue
        present = infos.get(f"_{key}")
        if present is not None and not present[index]:
            continue
        single[key] = info_of(values, index) if isinstance(values, dict) else copied(values[index])
    return single


def _row(values: Any, index: int) -> Any:
    return tree.map_structure(lambda leaf: leaf[index], values)
