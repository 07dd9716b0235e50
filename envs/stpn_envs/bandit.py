"""A bandit: arms that pay with chances of their own. One (`BanditEnv`) or a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from stpn_envs.arguments import integer, refuse
from stpn_envs.task_env import TaskEnv, TaskVectorEnv

__all__ = ["BanditEnv", "BanditVectorEnv"]


class BanditEnv(TaskEnv):
    """Pull one of several arms, each of which pays with a chance of its own.

    ## Description

    Each arm pays 1 with a chance that is drawn for the task, uniform in 0 to 1, and else nothing. Every episode has
    new arms, and with one pull an episode nothing can be learnt about them. `stpn_envs.Trials` keeps the arms over
    the episodes of a trial: then only a memory that lasts across episodes finds the best one.

    ## Observation space

    ``Box(0, 1, (1,), float32)``: always 1. The action and reward of the step before are not among the observations;
    `stpn_envs.Trials` adds them.

    ## Action space

    ``Discrete(num_arms)``: the arm to pull.

    ## Rewards

    1 or 0, as the arm pays.

    ## Start of an episode

    New chances for every arm; with the reset option ``{"same_task": True}`` the same as before.

    ## End of an episode

    Terminated after ``pulls`` steps. Stepping on without a reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``num_arms`` | 5 | arms, 2 or more |
    | ``pulls`` | 1 | steps of an episode, 1 or more |
    | ``render_mode`` | None | ``"ansi"``: `render` returns the arms and the last pull; ``"human"``: prints them |

    ## Registered ids

    - ``stpn/Bandit-v0``: 5 arms, one pull

    ## Version history

    - v0: first version.
    """

    batch: BanditVectorEnv

    def __init__(self, num_arms: int = 5, *, pulls: int = 1, render_mode: str | None = None, **unknown: Any):
        refuse(type(self), unknown)
        super().__init__(BanditVectorEnv(1, num_arms=num_arms, pulls=pulls), render_mode)

    def text(self) -> str:
        """Return the arms' chances, and the last pull."""
        chances = " ".join(f"{chance:.2f}" for chance in self.batch.chances[0])
        pull = "" if self.last_action is None else f"; arm {self.last_action} paid {self.last_reward:g}"
        return f"step {self.batch.steps[0]}: arms pay with {chances}{pull}"


class BanditVectorEnv(TaskVectorEnv):
    """A batch of `BanditEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `BanditEnv` with the same arguments sees after
    ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1) and
    ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_arms: int = 5,
        pulls: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        self._num_arms = integer("num_arms", num_arms, minimum=2)
        self._pulls = integer("pulls", pulls, minimum=1)
        space = spaces.Box(0.0, 1.0, (1,), np.float32)
        super().__init__(num_envs, space, spaces.Discrete(self._num_arms), autoreset_mode)
        self.chances = np.zeros((self.num_envs, self._num_arms))
        self.steps = np.zeros(self.num_envs, np.int64)

    def new_task(self, rows: np.ndarray) -> None:
        """Draw the arms' chances."""
        self.chances[rows] = self._uniform(rows, self._num_arms)

    def begin(self, rows: np.ndarray) -> None:
        """Count from 0."""
        self.steps[rows] = 0

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pull the arms."""
        paid = self._uniform(self.rows, 1)[:, 0] < self.chances[self.rows, actions]
        self.steps += 1
        return paid.astype(np.float64), self.steps == self._pulls, np.zeros(self.num_envs, bool)

    def observe(self, rows: np.ndarray) -> np.ndarray:
        """Return ones."""
        return np.ones((len(rows), 1), np.float32)

    def _uniform(self, rows: np.ndarray, count: int) -> np.ndarray:
        return (self.streams.bits(rows, count) >> np.uint64(11)) * 2.0**-53
