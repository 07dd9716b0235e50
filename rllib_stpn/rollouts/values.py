"""Values that environments return: whether they are numbers or flags, fit their spaces, and how large they are."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import tree


def is_number(reward: Any) -> bool:
    """Whether a reward is a number, of Python, numpy or torch."""
    if isinstance(reward, np.ndarray | np.generic):
        return reward.size == 1 and reward.dtype.kind in "fiub"
    return hasattr(reward, "__float__")


def is_flag(value: Any) -> bool:
    """Whether a value says yes or no: a bool, or a number that is 0 or 1."""
    return isinstance(value, bool | np.bool_) or (is_number(value) and float(value) in (0.0, 1.0))


def misfit(space: gym.Space, observation: Any) -> str | None:
    """How an observation differs from its space in structure, shape or type, in words; None where it fits."""
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(observation, dict) or set(observation) != set(space):
            given = sorted(map(str, observation)) if isinstance(observation, dict) else type(observation).__name__
            return f"of {given}, where its space has {sorted(map(str, space))}"
        parts = [(f"[{key!r}]", space[key], observation[key]) for key in space]
    elif isinstance(space, gym.spaces.Tuple):
        if not isinstance(observation, (tuple, list)) or len(observation) != len(space):
            return f"of {type(observation).__name__}, where its space has a tuple of {len(space)}"
        parts = [(f"[{i}]", each, value) for i, (each, value) in enumerate(zip(space, observation, strict=True))]
    elif space.shape is None or space.dtype is None:
        return None if space.contains(observation) else f"{observation!r} that is not in {space}"
    else:
        try:
            array = np.asarray(observation)
        except ValueError:
            return f"of {type(observation).__name__} that is no array, where its space has the shape {space.shape}"
        if array.dtype.kind in "OUS":
            return f"of the type {type(observation).__name__}, where its space has {space.dtype}"
        if array.shape != space.shape:
            return f"of the shape {array.shape}, where its space has {space.shape}"
        if not np.can_cast(array.dtype, space.dtype, casting="same_kind"):
            return f"of the type {array.dtype}, where its space has {space.dtype}"
        return None
    for name, each, value in parts:
        if below := misfit(each, value):
            return f"{name} {below}"
    return None


def batch_misfit(space: gym.Space, observations: Any, number: int) -> str | None:
    """How ``number`` observations in a batch differ in structure, shape or type from their space; None if they fit."""
    parts: list[tuple[Any, gym.Space, Any]]
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(observations, dict) or set(observations) != set(space):
            return misfit(space, observations)
        parts = [(name, each, observations[name]) for name, each in space.items()]
    elif isinstance(space, gym.spaces.Tuple):
        if not isinstance(observations, tuple | list) or len(observations) != len(space):
            return misfit(space, observations)
        parts = [(i, each, values) for i, (each, values) in enumerate(zip(space, observations, strict=True))]
    elif space.shape is None:
        return None
    else:
        shape, dtype = getattr(observations, "shape", None), getattr(observations, "dtype", None)
        if shape != (number, *space.shape):
            return f"of the shape {shape}, where its space has {(number, *space.shape)}"
        if getattr(dtype, "kind", "f") not in "fiub":
            return f"of the type {dtype}, where its space has {space.dtype}"
        return None
    for name, each, values in parts:
        if below := batch_misfit(each, values, number):
            return f"[{name!r}] {below}"
    return None


def largest(values: Any) -> tuple[int, float, Any]:
    """The largest absolute value among the floats of ``[B, ...]``; NaN counts as infinite.

    Returns:
        Its row, the value, and that row of the array it is in.
    """
    row, size, found = 0, 0.0, None
    for leaf in (values,) if isinstance(values, np.ndarray) else tree.flatten(values):
        leaf = np.asarray(leaf)
        if leaf.dtype.kind != "f" or not leaf.size:
            continue
        high, low = float(leaf.max()), float(leaf.min())  # both NaN if any is
        of_leaf = max(high, -low) if high == high else math.inf
        if of_leaf > size:
            rows = np.abs(leaf.reshape(len(leaf), -1)).max(axis=1)
            row = int(np.argmax(np.where(np.isnan(rows), math.inf, rows)))
            size, found = of_leaf, leaf[row]
    return row, size, found
