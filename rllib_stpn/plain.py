"""Settings as plain Python values, which every file format takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """The value with Python's own numbers and lists in place of NumPy's, at any depth; all else as it is.

    NumPy's numbers come into settings from ``np.logspace`` and its like. JSON does not take them, and a checkpoint with
    one cannot be read without running code.
    """
    import numpy as np

    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {plain(key): plain(below) for key, below in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(below) for below in value)
    return value
