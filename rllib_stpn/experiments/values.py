"""Values as files have them: as numbers, and in the words of errors."""

import difflib
from collections.abc import Iterable
from typing import Any

from rllib_stpn.errors import UsageError


def as_number(value: Any) -> float | int | None:
    """The value as a number, also of a text such as ``"1e6"``, which YAML does not read as one; None for all else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
        return int(value) if value.is_integer() else value
    return value if isinstance(value, (int, float)) else None


def integer(where: str, value: Any, at_least: int) -> int:
    """The value, or the error where it is no whole number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        given = value if isinstance(value, int) else in_words(value)
        raise UsageError(f"{where}: expected a whole number of at least {at_least}, got {given}")
    return value


def unknown_key(where: str, key: Any, allowed: Iterable[str], noun: str = "key", list_all: bool = False) -> UsageError:
    """The error for a key that does not exist, with the nearest ones that do.

    Args:
        where: What holds the key.
        key: As given.
        allowed: The keys that exist.
        noun: What a key is here.
        list_all: Whether to list ``allowed`` where none of them is near.
    """
    allowed = list(allowed)
    names = {name.lower(): name for name in allowed}
    given = str(key).lower()
    close = [name for low, name in names.items() if len(given) > 2 and low.startswith(given)][:3]
    close = close or [names[near] for near in difflib.get_close_matches(given, names, n=3, cutoff=0.6)]
    message = f"{where}: unknown {noun} {key!r}"
    if close:
        return UsageError(f"{message}; did you mean {' or '.join(close)}?")
    return UsageError(f"{message}; allowed are {', '.join(allowed)}" if list_all else message)


def in_words(value: Any) -> str:
    """What kind of value it is, for errors: ``"a mapping"``, ``"the string 'a'"``, ``"3"``."""
    names = {dict: "a mapping", list: "a list", str: "the string", type(None): "nothing"}
    if isinstance(value, (dict, list)) or value is None:
        return names[type(value)]
    return f"{names.get(type(value), '')} {value!r}".strip()
