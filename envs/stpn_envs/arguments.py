"""Checks of constructor arguments: the value back if it is right, else the `ValueError` that says what it has to be."""

from __future__ import annotations

import difflib
import inspect
import math
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode


def integer(name: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as an int if it is an integer in the range (both ends included)."""
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_integer or value < minimum or (maximum is not None and value > maximum):
        limit = "" if maximum is None else f" and at most {maximum}"
        raise ValueError(f"{name} is {value!r}; it has to be an integer of at least {minimum}{limit}")
    return int(value)


def number(name: str, value: Any, minimum: float) -> float:
    """Return `value` as a float if it is a finite number of at least `minimum`."""
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < minimum:
        raise ValueError(f"{name} is {value!r}; it has to be a finite number of at least {minimum:g}")
    return float(value)


def autoreset(value: AutoresetMode | str) -> AutoresetMode:
    """Return the autoreset mode, same-step or next-step, that a `gymnasium.vector.AutoresetMode` or its value names."""
    if value not in (AutoresetMode.SAME_STEP, "SameStep", AutoresetMode.NEXT_STEP, "NextStep"):
        raise ValueError(f"autoreset_mode is {value!r}; it can be 'SameStep' or 'NextStep'")
    return AutoresetMode(value)


def refuse(cls: type, unknown: dict[str, Any]) -> None:
    """Raise for arguments that `cls` does not have, with the nearest name of those it has."""
    if unknown:
        parameters = inspect.signature(cls).parameters.values()
        names = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
        given = next(iter(unknown))
        meant = difflib.get_close_matches(given, names, n=1)
        hint = f", did you mean {meant[0]!r}?" if meant else "."
        raise ValueError(f"{cls.__name__} has no argument {given!r}{hint} It has {', '.join(names)}")
