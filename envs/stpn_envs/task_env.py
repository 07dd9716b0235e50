"""What the tasks have in common: a batch of episodes stepped as arrays, and the scalar form, a batch of one."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from stpn_envs.arguments import action_in, actions_in, autoreset, choice, integer, is_integer, reset_mask, seeds_in
from stpn_envs.sampling import Streams

__all__ = ["TaskEnv", "TaskVectorEnv"]


class TaskVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray], abc.ABC):
    """A batch of episodes of one task: subclasses say how episodes begin, go on and look, on whole arrays.

    Seeding, checks of actions, partial resets and autoreset are here. Every array returned is new and belongs to the
    caller; later steps do not touch it. A reset with the option ``same_task`` starts another episode of the same task:
    what `new_task` drew stays. (`stpn_envs.Trials` makes one long episode of several such.)
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        num_envs: int,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        autoreset_mode: AutoresetMode | str,
    ):
        self.num_envs = integer("num_envs", num_envs, minimum=1)
        self.metadata = {**self.metadata, "autoreset_mode": autoreset(autoreset_mode, *AutoresetMode)}
        self.single_observation_space = observation_space
        self.observation_space = batch_space(observation_space, self.num_envs)
        self.single_action_space = action_space
        self.action_space = batch_space(action_space, self.num_envs)
        self.rows = np.arange(self.num_envs)
        self.streams = Streams(self.num_envs)
        self.started = False
        # whose episode is over; with next-step autoreset their coming step is the reset
        self._over = np.zeros(self.num_envs, bool)

    def new_task(self, rows: np.ndarray) -> None:
        """Draw for the environments `rows`, ``[n]`` int, what a reset with the option ``same_task`` leaves as it is."""

    @abc.abstractmethod
    def begin(self, rows: np.ndarray) -> None:
        """Start an episode in the environments `rows`, ``[n]`` int, after `new_task` if the task is a new one."""

    @abc.abstractmethod
    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step every environment: actions ``[num_envs, ...]`` -> new arrays of rewards, terminations, truncations.

        They come as int64, or for a Box as float64, and may then be outside its bounds.

        Under next-step autoreset it is also called where the episode is over and the outcome will be thrown away.
        """

    @abc.abstractmethod
    def observe(self, rows: np.ndarray) -> np.ndarray:
        """Return the current observations of the environments `rows` in a new array, ``[n, ...]``."""

    def reset(
        self, *, seed: int | Sequence[int | None] | np.ndarray | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode in every sub-environment, or in those chosen by a mask.

        Args:
            seed: An integer s seeds sub-environment i with s + i; a sequence ``[num_envs]`` gives each its own. None,
                alone or in the sequence, goes on with the random numbers there are.
            options: ``{"reset_mask": mask}`` with a bool array ``[num_envs]`` resets only where it is True; the others
                stay where they are and return what they returned last. The first reset has to be of all.
                ``{"same_task": True}`` keeps the task of the episode before, where the environment has one: the maze's
                reward stays in its cell, a bandit keeps its arms.

        Returns:
            Observations ``[num_envs, ...]`` and an empty info.
        """
        self._require_open()
        rows, mask = self.rows, (options or {}).get("reset_mask")
        if mask is not None:
            rows = reset_mask(mask, self.num_envs)
        if len(rows) < self.num_envs and not self.started:
            raise ResetNeeded("reset all environments before resetting some with a reset_mask")
        seeds = self._seeds(seed)
        self.seed_rows({row: seeds[row] for row in rows.tolist() if row in seeds})
        same_task = self.started and bool((options or {}).get("same_task"))
        self.started = True
        self._start(rows, same_task)
        return self.observe(self.rows), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every sub-environment.

        Args:
            actions: Of the batched action space, ``[num_envs, ...]``; numbers outside a Box's bounds are clipped.

        Returns:
            Observations ``[num_envs, ...]``, rewards float64 ``[num_envs]``, terminations and truncations bool
            ``[num_envs]``, and the info: with same-step autoreset, where an episode ended, ``final_obs``
            ``[num_envs, ...]`` and the bool mask ``_final_obs`` of the rows that ended; otherwise empty.

        Raises:
            ValueError: The actions have another shape or type, or one is not in the action space.
            gymnasium.error.ResetNeeded: There was no reset yet, or, without autoreset, none since an episode's end.
        """
        self._require_open()
        mode = self.metadata["autoreset_mode"]
        if not self.started:
            raise ResetNeeded("call reset() before step()")
        if mode is AutoresetMode.DISABLED and self._over.any():
            raise ResetNeeded(f"the episode of environment {int(self._over.argmax())} is over: reset it before step()")
        rewards, terminations, truncations = self.advance(actions_in(self.single_action_space, actions, self.num_envs))
        ended = terminations | truncations
        info: dict[str, Any] = {}
        if mode is AutoresetMode.NEXT_STEP and self._over.any():
            for outcome in (rewards, terminations, truncations, ended):
                outcome[self._over] = 0
            self._start(np.flatnonzero(self._over))
        observations = self.observe(self.rows)
        if mode is not AutoresetMode.SAME_STEP:
            self._over = ended
        elif ended.any():
            info = {"final_obs": observations, "_final_obs": ended}
            rows = np.flatnonzero(ended)
            self._start(rows)
            observations = observations.copy()
            observations[rows] = self.observe(rows)
        return observations, rewards, terminations, truncations, info

    def seed_rows(self, seeds: dict[int, int]) -> None:
        """Start the random numbers of some environments anew, from a seed each."""
        self.streams.seed(seeds)

    def _start(self, rows: np.ndarray, same_task: bool = False) -> None:
        self._over[rows] = False
        self.streams.next_episode(rows)
        if not same_task:
            self.new_task(rows)
        self.begin(rows)

    def _seeds(self, seed: int | Sequence[int | None] | np.ndarray | None) -> dict[int, int]:
        """Return the seeds of the sub-environments that do not go on with the stream they have."""
        if is_integer(seed):
            super().reset(seed=int(seed))  # refuses a negative one
            return {row: int(seed) + row for row in range(self.num_envs)}
        given = seeds_in(seed, self.num_envs)
        if self.started:
            return given
        return dict(enumerate(self.np_random.integers(2**63, size=self.num_envs).tolist())) | given

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("the environment is closed")


class TaskEnv(gymnasium.Env[np.ndarray, Any], abc.ABC):
    """One episode of a task at a time: a batch of one, with pictures."""

    metadata: dict[str, Any] = {"render_modes": ["ansi", "human"], "render_fps": 4}

    def __init__(self, batch: TaskVectorEnv, render_mode: str | None):
        modes = self.metadata["render_modes"]
        self.render_mode = choice("render_mode", render_mode, (None, *modes))
        self.batch = batch
        self.observation_space = batch.single_observation_space
        self.action_space = batch.single_action_space
        self._playing = False

    @abc.abstractmethod
    def text(self) -> str:
        """Return the state of the episode as text, for people."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Decides everything random in this and the following episodes; None goes on with the random numbers
                there are.
            options: ``{"same_task": True}`` keeps the task of the episode before, where the environment has one.

        Returns:
            The observation, owned by the caller, and an empty info.
        """
        super().reset(seed=seed)
        if seed is None and not self.batch.started:
            seed = int(self.np_random.integers(2**63))
        observations, info = self.batch.reset(seed=seed, options=options)
        self._playing = True
        self._show(None, 0.0)
        return observations[0], info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take one action.

        Args:
            action: Of the action space; numbers outside a Box's bounds are clipped.

        Returns:
            Observation (owned by the caller), reward, terminated, truncated and an empty info.

        Raises:
            ValueError: `action` is not in the action space.
            gymnasium.error.ResetNeeded: There is no episode under way.
        """
        if self.batch.closed:
            raise ClosedEnvironmentError("the environment is closed")
        if not self._playing:
            raise ResetNeeded("there is no episode under way: call reset() before step()")
        checked = action_in(self.action_space, action)
        rewards, terminations, truncations = self.batch.advance(checked[None])
        reward, terminated, truncated = rewards.item(), terminations.item(), truncations.item()
        self._playing = not (terminated or truncated)
        self._show(checked, reward)
        return self.batch.observe(self.batch.rows)[0], reward, terminated, truncated, {}

    def render(self) -> Any:
        """Return the state of the episode: a text in mode "ansi", uint8 ``[height, width, 3]`` in "rgb_array".

        None in mode "human", which prints the text after every step, and without a render mode (with a warning).

        Raises:
            gymnasium.error.ResetNeeded: There was no reset yet.
        """
        if self.render_mode is None:
            gymnasium.logger.warn(f"render() was called without a render mode; make {type(self).__name__} with one")
        elif not self.batch.started:
            raise ResetNeeded("call reset() before render()")
        elif self.render_mode == "ansi":
            return self.text()
        return None

    def close(self) -> None:
        """Refuse further episodes; a second call does nothing."""
        self.batch.close()

    def _show(self, action: np.ndarray | None, reward: float) -> None:
        """Note what happened (`action` None: a reset) and print it in mode "human"."""
        self.last_action, self.last_reward = action, reward
        if self.render_mode == "human":
            print(self.text(), flush=True)
