"""Copies of what an environment returns, which may write its next step into the same arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def copied(value: Any) -> Any:
    """The same dicts, lists, tuples and arrays, none of them shared; any other object, which may be of any kind, is."""
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
