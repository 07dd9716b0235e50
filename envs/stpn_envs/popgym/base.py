"""What POPGym's environments have in common: numpy's generators, and observations as POPGym's wrappers make them."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode

from stpn_envs.arguments import flag
from stpn_envs.flat import bounds
from stpn_envs.popgym.ahead import DrawnAhead
from stpn_envs.task_env import TaskEnv, TaskVectorEnv

__all__ = ["PopgymEnv", "PopgymVectorEnv"]


class PopgymVectorEnv(TaskVectorEnv):
    """A batch of episodes of one of POPGym's environments.

    An observation is what ``popgym.wrappers.Flatten(Antialias(PreviousAction(env)))`` makes of POPGym's: what it
    shows, the action of the step before (0 at the start) and whether this is the first step; integers are one-hot.
    Each sub-environment has a generator of its own, seeded and drawn from as POPGym's is.

    Args:
        num_envs: How many.
        observation: What POPGym's own shows: a ``Discrete``, ``MultiDiscrete`` or flat ``Box``.
        action: Its actions, of the same kinds; a ``Box`` only beside a ``Box``.
        previous_action: Whether the previous action and the first-step flag are shown.
        autoreset_mode: As everywhere.
        limit: Steps after which an episode is truncated; 0: never.
    """

    def __init__(
        self,
        num_envs: int,
        observation: spaces.Space,
        action: spaces.Space,
        previous_action: bool,
        autoreset_mode: AutoresetMode | str,
        limit: int = 0,
    ):
        self.previous_action = flag("previous_action", previous_action)
        self.limit = limit
        parts = [observation, *((action, spaces.Discrete(2)) if previous_action else ())]
        low, high = (np.concatenate(ends).astype(np.float32) for ends in zip(*map(bounds, parts), strict=True))
        super().__init__(num_envs, spaces.Box(low, high, dtype=np.float32), action, autoreset_mode)
        self.generators: list[np.random.Generator] = [np.random.default_rng(0)] * self.num_envs
        self.ahead: DrawnAhead | None = None  # for numbers that are drawn at every step
        self.shown = _zeros(self.num_envs, observation)
        self.actions = _zeros(self.num_envs, action)
        self.steps = np.zeros(self.num_envs, np.int64)
        counts = np.concatenate([_counts(part) for part in parts])
        self._size, self._numbers = len(low), len(low) - counts.sum()  # numbers come before integers
        self._offsets = self._numbers + np.cumsum(counts) - counts

    @abc.abstractmethod
    def deal(self, rows: np.ndarray) -> None:
        """Start an episode in the environments `rows` and set what they show first; `steps` is 0 there."""

    @abc.abstractmethod
    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Step every environment, which sets `shown`: rewards and terminations; `steps` counts the step."""

    def seed_rows(self, seeds: dict[int, int]) -> None:
        """Give some environments a new generator, as gymnasium makes it from a seed."""
        for row, seed in seeds.items():
            self.generators[row] = seeding.np_random(seed)[0]
        if self.ahead is not None:
            self.ahead.forget(list(seeds))

    def begin(self, rows: np.ndarray) -> None:
        """Start an episode."""
        if self.ahead is not None:
            self.ahead.settle(rows)
        self.actions[rows] = 0
        self.steps[rows] = 0
        self.deal(rows)

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step every environment."""
        if isinstance(self.single_action_space, spaces.Box):
            actions = np.clip(actions, self.single_action_space.low, self.single_action_space.high)
        self.steps += 1
        self.actions[:] = actions.reshape(self.actions.shape)
        rewards, terminations = self.play(actions)
        return rewards, terminations, self.steps == self.limit

    def observe(self, rows: np.ndarray) -> np.ndarray:
        """Return what is shown: numbers as they are, integers one-hot."""
        parts = [self.shown[rows]]
        if self.previous_action:
            parts += [self.actions[rows], self.steps[rows, None] == 0]
        observations = np.zeros((len(rows), self._size), np.float32)
        if self._numbers:
            numbers = [part for part in parts if part.dtype.kind == "f"]
            observations[:, : self._numbers] = np.concatenate(numbers, axis=1)
            parts = parts[len(numbers) :]
        if parts:
            observations[np.arange(len(rows))[:, None], self._offsets + np.concatenate(parts, axis=1)] = 1
        return observations

    @property
    def playing(self) -> np.ndarray:
        """The environments whose step counts: not those that next-step autoreset resets in it."""
        return self.rows[~self._over]


class PopgymEnv(TaskEnv):
    """One episode of one of POPGym's environments at a time."""

    vector: ClassVar[type[Any]]
    batch: PopgymVectorEnv

    def __init__(self, *, render_mode: str | None = None, **arguments: Any):
        super().__init__(self.vector(1, **arguments), render_mode)

    def text(self) -> str:
        """Return what is shown, and what the last action brought."""
        shown = f"step {self.batch.steps[0]}: {' '.join(f'{value:g}' for value in self.batch.shown[0])}"
        return (
            shown if self.last_action is None else f"{shown}, action {self.last_action}, reward {self.last_reward:+.3f}"
        )


def _zeros(num_envs: int, space: spaces.Space) -> np.ndarray:
    dtype = np.float32 if isinstance(space, spaces.Box) else np.int64
    return np.zeros((num_envs, int(np.prod(space.shape or ()))), dtype)


def _counts(space: spaces.Space) -> np.ndarray:
    """Return how many values each of a space's integers has."""
    if isinstance(space, spaces.Box):
        return np.zeros(0, np.int64)
    return np.ravel(space.n if isinstance(space, spaces.Discrete) else space.nvec)  # type: ignore[attr-defined]
