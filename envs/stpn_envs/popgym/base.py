"""What POPGym's environments have in common: numpy's generators, and observations as POPGym's wrappers make them."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode

from stpn_envs.arguments import flag
from stpn_envs.task_env import TaskEnv, TaskVectorEnv

__all__ = ["PopgymEnv", "PopgymVectorEnv"]


class PopgymVectorEnv(TaskVectorEnv):
    """A batch of episodes of one of POPGym's environments with discrete observations and actions.

    An observation is what ``popgym.wrappers.Flatten(Antialias(PreviousAction(env)))`` makes of POPGym's: its integers,
    the action of the step before (0 at the start) and whether this is the first step, each one-hot. Each
    sub-environment has a generator of its own, seeded and drawn from as POPGym's is.
    """

    def __init__(
        self,
        num_envs: int,
        observation_sizes: Sequence[int],
        num_actions: int,
        previous_action: bool,
        autoreset_mode: AutoresetMode | str,
    ):
        self.previous_action = flag("previous_action", previous_action)
        sizes = [*observation_sizes, *((num_actions, 2) if previous_action else ())]
        space = spaces.Box(0.0, 1.0, (sum(sizes),), np.float32)
        super().__init__(num_envs, space, spaces.Discrete(num_actions), autoreset_mode)
        self.generators: list[np.random.Generator] = [np.random.default_rng(0)] * self.num_envs
        self.shown = np.zeros((self.num_envs, len(observation_sizes)), np.int64)
        self.actions = np.zeros(self.num_envs, np.int64)
        self.steps = np.zeros(self.num_envs, np.int64)
        self._offsets = np.cumsum([0, *sizes[:-1]])

    @abc.abstractmethod
    def deal(self, rows: np.ndarray) -> None:
        """Start an episode in the environments `rows` and set what they show first; `steps` is 0 there."""

    @abc.abstractmethod
    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Step every environment, which sets `shown`: rewards and whether the episode is over; `steps` counts it."""

    def seed_rows(self, seeds: dict[int, int]) -> None:
        """Give some environments a new generator, as gymnasium makes it from a seed."""
        for row, seed in seeds.items():
            self.generators[row] = seeding.np_random(seed)[0]

    def begin(self, rows: np.ndarray) -> None:
        """Start an episode."""
        self.actions[rows] = 0
        self.steps[rows] = 0
        self.deal(rows)

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step every environment."""
        self.steps += 1
        self.actions[:] = actions
        rewards, over = self.play(actions)
        never = np.zeros(self.num_envs, bool)
        return (rewards, never, over) if self.truncates else (rewards, over, never)

    truncates: ClassVar[bool] = False
    """Whether the end of an episode is a truncation."""

    def observe(self, rows: np.ndarray) -> np.ndarray:
        """Return what is shown, one-hot."""
        codes = self.shown[rows]
        if self.previous_action:
            codes = np.concatenate([codes, self.actions[rows, None], self.steps[rows, None] == 0], axis=1)
        observations = np.zeros((len(rows), self.single_observation_space.shape[0]), np.float32)  # type: ignore[index]
        observations[np.arange(len(rows))[:, None], self._offsets + codes] = 1
        return observations


class PopgymEnv(TaskEnv):
    """One episode of one of POPGym's environments at a time."""

    vector: ClassVar[type[Any]]
    batch: PopgymVectorEnv

    def __init__(self, *, render_mode: str | None = None, **arguments: Any):
        super().__init__(self.vector(1, **arguments), render_mode)

    def text(self) -> str:
        """Return what is shown, and what the last action brought."""
        shown = f"step {self.batch.steps[0]}: {' '.join(map(str, self.batch.shown[0]))}"
        return (
            shown if self.last_action is None else f"{shown}, action {self.last_action}, reward {self.last_reward:+.3f}"
        )
