"""Checks of values: valid values are returned, others raise a UsageError "WHERE: got X, allowed are Y"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from rllib_stpn.errors import UsageError, one_of


def integer(where: str, value: Any, at_least: int, at_most: int | None = None, *, or_none: bool = False) -> Any:
    """The value, if it is a whole number in the range, both ends included.

    Args:
        where: What the value was given for, as the user wrote it, e.g. ``"stpn: hidden_size"``.
        value: The value; True and False are no numbers.
        at_least: The least that is allowed.
        at_most: The most that is allowed, None for no bound.
        or_none: Whether None is allowed, too.
    """
    if or_none and value is None:
        return value
    right = isinstance(value, int) and not isinstance(value, bool)
    if right and value >= at_least and (at_most is None or value <= at_most):
        return value
    bounds = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
    raise _refused(where, value, f"a whole number {bounds}", or_none)


def number(
    where: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    or_none: bool = False,
) -> Any:
    """The value, if it is a finite number in the range.

    Args:
        where: What the value was given for.
        value: The value; True and False are no numbers.
        at_least: The least that is allowed, or
        above: what the number has to be greater than.
        at_most: The most that is allowed, None for no bound.
        or_none: Whether None is allowed, too.
    """
    if or_none and value is None:
        return value
    if (
        is_number(value)
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (at_most is None or value <= at_most)
    ):
        return value
    if at_least is not None and at_most is not None:
        raise _refused(where, value, f"a number from {at_least:g} to {at_most:g}", or_none)
    named = {"greater than": above, "of at least": at_least, "of at most": at_most}
    bounds = " and ".join(f"{name} {bound:g}" for name, bound in named.items() if bound is not None)
    raise _refused(where, value, f"a number {bounds}".strip(), or_none)


def is_number(value: Any) -> bool:
    """Whether it is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def flag(where: str, value: Any) -> bool:
    """The value, if it is True or False, and not a text such as "false"."""
    if isinstance(value, bool):
        return value
    raise UsageError(f"{where}: got {value!r}, allowed is true or false")


def choice(where: str, value: Any, allowed: Iterable[Any]) -> Any:
    """The value, if it is one of those allowed."""
    allowed = list(allowed)
    if value in allowed:
        return value
    raise one_of(where, value, allowed)


def mapping(where: str, value: Any) -> dict[str, Any]:
    """The value as a dict, if it is a mapping."""
    if isinstance(value, Mapping):
        return dict(value)
    raise UsageError(f"{where}: got {value!r}, allowed is a mapping")


def as_number(value: Any) -> float | int | None:
    """The value as a number, also of a text such as ``"1e6"``, which YAML does not read as one; None for all else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
        return int(value) if value.is_integer() else value
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def from_text(value: Any) -> Any:
    """The number for its text, and the int for a whole float. Any other value comes back as it is."""
    number = as_number(value)
    if number is None:
        return value
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _refused(where: str, value: Any, allowed: str, or_none: bool) -> UsageError:
    return UsageError(f"{where}: got {value!r}, allowed is {allowed}{', or None' if or_none else ''}")
