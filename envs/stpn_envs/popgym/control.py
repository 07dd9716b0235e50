"""POPGym's control tasks of which only positions are seen, with and without noise. One (`...Env`) or a batch."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from stpn_envs.arguments import integer, number, refuse
from stpn_envs.popgym.ahead import DrawnAhead
from stpn_envs.popgym.base import PopgymEnv, PopgymVectorEnv

__all__ = [
    "NoisyPositionOnlyCartPoleEnv",
    "NoisyPositionOnlyCartPoleVectorEnv",
    "NoisyPositionOnlyPendulumEnv",
    "NoisyPositionOnlyPendulumVectorEnv",
    "PositionOnlyCartPoleEnv",
    "PositionOnlyCartPoleVectorEnv",
    "PositionOnlyPendulumEnv",
    "PositionOnlyPendulumVectorEnv",
]


class ControlVectorEnv(PopgymVectorEnv):
    """A batch of moving things of which two numbers are seen, at most `high`."""

    high: ClassVar[tuple[float, float]]
    action: ClassVar[spaces.Space]
    state_size: ClassVar[int]

    def __init__(
        self,
        num_envs: int = 1,
        *,
        episode_length: int = 200,
        previous_action: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        limit = integer("episode_length", episode_length, minimum=1)
        high = np.array(self.high, np.float32)
        super().__init__(
            num_envs, spaces.Box(-high, high, dtype=np.float32), self.action, previous_action, autoreset_mode, limit
        )
        self.state = np.zeros((self.state_size, self.num_envs))

    def see(self, rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
        """Show two numbers of the environments `rows`, ``[len(rows)]`` each."""
        self.shown[rows, 0] = first
        self.shown[rows, 1] = second


class NoisyVectorEnv(ControlVectorEnv):
    """The same with normal noise on the two numbers."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        noise_sigma: float = 0.1,
        episode_length: int = 200,
        previous_action: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        super().__init__(
            num_envs, episode_length=episode_length, previous_action=previous_action, autoreset_mode=autoreset_mode
        )
        self._noise_sigma = number("noise_sigma", noise_sigma, minimum=0)
        self._noise = self.ahead = DrawnAhead(self.generators, "standard_normal", count=2)

    def see(self, rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
        """Show the numbers with noise, no farther out than they can be."""
        super().see(rows, first, second)
        noise = (self._noise_sigma * self._noise.take(rows)).astype(np.float32)
        high = np.array(self.high, np.float32)
        self.shown[rows] = np.clip(self.shown[rows] + noise, -high, high)


class PositionOnlyCartPoleEnv(PopgymEnv):
    """Balance a pole on a cart and see where they are, but not how fast they move.

    ## Description

    Gymnasium's CartPole (Barto, Sutton, Anderson, 1983) without its velocities, which follow from positions seen one
    after the other.

    POPGym's PositionOnlyCartPole: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(-high, high, (n,), float32)``: the cart's position and the pole's angle; with ``previous_action`` also the
    action of the step before (0 at first) and whether this is the first step, two entries each, one-hot, as POPGym's
    ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    | action | meaning |
    |---|---|
    | 0 | push to the left |
    | 1 | push to the right |

    ## Rewards

    1 / ``episode_length`` a step: returns are up to 1.

    ## Start of an episode

    Positions and velocities uniform in -0.05 to 0.05.

    ## End of an episode

    Terminated when the pole leans by more than 12 degrees or the cart is more than 2.4 from the middle, truncated
    after ``episode_length`` steps. Stepping on without a reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``episode_length`` | 200 | steps, 1 or more |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/PositionOnlyCartPoleEasy-v0``: 200 steps
    - ``stpn/PositionOnlyCartPoleMedium-v0``: 400 steps
    - ``stpn/PositionOnlyCartPoleHard-v0``: 600 steps

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: PositionOnlyCartPoleVectorEnv


# of gymnasium's CartPole, in SI units
_GRAVITY, _CART, _POLE, _HALF_LENGTH, _FORCE, _CART_STEP = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
_FARTHEST, _STEEPEST = 2.4, 12 * 2 * math.pi / 360


class PositionOnlyCartPoleVectorEnv(ControlVectorEnv):
    """A batch of `PositionOnlyCartPoleEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `PositionOnlyCartPoleEnv` with the same
    arguments sees after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1)
    and ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    high = (2 * _FARTHEST, 2 * _STEEPEST)
    action = spaces.Discrete(2)
    state_size = 4  # position and velocity of the cart, angle and rate of the pole

    def deal(self, rows: np.ndarray) -> None:
        """Draw positions and velocities."""
        for row in rows.tolist():
            self.state[:, row] = self.generators[row].uniform(-0.05, 0.05, 4)
        self.see(rows, self.state[0, rows], self.state[2, rows])

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Push for a fiftieth of a second, and see whether all is up."""
        place, velocity, angle, rate = self.state
        mass, moment = _CART + _POLE, _POLE * _HALF_LENGTH
        sine, cosine = np.sin(angle), np.cos(angle)
        push = (np.where(actions == 1, _FORCE, -_FORCE) + moment * rate**2 * sine) / mass
        turn = (_GRAVITY * sine - cosine * push) / (_HALF_LENGTH * (4 / 3 - _POLE * cosine**2 / mass))
        self.state = self.state + _CART_STEP * np.stack([velocity, push - moment * turn * cosine / mass, rate, turn])
        rows = self.playing
        self.see(rows, self.state[0, rows], self.state[2, rows])
        fallen = (np.abs(self.state[0]) > _FARTHEST) | (np.abs(self.state[2]) > _STEEPEST)
        return np.full(self.num_envs, 1 / self.limit), fallen


PositionOnlyCartPoleEnv.vector = PositionOnlyCartPoleVectorEnv


class NoisyPositionOnlyCartPoleEnv(PopgymEnv):
    """Balance a pole on a cart and see, with noise, where they are.

    ## Description

    Gymnasium's CartPole (Barto, Sutton, Anderson, 1983) without its velocities; each number seen has normal noise.

    POPGym's NoisyPositionOnlyCartPole: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(-high, high, (n,), float32)``: the cart's position and the pole's angle; with ``previous_action`` also the
    action of the step before (0 at first) and whether this is the first step, two entries each, one-hot, as POPGym's
    ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    | action | meaning |
    |---|---|
    | 0 | push to the left |
    | 1 | push to the right |

    ## Rewards

    1 / ``episode_length`` a step: returns are up to 1.

    ## Start of an episode

    Positions and velocities uniform in -0.05 to 0.05.

    ## End of an episode

    Terminated when the pole leans by more than 12 degrees or the cart is more than 2.4 from the middle, truncated
    after ``episode_length`` steps. Stepping on without a reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``noise_sigma`` | 0.1 | standard deviation of the noise, 0 or more |
    | ``episode_length`` | 200 | steps, 1 or more |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/NoisyPositionOnlyCartPoleEasy-v0``: noise 0.1
    - ``stpn/NoisyPositionOnlyCartPoleMedium-v0``: noise 0.2
    - ``stpn/NoisyPositionOnlyCartPoleHard-v0``: noise 0.3

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: NoisyPositionOnlyCartPoleVectorEnv


class NoisyPositionOnlyCartPoleVectorEnv(NoisyVectorEnv, PositionOnlyCartPoleVectorEnv):
    """A batch of `NoisyPositionOnlyCartPoleEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `NoisyPositionOnlyCartPoleEnv` with the same
    arguments sees after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1)
    and ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """


NoisyPositionOnlyCartPoleEnv.vector = NoisyPositionOnlyCartPoleVectorEnv


class PositionOnlyPendulumEnv(PopgymEnv):
    """Swing up a pendulum and see its angle, but not its rate.

    ## Description

    Gymnasium's Pendulum without its rate, which follows from angles seen one after the other.

    POPGym's PositionOnlyPendulum: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(-high, high, (n,), float32)``: cosine and sine of the angle; with ``previous_action`` also the action of the
    step before (0 at first) and whether this is the first step (two entries, one-hot), as POPGym's
    ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    ``Box(-2, 2, (1,), float32)``: the torque; numbers outside are clipped.

    ## Rewards

    1 minus 2 c / 16.27 a step, divided by ``episode_length``, where c, up to 16.27, is the square of the angle from
    upright, a tenth of the rate's and a thousandth of the torque's: returns are -1 to 1.

    ## Start of an episode

    At any angle, with a rate uniform in -1 to 1.

    ## End of an episode

    Truncated after ``episode_length`` steps. Stepping on without a reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``episode_length`` | 200 | steps, 1 or more |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/PositionOnlyPendulumEasy-v0``: 200 steps
    - ``stpn/PositionOnlyPendulumMedium-v0``: 150 steps
    - ``stpn/PositionOnlyPendulumHard-v0``: 100 steps

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: PositionOnlyPendulumVectorEnv


# of gymnasium's Pendulum, with mass and length 1
_G, _TORQUE, _RATE, _PENDULUM_STEP = 10.0, 2.0, 8.0, 0.05
_HALF_COST = 16.2736044 / 2  # half of the greatest: pi**2 + 0.1 * 8**2 + 0.001 * 2**2


class PositionOnlyPendulumVectorEnv(ControlVectorEnv):
    """A batch of `PositionOnlyPendulumEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `PositionOnlyPendulumEnv` with the same
    arguments sees after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1)
    and ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    high = (1.0, 1.0)
    action = spaces.Box(-_TORQUE, _TORQUE, (1,), np.float32)
    state_size = 2  # angle from upright and its rate

    def deal(self, rows: np.ndarray) -> None:
        """Draw angle and rate."""
        for row in rows.tolist():
            self.state[:, row] = self.generators[row].uniform((-math.pi, -1.0), (math.pi, 1.0))
        self._see_angle(rows)

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn for a twentieth of a second."""
        angle, rate = self.state
        torque = actions[:, 0].astype(np.float32)  # as POPGym takes it
        off = (angle + math.pi) % (2 * math.pi) - math.pi
        cost = off**2 + 0.1 * rate**2 + 0.001 * torque**2
        rate = np.clip(rate + (1.5 * _G * np.sin(angle) + 3 * torque) * _PENDULUM_STEP, -_RATE, _RATE)
        self.state = np.stack([angle + rate * _PENDULUM_STEP, rate])
        self._see_angle(self.playing)
        return (_HALF_COST - cost) / _HALF_COST / self.limit, np.zeros(self.num_envs, bool)

    def _see_angle(self, rows: np.ndarray) -> None:
        angle = self.state[0, rows]
        self.see(rows, np.cos(angle), np.sin(angle))


PositionOnlyPendulumEnv.vector = PositionOnlyPendulumVectorEnv


class NoisyPositionOnlyPendulumEnv(PopgymEnv):
    """Swing up a pendulum and see its angle with noise.

    ## Description

    Gymnasium's Pendulum without its rate; each number seen has normal noise.

    POPGym's NoisyPositionOnlyPendulum: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(-high, high, (n,), float32)``: cosine and sine of the angle; with ``previous_action`` also the action of the
    step before (0 at first) and whether this is the first step (two entries, one-hot), as POPGym's
    ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    ``Box(-2, 2, (1,), float32)``: the torque; numbers outside are clipped.

    ## Rewards

    1 minus 2 c / 16.27 a step, divided by ``episode_length``, where c, up to 16.27, is the square of the angle from
    upright, a tenth of the rate's and a thousandth of the torque's: returns are -1 to 1.

    ## Start of an episode

    At any angle, with a rate uniform in -1 to 1.

    ## End of an episode

    Truncated after ``episode_length`` steps. Stepping on without a reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``noise_sigma`` | 0.1 | standard deviation of the noise, 0 or more |
    | ``episode_length`` | 200 | steps, 1 or more |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/NoisyPositionOnlyPendulumEasy-v0``: noise 0.1
    - ``stpn/NoisyPositionOnlyPendulumMedium-v0``: noise 0.2
    - ``stpn/NoisyPositionOnlyPendulumHard-v0``: noise 0.3

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: NoisyPositionOnlyPendulumVectorEnv


class NoisyPositionOnlyPendulumVectorEnv(NoisyVectorEnv, PositionOnlyPendulumVectorEnv):
    """A batch of `NoisyPositionOnlyPendulumEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `NoisyPositionOnlyPendulumEnv` with the same
    arguments sees after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1)
    and ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """


NoisyPositionOnlyPendulumEnv.vector = NoisyPositionOnlyPendulumVectorEnv
