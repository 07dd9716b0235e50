"""The previous action and reward among the observations, for agents with memory. One environment or a batch."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from stpn_envs.arguments import autoreset
from stpn_envs.flat import bounds, flat

__all__ = ["PreviousActionReward", "PreviousActionRewardVector"]


class PreviousActionReward(gymnasium.Wrapper, RecordConstructorArgs):
    """Show an agent what it did last, and what that brought.

    With its recurrent state, an agent knows from these what has happened in its episode.

    ::

        env = stpn_envs.PreviousActionReward(gymnasium.make("CartPole-v1"))  # observations [4 + 2 + 1]

    An observation that is a vector, a ``Box`` of one dimension, gets longer: ``Box`` of float32, ``[observation,
    previous_action, previous_reward]``. Any other is a ``Dict`` of ``observation``, as it was, ``previous_action``,
    float32 ``[its flat size]``, and ``previous_reward``, float32 ``[1]``.

    Both are zeros at the start of an episode. The action is flat: discrete ones one-hot, several in a row (`gymnasium.
    spaces.flatten`), and of a ``Box`` the numbers that the environment was given. An episode's last observation has the
    last action and reward.

    Args:
        env: Any environment.
        action: Whether the action is shown.
        reward: Whether the reward is shown.

    Raises:
        ValueError: Neither is shown, or the actions have no fixed size.
    """

    def __init__(self, env: gymnasium.Env, action: bool = True, reward: bool = True):
        RecordConstructorArgs.__init__(self, action=action, reward=reward)
        super().__init__(env)
        self._shown = _Shown(env.observation_space, env.action_space, action, reward)
        self.observation_space = self._shown.space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, with zeros for the previous action and reward."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._shown.beside(observation, self._shown.nothing()), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take an action, which the next observation shows with its reward."""
        given = self._shown.action_taken(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        previous = self._shown.joined(given, np.asarray(reward, np.float32).reshape(()))
        return self._shown.beside(observation, previous), reward, terminated, truncated, info


class PreviousActionRewardVector(VectorWrapper):
    """The same for a vector environment, in any autoreset mode.

    Row for row it shows what :class:`PreviousActionReward` around each environment would: also in ``final_obs`` of
    same-step autoreset, after the step by which next-step autoreset resets, and after a reset by ``reset_mask``.
    """

    def __init__(self, env: VectorEnv, action: bool = True, reward: bool = True):
        super().__init__(env)
        self._mode = autoreset(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP), *AutoresetMode)
        self._shown = _Shown(env.single_observation_space, env.single_action_space, action, reward, env.num_envs)
        self.single_observation_space = self._shown.space
        self.observation_space = batch_space(self._shown.space, env.num_envs)
        self._previous = self._shown.nothing()
        self._over = np.zeros(env.num_envs, bool)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes, all or those of a ``reset_mask``."""
        rows = (options or {}).get("reset_mask", slice(None))
        observations, infos = self.env.reset(seed=seed, options=options)
        self._begin(rows)
        return self._shown.beside(observations, self._previous), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step every environment."""
        given = self._shown.action_taken(actions)
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        self._previous = self._shown.joined(given, np.asarray(rewards, np.float32))
        if self._mode is AutoresetMode.NEXT_STEP:
            self._begin(self._over)
        ended = np.asarray(terminated) | np.asarray(truncated)
        self._over = ended
        if self._mode is AutoresetMode.SAME_STEP and ended.any():
            infos = {**infos, "final_obs": self._final(infos["final_obs"], ended)}
            self._begin(ended)
        return self._shown.beside(observations, self._previous), rewards, terminated, truncated, infos

    def _begin(self, rows: Any) -> None:
        self._previous[rows] = 0
        self._over[rows] = False

    def _final(self, observations: Any, ended: np.ndarray) -> Any:
        if not (isinstance(observations, np.ndarray) and observations.dtype == object):
            return self._shown.beside(observations, self._previous)
        finals = observations.copy()  # one observation, or None, an environment
        for row in np.flatnonzero(ended):
            finals[row] = self._shown.beside(observations[row], self._previous[row])
        return finals


class _Shown:
    """What is shown beside the observations of one environment, or of ``num_envs``."""

    def __init__(
        self,
        observation: spaces.Space,
        action: spaces.Space,
        shows_action: bool,
        shows_reward: bool,
        num_envs: int | None = None,
    ):
        if not (shows_action or shows_reward):
            raise ValueError("action and reward are both False; one of them has to be shown")
        self._action, self._lead = action, () if num_envs is None else (num_envs,)
        self._shows_action, self._shows_reward = shows_action, shows_reward
        low, high = bounds(action) if shows_action else (np.zeros(0), np.zeros(0))
        self._action_size = len(low)
        parts = {}  # zeros at the start, whatever the bounds
        if shows_action:
            parts["previous_action"] = _box(np.minimum(low, 0), np.maximum(high, 0))
        if shows_reward:
            parts["previous_reward"] = _box(np.full(1, -np.inf), np.full(1, np.inf))
        self._is_flat = isinstance(observation, spaces.Box) and len(observation.shape) == 1
        self.space: spaces.Space
        if self._is_flat:
            boxes: list[Any] = [observation, *parts.values()]
            self.space = _box(*(np.concatenate([getattr(box, end) for box in boxes]) for end in ("low", "high")))
        else:
            self.space = spaces.Dict({"observation": observation, **parts})

    def nothing(self) -> np.ndarray:
        """Return what is shown at an episode's start."""
        return np.zeros((*self._lead, self._action_size + self._shows_reward), np.float32)

    def action_taken(self, actions: Any) -> np.ndarray:
        """Return what of the actions is shown, in an array that the environment cannot write into."""
        if not self._shows_action:
            return np.zeros((*self._lead, 0), np.float32)
        return np.array(flat(self._action, actions, self._lead), np.float32)

    def joined(self, actions: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """Return actions, as `action_taken` has them, and rewards ``[*lead]`` as they are shown."""
        return np.concatenate([actions, rewards[..., None]], axis=-1) if self._shows_reward else actions

    def beside(self, observations: Any, previous: np.ndarray) -> Any:
        """Return observations with what is shown beside them, for all or for one of the environments."""
        if self._is_flat:
            return np.concatenate([np.asarray(observations, np.float32), previous], axis=-1)
        shown = {"observation": observations}
        if self._shows_action:
            shown["previous_action"] = previous[..., : self._action_size].copy()
        if self._shows_reward:
            shown["previous_reward"] = previous[..., self._action_size :].copy()
        return shown


def _box(low: np.ndarray, high: np.ndarray) -> spaces.Box:
    return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
