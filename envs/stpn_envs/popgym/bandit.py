"""POPGym's bandit. One (`MultiarmedBanditEnv`) or a batch (`MultiarmedBanditVectorEnv`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from stpn_envs.arguments import integer, refuse
from stpn_envs.popgym.ahead import DrawnAhead
from stpn_envs.popgym.base import PopgymEnv, PopgymVectorEnv

__all__ = ["MultiarmedBanditEnv", "MultiarmedBanditVectorEnv"]


class MultiarmedBanditEnv(PopgymEnv):
    """Find out which of several arms pays most often, and pull it.

    ## Description

    Each arm pays with a chance of its own, which stays the same for an episode. What an arm brought is seen, and which
    one it was is the action of the step before.

    POPGym's MultiarmedBandit: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(0, 1, (n,), float32)``, one-hot each: whether the last pull paid (2); with ``previous_action`` also the action
    of the step before (0 at first) and whether this is the first step (two entries), as POPGym's
    ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    ``Discrete(num_arms)``: the arm to pull.

    ## Rewards

    1 / ``episode_length`` when the arm pays, else as much less than 0: returns are -1 to 1.

    ## Start of an episode

    Chances uniform in 0 to 1; nothing has paid.

    ## End of an episode

    Truncated after ``episode_length`` steps. Stepping on without a reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``num_arms`` | 10 | arms, 2 or more |
    | ``episode_length`` | 200 | steps, 1 or more |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/MultiarmedBanditEasy-v0``: 10 arms, 200 steps
    - ``stpn/MultiarmedBanditMedium-v0``: 20 arms, 400 steps
    - ``stpn/MultiarmedBanditHard-v0``: 30 arms, 600 steps

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: MultiarmedBanditVectorEnv


class MultiarmedBanditVectorEnv(PopgymVectorEnv):
    """A batch of `MultiarmedBanditEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `MultiarmedBanditEnv` with the same
    arguments sees after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1)
    and ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_arms: int = 10,
        episode_length: int = 200,
        previous_action: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        arms: spaces.Discrete = spaces.Discrete(integer("num_arms", num_arms, minimum=2))
        limit = integer("episode_length", episode_length, minimum=1)
        super().__init__(num_envs, spaces.Discrete(2), arms, previous_action, autoreset_mode, limit)
        self.chances = np.zeros((self.num_envs, num_arms), np.float32)
        self._draws = self.ahead = DrawnAhead(self.generators, "random", count=1)

    def deal(self, rows: np.ndarray) -> None:
        """Draw the arms' chances."""
        for row in rows.tolist():
            self.chances[row] = self.generators[row].random(self.chances.shape[1], dtype=np.float32)
        self.shown[rows] = 0

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pull the arms."""
        rows = self.playing
        drawn = self._draws.take(rows)[:, 0].astype(np.float32)  # compared as POPGym does
        self.shown[rows, 0] = drawn < self.chances[rows, actions[rows]]
        return np.where(self.shown[:, 0], 1.0, -1.0) * (1 / self.limit), np.zeros(self.num_envs, bool)


MultiarmedBanditEnv.vector = MultiarmedBanditVectorEnv
