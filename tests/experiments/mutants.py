"""Files of experiments with one thing wrong in each: what a slip of the hand, or of a script, makes of a file."""

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

#: What takes a value's place, by the name of the slip.
VALUES: dict[str, list[Any]] = {
    "not finite": [float("nan"), float("inf"), float("-inf"), "@1e999@"],
    "out of range": [-1, 0, 3.7, -0.5, 1e30, 2**70, -(2**70)],
    "other type": ["a", "", None, True, [], {}, [[1, 2]], [["a", "b"]], {"a": 1}, ["a"], [0, -1], "1e-3", [None]],
}
NUMBERS = ("not finite", "out of range")
SLIPS = ("misspelt", "unknown", "twice", *VALUES)
UNKNOWN = "nonsense_for_this"


class Mutant(NamedTuple):
    """A file with one slip.

    Attributes:
        slip: One of ``SLIPS``.
        path: Where: the keys and indices from the file's top.
        value: What stands there: a key for the first three slips.
        text: The whole file.
    """

    slip: str
    path: tuple
    value: Any
    text: str

    def __str__(self) -> str:
        return f"{self.slip} at {'.'.join(map(str, self.path))}: {self.value!r}"


def mutants(file: Path, number: int, draw: random.Random) -> Iterator[Mutant]:
    """Draws mutants of a YAML file; none of one that is no mapping.

    Args:
        file: The file.
        number: How many.
        draw: Where from.
    """
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    places = list(_places(tree, ()))
    mappings = [path for path, value in places if isinstance(value, dict) and value]
    numbers = [path for path, value in places if isinstance(value, int | float) and not isinstance(value, bool)]
    for _ in range(number):
        slip = draw.choice(SLIPS)
        mutated = copy.deepcopy(tree)
        if slip in VALUES:
            path = draw.choice(numbers if slip in NUMBERS and numbers else [path for path, _ in places])
            value = draw.choice(VALUES[slip])
            mutated = _put(mutated, path, value)
        else:
            path = draw.choice(mappings)
            block = _at(mutated, path)
            key = draw.choice(list(block))
            value = {"misspelt": _misspelt(str(key), draw), "unknown": UNKNOWN, "twice": key}[slip]
            if value in block and slip != "twice":
                continue
            if slip == "twice":
                block[f"@{key}@"] = draw.choice([1, "other", {"a": 1}])
            else:
                items = [(value if slip == "misspelt" and name == key else name, old) for name, old in block.items()]
                items += [(value, draw.choice([1, "a", {"a": 1}, None]))] if slip == "unknown" else []
                block.clear()
                block.update(items)
        yield Mutant(slip, path, value, _text(mutated))


def _places(value: Any, path: tuple) -> Iterator[tuple[tuple, Any]]:
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from _places(below, (*path, key))


def _at(tree: Any, path: tuple) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _put(tree: Any, path: tuple, value: Any) -> Any:
    if not path:
        return value
    _at(tree, path[:-1])[path[-1]] = value
    return tree


def _misspelt(key: str, draw: random.Random) -> str:
    place = draw.randrange(max(1, len(key) - 1))
    return draw.choice([
        key[:place] + key[place + 1 :],  # one left out
        key[:place] + key[place : place + 1] + key[place:],  # one twice
        key[:place] + key[place : place + 2][::-1] + key[place + 2 :],  # two in the other order
        key[:place] + "q" + key[place + 1 :],
    ])  # fmt: skip


def _text(tree: Any) -> str:
    """YAML, with what stands between two @ as it is."""
    text = yaml.safe_dump(tree, sort_keys=False, width=10_000)
    return text.replace("'@", "").replace("@'", "")
