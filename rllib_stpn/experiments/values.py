"""Values of a file in the words of errors."""

from typing import Any


def in_words(value: Any) -> str:
    """What kind of value it is, for errors: ``"a mapping"``, ``"the string 'a'"``, ``"3"``."""
    names = {dict: "a mapping", list: "a list", str: "the string", type(None): "nothing"}
    if isinstance(value, (dict, list)) or value is None:
        return names[type(value)]
    return f"{names.get(type(value), '')} {value!r}".strip()
