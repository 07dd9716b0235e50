"""Values of any space as flat arrays, laid out as gymnasium's `flatten` does, a whole batch at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

__all__ = ["bounds", "flat"]


def bounds(space: spaces.Space) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest numbers of a space's flat values, float64 ``[size]`` each.

    Raises:
        ValueError: Its flat values have no fixed size.
    """
    as_box = spaces.flatten_space(space)
    if not isinstance(as_box, spaces.Box):
        raise ValueError(f"{space} has no fixed size when flat")
    return as_box.low.astype(np.float64), as_box.high.astype(np.float64)


def flat(space: spaces.Space, values: Any, lead: tuple[int, ...] = ()) -> np.ndarray:
    """Return values ``[*lead, ...]`` of a space as ``[*lead, size]``: numbers one-hot, all else as it is.

    Args:
        space: Of one value.
        values: Arrays, in dicts and tuples for such spaces.
        lead: ``(n,)`` for a batch, ``()`` for one value.
    """
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        keys: Any = space.spaces if isinstance(space, spaces.Dict) else range(len(space.spaces))
        return np.concatenate([flat(space[key], values[key], lead) for key in keys], axis=-1)
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        return np.asarray(values).reshape(*lead, -1)
    if isinstance(space, spaces.Discrete):
        return np.arange(int(space.n)) == (np.asarray(values) - space.start)[..., None]
    if isinstance(space, spaces.MultiDiscrete):
        numbers, counts = (np.asarray(values) - space.start).reshape(*lead, -1), space.nvec.ravel()
        return np.concatenate([np.arange(n) == numbers[..., i, None] for i, n in enumerate(counts)], axis=-1)
    each: Any = [spaces.flatten(space, value) for value in values] if lead else spaces.flatten(space, values)
    return np.asarray(each)
