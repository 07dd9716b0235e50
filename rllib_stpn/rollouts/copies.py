"""Copies of what an environment returns: it may write its next step into the same arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import VectorWrapper


def copied(value: Any) -> Any:
    """A copy of nested dicts, lists, tuples and arrays; objects of other types are shared with the original."""
    if isinstance(value, np.ndarray):
        if value.dtype != object:
            return value.copy()
        copies = np.empty_like(value)
        for index in np.ndindex(value.shape):  # numpy would take arrays of one length for another axis
            copies[index] = copied(value[index])
        return copies
    if type(value) is dict:
        return {key: copied(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(each) for each in value)
    return value


class OwnArrays(VectorWrapper):
    """Returns copies of what the environments return, and batches of texts as arrays.

    RLlib's runner stores the vector environment's own arrays in its episodes. An environment that reuses its arrays
    would change steps that are already stored. Also, RLlib would split a batch of texts into letters.
    """

    def reset(self, **kwargs: Any) -> Any:
        """The environments' reset, copied."""
        observations, infos = self.env.reset(**kwargs)
        return _texts_in_arrays(copied(observations)), copied(infos)

    def step(self, actions: Any) -> Any:
        """The environments' step, copied."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        return (
            _texts_in_arrays(copied(observations)),
            *(copied(each) for each in (rewards, terminated, truncated, infos)),
        )


def _texts_in_arrays(observations: Any) -> Any:
    """Observations in which batches of texts, tuples in gymnasium, are arrays."""
    if isinstance(observations, dict):
        return {key: _texts_in_arrays(part) for key, part in observations.items()}
    if isinstance(observations, tuple):
        if observations and isinstance(observations[0], str):
            return np.array(observations, dtype=object)
        return tuple(_texts_in_arrays(part) for part in observations)
    return observations
