"""Where a rollout stands, for checkpoints: environments in the middle of their episodes, and random generators."""

from __future__ import annotations

import io
import logging
import pickle
import random
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import EzPickle
from gymnasium.vector import VectorEnv
from ray import cloudpickle

logger = logging.getLogger(__name__)

LARGEST = 64 * 2**20
"""Bytes of all environments of a runner, up to which a checkpoint holds them."""


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
    Others are pickled, which fails for most simulators that are not Python: None. gymnasium's ``EzPickle``, too, would
    only make the environment anew.
    """
    parts = [part for each in getattr(env.unwrapped, "envs", ()) for part in _layers(each)]
    if any(isinstance(part, EzPickle) and not _has_pair(part) for part in parts):
        return None
    single = list(_single(env))
    file = _Bounded()
    try:
        _Pickler(file, env, single).dump(env)
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


def _layers(env: gym.Env) -> Iterator[gym.Env]:
    """An environment with its wrappers, from the outermost."""
    yield env
    while isinstance(env, gym.Wrapper):
        env = env.env
        yield env


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
