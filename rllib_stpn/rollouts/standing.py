"""Where a rollout stands, for checkpoints: environments in the middle of their episodes, and random generators."""

from __future__ import annotations

import copy
import io
import logging
import pickle
import random
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import EzPickle
from gymnasium.vector import VectorEnv, VectorWrapper
from ray import cloudpickle

from rllib_stpn.rollouts.episode_objects import KeepsEpisodes
from rllib_stpn.rollouts.episode_runner import MadeAnew
from rllib_stpn.rollouts.failure import as_error

logger = logging.getLogger(__name__)

ROLLOUT = "rollout"
"""The part of a runner's state that says where its rollout stands."""
_UNDER_WAY = (
    "_observations",
    "_state",
    "_is_first",
    "_only_resets",
    "_lengths",
    "_returns",
    "_needs_initial_reset",  # after a sample of whole episodes
)
LARGEST = 64 * 2**20
"""Bytes of all environments of a runner, up to which a checkpoint holds them."""


class GoesOn(KeepsEpisodes):
    """An env runner whose checkpoints hold where its rollout stands, if it samples in the trial's own process."""

    env: Any
    _seed: int | None
    _finished: deque[tuple[int, float, float]]
    _generators: dict[str, Any] | None = None
    """Of a checkpoint, until the next sample: what is set up before then draws from the process's."""
    _restored = False
    """Whether the environments are those of a checkpoint, and have not made a step since."""

    def get_state(self, components=None, *, not_components=None, **kwargs) -> dict[str, Any]:
        """RLlib's state and, of a local runner that trains, where its rollout stands (``"rollout"``)."""
        state = super().get_state(components, not_components=not_components, **kwargs)
        if state and self._check_component(ROLLOUT, components, not_components) and self._trains_locally():
            state[ROLLOUT] = {
                "environment": self._which_environment(),
                "seed": self.config.seed,
                "generators": generators(),
                "finished": list(self._finished),
                "under_way": self._episodes_under_way(),
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes RLlib's state, and goes on with the rollout where that is part of it.

        Environments whose state the checkpoint could not hold begin new episodes, other ones than at the run's start.
        Random generators go on only with the seed of the checkpoint's run.
        """
        super().set_state(state)
        rollout = copy.deepcopy(state.get(ROLLOUT))  # for it may be used again
        if rollout is None or not self._trains_locally() or rollout["environment"] != self._which_environment():
            return
        if self.config.seed is not None and self.config.seed == rollout["seed"]:
            self._generators = rollout["generators"]
        self._finished.extend(rollout["finished"])
        under_way = rollout["under_way"] or {}
        environments = restored_environments(under_way.pop("environments"), self.env) if under_way else None
        if environments is None:
            self._begin_other_episodes()
            return
        self.env = environments
        self._made_when_reset = self._times_made
        self._restored = True
        self._needs_initial_reset = False
        for name, value in under_way.items():
            setattr(self, name, value)
        self._started = np.full(self.num_envs, time.perf_counter())

    def _begin_other_episodes(self) -> None:
        """Has the next sample begin with new episodes, other ones than at the run's start."""
        self._needs_initial_reset = True
        self._made_when_reset = None  # so that they are seeded once more
        if self._seed is not None:
            self._seed = (self._seed + self.num_env_steps_sampled_lifetime) % 2**31

    def _try_env_step(self, actions: Any) -> Any:
        results = super()._try_env_step(actions)
        self._restored = False
        return results

    def _environment_failed(self, error: Exception, when: str) -> NoReturn:
        """Begins new episodes where the checkpoint's environments cannot make a step: their state was not all there."""
        if not self._restored:
            super()._environment_failed(error, when)
        self._restored = False
        self._survive(f"the environments of the checkpoint cannot go on ({as_error(error, 0)}): new episodes begin")
        self.make_env()
        self._begin_other_episodes()
        raise MadeAnew

    def _trains_locally(self) -> bool:
        return not self.worker_index and not self.config.in_evaluation and self.env is not None

    def _which_environment(self) -> tuple:
        name = self.config.env if isinstance(self.config.env, str) else getattr(self.config.env, "__qualname__", "")
        return name, repr(self.config.env_config), self.num_envs, self._keeps_episodes

    def _episodes_under_way(self) -> dict[str, Any] | None:
        saved = saved_environments(self.env) if self._were_reset else None
        if saved is None:
            return None
        names = (*_UNDER_WAY, "_ongoing_episodes") if self._keeps_episodes else _UNDER_WAY
        return {"environments": saved, **{name: copy.deepcopy(getattr(self, name)) for name in names}}

    def set_generators_of_checkpoint(self) -> None:
        """Has the process's random generators go on as in the checkpoint that was loaded, if one was."""
        if self._generators is not None:
            set_generators(self._generators)
            self._generators = None


def generators() -> dict[str, Any]:
    """The states of the process's random generators: torch's, from which actions are drawn, numpy's and Python's."""
    return {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}  # noqa: NPY002


def set_generators(states: dict[str, Any]) -> None:
    """Sets what :func:`generators` returned."""
    torch.set_rng_state(states["torch"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["python"])


def saved_environments(env: VectorEnv) -> bytes | None:
    """The environments as they stand, or None where that cannot be kept.

    An environment with a pair of methods ``get_state()`` and ``set_state(state)`` says itself what there is to keep.
    Others are pickled, which fails for most simulators that are not Python: None. gymnasium's ``EzPickle``, or a
    ``__reduce__`` of the environment's own, would only make it anew: None, too.
    """
    single = getattr(env.unwrapped, "envs", ())
    parts = [*_layers(env), *(part for each in single for part in _layers(each))]
    if any(_is_made_anew(part) for part in parts):
        return None
    file = _Bounded()
    try:
        _Pickler(file, env, list(_single(env))).dump(env)
    except Exception as error:  # Whatever an environment's parts raise.
        logger.info("checkpoints are without the state of the environments (%s): %s", type(error).__name__, error)
        return None
    return file.getvalue()


def restored_environments(saved: bytes, env: VectorEnv) -> VectorEnv | None:
    """The saved environments, in place of new ones of the same kind; None, with a warning, where that fails."""
    try:
        restored = _Unpickler(io.BytesIO(saved), env, list(_single(env))).load()
    except Exception as error:
        logger.warning(
            "the environments of the checkpoint cannot be used (%s: %s): new episodes begin",
            type(error).__name__,
            error,
        )
        return None
    return restored if type(restored) is type(env) and restored.num_envs == env.num_envs else None


def _single(env: VectorEnv) -> Iterator[gym.Env]:
    """The environments inside a vector environment, without their wrappers; none where it has arrays in their place."""
    for each in getattr(env.unwrapped, "envs", ()):
        yield each.unwrapped


def _layers(env: Any) -> Iterator[Any]:
    """An environment with its wrappers, from the outermost."""
    yield env
    while isinstance(env, gym.Wrapper | VectorWrapper):
        env = env.env
        yield env


def _is_made_anew(env: Any) -> bool:
    """Whether a pickle of it, without its wrappers, has what it is made of and not how it stands."""
    kind = type(env)
    reduces = kind.__reduce__ is not object.__reduce__ or kind.__reduce_ex__ is not object.__reduce_ex__
    return (reduces or isinstance(env, EzPickle)) and not _has_pair(env)


def _has_pair(env: Any) -> bool:
    return all(callable(getattr(type(env), name, None)) for name in ("get_state", "set_state"))


class _Bounded(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > LARGEST:
            raise MemoryError(f"more than {LARGEST // 2**20} MB")
        return super().write(data)


class _Pickler(cloudpickle.Pickler):
    """Leaves out what is there in new environments: their makers, and those that keep their own state."""

    def __init__(self, file: io.BytesIO, env: VectorEnv, single: list[gym.Env]) -> None:
        super().__init__(file)
        self._makers = id(getattr(env.unwrapped, "env_fns", None))
        self._single = {id(each): index for index, each in enumerate(single) if _has_pair(each)}

    def persistent_id(self, obj: Any) -> Any:
        if id(obj) == self._makers and obj is not None:
            return "makers", None, None
        if id(obj) in self._single:
            return "environment", self._single[id(obj)], obj.get_state()
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, env: VectorEnv, single: list[Any]) -> None:
        super().__init__(file)
        self._env, self._single = env, single

    def persistent_load(self, kept: tuple[str, int, Any]) -> Any:
        kind, index, state = kept
        if kind == "makers":
            return self._env.unwrapped.env_fns
        self._single[index].set_state(state)
        return self._single[index]
