"""Trials: one episode made of several of another environment. One (`TrialsEnv`) or a batch."""

from __future__ import annotations

import functools
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from stpn_envs.arguments import flag, integer
from stpn_envs.flat import bounds, flat
from stpn_envs.task_env import TaskEnv, TaskVectorEnv

__all__ = ["TrialsEnv", "TrialsVectorEnv"]

_LARGEST = float(np.finfo(np.float32).max)


class TrialsEnv(TaskEnv):
    """Play several episodes of an environment as one, so that what is learnt in one helps in the next (RL²).

    ## Description

    An episode here, a trial, is ``episodes`` episodes of the wrapped environment, one after the other. The agent's
    recurrent state goes on over their borders by itself, because to everything outside the trial is one episode. Where
    an environment of this package has a task (the cell of the maze's reward, the arms of ``stpn/Bandit-v0``, cues and
    target of ``stpn/CueReward-v0``) it stays the same for the trial and is drawn anew for the next: the first episodes
    explore, the later ones use what was found. Of other environments each episode is a new one, unless ``same_seed``
    repeats it.

    From Python, ``stpn_envs.Trials(env, episodes=10)`` wraps an environment that is there already.

    ## Observation space

    ``Box(low, high, (n,), float32)``, in this order:

    | part | size |
    |---|---|
    | the observation of the wrapped environment, flat (`gymnasium.spaces.flatten`: discrete ones one-hot) | its |
    | action of the step before, flat and within its bounds; zeros at the trial's start | its |
    | reward of the step before, 0 at the trial's start | 1 |
    | 1 if the step before ended an episode, else 0 | 1 |

    After an episode that is not the trial's last, the observation is the first of the next one; the ended episode's
    last observation is not shown.

    ## Action space

    The wrapped environment's: Discrete, MultiDiscrete, MultiBinary or Box.

    ## Rewards

    The wrapped environment's.

    ## Start of an episode

    The first episode of a trial, with a new task; with the reset option ``{"same_task": True}`` with that of the trial
    before. ``reset(seed=s)`` resets the wrapped environment with seed s.

    ## End of an episode

    With the end of the last of the ``episodes``, terminated or truncated as that one. Infos are empty. Stepping on
    without a reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``env`` | ``"stpn/Bandit-v0"`` | id of the wrapped environment; in Python also the environment itself |
    | ``episodes`` | 10 | episodes of a trial, 1 or more |
    | ``same_seed`` | False | every episode of a trial is reset with the same seed, drawn for the trial |
    | ``render_mode`` | None | ``"ansi"``: `render` returns episode, step, action and reward; ``"human"``: prints them |

    All others go to the wrapped environment: in a YAML file,
    ``env_config: {env: stpn/MazeSmall-v0, episodes: 5, size: 7}``.

    ## Registered ids

    - ``stpn/Trials-v0``: 10 episodes of ``stpn/Bandit-v0``

    ## Reference

    Duan, Schulman, Chen, Bartlett, Sutskever, Abbeel: RL²: Fast Reinforcement Learning via Slow Reinforcement Learning,
    2016 (arXiv:1611.02779); Wang et al.: Learning to reinforcement learn, 2016 (arXiv:1611.05763).

    ## Version history

    - v0: first version.
    """

    batch: TrialsVectorEnv

    def __init__(
        self,
        env: str | gymnasium.Env = "stpn/Bandit-v0",
        *,
        episodes: int = 10,
        same_seed: bool = False,
        render_mode: str | None = None,
        **arguments: Any,
    ):
        super().__init__(TrialsVectorEnv(1, env=env, episodes=episodes, same_seed=same_seed, **arguments), render_mode)

    def text(self) -> str:
        """Return episode and step, and what the last action brought."""
        where = f"episode {self.batch.ended[0] + 1}, step {self.batch.steps[0]}"
        return where if self.last_action is None else f"{where}: action {self.last_action}, reward {self.last_reward:g}"

    def close(self) -> None:
        """Close the wrapped environment, too; a second call does nothing."""
        self.batch.close()


class TrialsVectorEnv(TaskVectorEnv):
    """A batch of `TrialsEnv`, stepped as arrays where the wrapped environment is a task of this package.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `TrialsEnv` with the same arguments sees after
    ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1) and
    ``autoreset_mode`` (``"SameStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        env: str | gymnasium.Env = "stpn/Bandit-v0",
        episodes: int = 10,
        same_seed: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **arguments: Any,
    ):
        if autoreset_mode in (AutoresetMode.NEXT_STEP, "NextStep"):
            raise ValueError("autoreset_mode: got 'NextStep', allowed are 'SameStep', 'Disabled'")
        self._episodes = integer("episodes", episodes, minimum=1)
        self._same_seed = flag("same_seed", same_seed)
        self._inner = _wrapped(env, integer("num_envs", num_envs, minimum=1), arguments)
        observation, action = self._inner.single_observation_space, self._inner.single_action_space
        if not isinstance(action, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
            raise ValueError(f"env: got actions {action}, allowed are Discrete, MultiDiscrete, MultiBinary and Box")
        (low, high), (first, last) = _finite(observation), _finite(action)
        self._obs_size = len(low)
        # the previous action is zeros at the start, whatever the bounds
        low = np.concatenate([low, np.minimum(first, 0), [-_LARGEST, 0]]).astype(np.float32)
        high = np.concatenate([high, np.maximum(last, 0), [_LARGEST, 1]]).astype(np.float32)
        super().__init__(num_envs, spaces.Box(low, high, dtype=np.float32), action, autoreset_mode)
        self._of_actions = low[self._obs_size : -2], high[self._obs_size : -2]  # what is shown of them
        self._shown = np.zeros((self.num_envs, len(low)), np.float32)
        self._seeds_given: dict[int, int] = {}
        self._trial_seeds = np.zeros(self.num_envs, np.int64)
        self._draws_tasks = False  # the trials that begin next, see `new_task`
        self.ended = np.zeros(self.num_envs, np.int64)  # episodes of the trial that are over
        self.steps = np.zeros(self.num_envs, np.int64)

    def seed_rows(self, seeds: dict[int, int]) -> None:
        """Remember the seeds for the wrapped environments, which are reset next."""
        super().seed_rows(seeds)
        self._seeds_given.update(seeds)

    def new_task(self, rows: np.ndarray) -> None:
        """Draw the seeds of trials, and have the wrapped environments draw their tasks as they begin."""
        if self._same_seed:
            self._trial_seeds[rows] = self.streams.integers(rows, 2**31)
        self._draws_tasks = True

    def begin(self, rows: np.ndarray) -> None:
        """Start trials: the wrapped environments' first episodes."""
        self._shown[rows] = 0
        self._reset_wrapped(rows, same_task=not self._draws_tasks)
        self._draws_tasks = False
        self.ended[rows] = 0
        self.steps[rows] = 0

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step the wrapped environments, and start the next episode where one ended within a trial."""
        wanted = actions.astype(self.single_action_space.dtype, copy=False)
        observations, rewards, terminations, truncations, _ = self._inner.step(wanted)
        over = terminations | truncations
        self.ended += over
        self.steps += 1
        self._shown[:, : self._obs_size] = flat(self._inner.single_observation_space, observations, (self.num_envs,))
        taken = flat(self.single_action_space, wanted, (self.num_envs,))
        self._shown[:, self._obs_size : -2] = np.clip(taken, *self._of_actions)
        self._shown[:, -2] = rewards
        self._shown[:, -1] = over
        last = over & (self.ended == self._episodes)
        if (over & ~last).any():
            self._reset_wrapped(np.flatnonzero(over & ~last), same_task=True)
        return np.array(rewards, np.float64), terminations & last, truncations & last

    def observe(self, rows: np.ndarray) -> np.ndarray:
        """Return the wrapped environments' observations with the inputs beside them."""
        return self._shown[rows]

    def _reset_wrapped(self, rows: np.ndarray, same_task: bool) -> None:
        seeds: list[int | None] = [None] * self.num_envs
        for row in rows.tolist():
            given = self._seeds_given.pop(row, None)
            seeds[row] = int(self._trial_seeds[row]) if self._same_seed else given
        mask = np.zeros(self.num_envs, bool)
        mask[rows] = True
        options: dict[str, Any] = {"reset_mask": mask}
        if same_task:
            options["same_task"] = True
        observations, _ = self._inner.reset(seed=seeds, options=options)  # type: ignore[arg-type]
        first = flat(self._inner.single_observation_space, observations, (self.num_envs,))
        self._shown[rows, : self._obs_size] = first[rows]

    def close_extras(self, **kwargs: Any) -> None:
        """Close the wrapped environments."""
        if hasattr(self, "_inner"):  # the arguments may have been refused
            self._inner.close()


def _wrapped(env: str | gymnasium.Env, num_envs: int, arguments: dict[str, Any]) -> VectorEnv:
    """Return the wrapped environments without autoreset: as arrays where they are a task of this package."""
    if isinstance(env, gymnasium.Env):
        if arguments:
            raise ValueError(f"{next(iter(arguments))}: got an argument for an environment, allowed is one for an id")
        if num_envs != 1:
            raise ValueError(f"num_envs: got {num_envs} for one environment, allowed is 1, and any number for an id")
        makers: list[Any] = [functools.partial(_itself, env)]
        return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)
    if not isinstance(env, str):
        raise ValueError(f"env: got {env!r}, allowed is the id of an environment, such as 'stpn/MazeSmall-v0'")
    spec = gymnasium.registry.get(env.removeprefix("stpn_envs:"))
    if spec is not None and str(spec.vector_entry_point).startswith("stpn_envs."):
        batch: Any = load_env_creator(spec.vector_entry_point)  # type: ignore[arg-type]
        if isinstance(batch, type) and issubclass(batch, TaskVectorEnv):
            return batch(num_envs, autoreset_mode=AutoresetMode.DISABLED, **{**spec.kwargs, **arguments})
    make = functools.partial(gymnasium.make, env, **arguments)
    return SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.DISABLED)


def _itself(env: gymnasium.Env) -> gymnasium.Env:
    return env


def _finite(space: spaces.Space) -> tuple[np.ndarray, np.ndarray]:
    low, high = bounds(space)
    return np.maximum(low, -_LARGEST), np.minimum(high, _LARGEST)
