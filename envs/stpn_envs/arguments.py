"""Checks of arguments: what is right comes back, what is not is a `ValueError` "NAME: got X, allowed are Y"."""

from __future__ import annotations

import difflib
import inspect
import math
import operator
from collections.abc import Iterable
from typing import Any, TypeGuard

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode


def is_integer(value: Any) -> TypeGuard[int | np.integer]:
    """Whether it is an integer of Python or numpy; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def integer(name: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as an int if it is an integer in the range (both ends included)."""
    if not is_integer(value) or value < minimum or (maximum is not None and value > maximum):
        bounds = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise ValueError(f"{name}: got {value!r}, allowed is a whole number {bounds}")
    return int(value)


def number(name: str, value: Any, minimum: float, maximum: float = math.inf) -> float:
    """Return `value` as a float if it is a finite number in the range (both ends included)."""
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not minimum <= value <= maximum:
        bounds = f"of at least {minimum:g}" if maximum == math.inf else f"from {minimum:g} to {maximum:g}"
        raise ValueError(f"{name}: got {value!r}, allowed is a finite number {bounds}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """Return `value` as a bool if it is True or False, of Python or of numpy."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}: got {value!r}, allowed is true or false")
    return bool(value)


def choice(name: str, value: Any, allowed: Iterable[Any]) -> Any:
    """Return `value` if it is one of those allowed."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{name}: got {value!r}, allowed are {', '.join(map(repr, allowed))}")
    return value


def did_you_mean(given: Any, names: Iterable[str], most: int = 3) -> str:
    """Return the end of a message with the names that the given one may stand for, or nothing."""
    close = difflib.get_close_matches(str(given), list(names), n=most)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def seeds_in(value: Any, num_envs: int) -> dict[int, int]:
    """Return ``{row: seed}`` for None, or for a list with a seed or None for each environment."""
    given = [None] * num_envs if value is None else list(value)
    if len(given) != num_envs:
        raise ValueError(f"seed: got {len(given)} entries, allowed is one for each of {num_envs} environments")
    return {row: integer(f"seed[{row}]", seed, minimum=0) for row, seed in enumerate(given) if seed is not None}


def reset_mask(mask: Any, num_envs: int) -> np.ndarray:
    """Return the rows that a reset's mask chooses, at least one."""
    if not (isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == (num_envs,)):
        raise ValueError(f"reset_mask: got {mask!r}, allowed is a bool array of shape ({num_envs},)")
    if not mask.any():
        raise ValueError("reset_mask: got no environment, allowed is at least one")
    return np.flatnonzero(mask)


def autoreset(value: AutoresetMode | str, *modes: AutoresetMode) -> AutoresetMode:
    """Return which of `modes` (none given: same-step and next-step) an autoreset mode or its value names."""
    allowed = modes or (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)
    for mode in allowed:
        if value in (mode, mode.value):
            return mode
    raise ValueError(f"autoreset_mode: got {value!r}, allowed are {', '.join(repr(mode.value) for mode in allowed)}")


def action_in(space: spaces.Space, value: Any) -> np.ndarray:
    """Return one action as an array, int64 or float64, if it is in the space; the bounds of a Box are not checked."""
    try:
        action = np.asarray(operator.index(value) if isinstance(space, spaces.Discrete) else value)
        wrong = action.shape != space.shape or action.dtype.kind not in _kinds(space) or _outside(space, action).any()
    except (TypeError, ValueError):  # not an integer; a ragged list
        wrong = True
    if wrong:
        raise ValueError(f"action: got {value!r}, allowed is {_wanted(space)}")
    return action.astype(_TYPES[_kinds(space)], copy=False)


def actions_in(space: spaces.Space, values: Any, count: int) -> np.ndarray:
    """Return `count` actions as an array ``[count, ...]``, checked as `action_in` checks one."""
    actions, kinds = np.asarray(values), _kinds(space)
    shape = (count, *(space.shape or ()))
    if actions.shape != shape or actions.dtype.kind not in kinds:
        raise ValueError(
            f"actions: got {actions.dtype} of shape {actions.shape}, "
            f"allowed are {'integers' if kinds == _INTEGERS else 'numbers'} of shape {shape}"
        )
    outside = _outside(space, actions)
    if outside.any():
        index = int(outside.reshape(count, -1).any(axis=1).argmax())
        raise ValueError(f"action of environment {index}: got {actions[index]}, allowed is {_wanted(space)}")
    return actions.astype(_TYPES[kinds], copy=False)


_INTEGERS, _NUMBERS = "iu", "fiu"  # kinds of types that actions may have
_TYPES = {_INTEGERS: np.int64, _NUMBERS: np.float64}


def _kinds(space: spaces.Space) -> str:
    return _NUMBERS if isinstance(space, spaces.Box) else _INTEGERS


def _range(space: spaces.Space) -> tuple[Any, Any]:
    """Return the first and last integer of a discrete space, or of each of its entries."""
    if isinstance(space, spaces.MultiBinary):
        return 0, 1
    size = space.n if isinstance(space, spaces.Discrete) else space.nvec  # type: ignore[attr-defined]
    return space.start, space.start + size - 1  # type: ignore[attr-defined]


def _outside(space: spaces.Space, actions: np.ndarray) -> np.ndarray:
    if isinstance(space, spaces.Box):
        return ~np.isfinite(actions)
    first, last = _range(space)
    return (actions < first) | (actions > last)


def _wanted(space: spaces.Space) -> str:
    if isinstance(space, spaces.Box):
        return f"finite numbers of shape {space.shape}"
    first, last = _range(space)
    if isinstance(space, spaces.Discrete):
        return f"an integer, {first} to {last}"
    return f"integers of shape {space.shape}, {first} to {last}"


def refuse(cls: type, unknown: dict[str, Any]) -> None:
    """Raise for arguments that `cls` does not have, with the nearest name of those it has."""
    if unknown:
        parameters = inspect.signature(cls).parameters.values()
        names = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
        given = next(iter(unknown))
        hint = did_you_mean(given, names, most=1)
        raise ValueError(f"{cls.__name__}: got the unknown argument {given!r}, allowed are {', '.join(names)}{hint}")
