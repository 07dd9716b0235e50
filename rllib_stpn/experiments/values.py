"""Values as files have them: as numbers, and in the words of errors."""

from collections.abc import Iterable
from typing import Any

from rllib_stpn.errors import UsageError, did_you_mean


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
    message = f"{where}: unknown {noun} {key!r}"
    if close := did_you_mean(str(key), allowed):
        return UsageError(f"{message}{close}")
    return UsageError(f"{message}; allowed are {', '.join(allowed)}" if list_all else message)


def in_words(value: Any) -> str:
    """What kind of value it is, for errors: ``"a mapping"``, ``"the string 'a'"``, ``"3"``."""
    names = {dict: "a mapping", list: "a list", str: "the string", type(None): "nothing"}
    if isinstance(value, (dict, list)) or value is None:
        return names[type(value)]
    return f"{names.get(type(value), '')} {value!r}".strip()
