"""Copies of what an environment returns, which may write its next step into the same arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def copied(value: Any) -> Any:
    """The same dicts, lists, tuples and arrays, none of them shared; any other object, which may be of any kind, is."""
    if isinstance(value, np.ndarray):
        if value.dtype != object:
            return value.copy()
        copies = np.empty(value.size, dtype=object)
        copies[:] = [copied(each) for each in value.flat]
        return copies.reshape(value.shape)
    if type(value) is dict:
        return {key: copied(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(each) for each in value)
    return value
