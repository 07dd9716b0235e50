"""Settings as nested dicts: merging them, and the searches in them.

A search is a mapping with one key that stands in place of a value: ``grid_search: [a, b]`` takes every value,
``choice: [a, b]`` one at random, and ``uniform``, ``loguniform`` and ``randint`` a number between two. What is random
is drawn anew for each sample.
"""

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from rllib_stpn import checks
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.values import in_words

GRID = "grid_search"
RANGES = ("uniform", "loguniform", "randint")
SEARCHES = (GRID, "choice", *RANGES)


def kind(value: object) -> str | None:
    """Which search a value is, None where it is none."""
    if isinstance(value, dict) and len(value) == 1:
        (key,) = value
        return key if key in SEARCHES else None
    return None


def is_search(value: object) -> bool:
    """Whether a value is a search."""
    return kind(value) is not None


def choices(value: Any) -> list[Any]:
    """The values that a setting can take: those of its search (both ends of a range), or the one that it has."""
    found = kind(value)
    if found is None:
        return [value]
    low_and_high = list(value[found])
    return [low_and_high[0], low_and_high[1] - 1] if found == "randint" else low_and_high


def change(value: Any, function: Callable[[Any], Any]) -> Any:
    """A function of a value; of a search, the search over the function of each of its values."""
    found = kind(value)
    searched = value[found] if found else None
    return {found: [function(each) for each in searched]} if isinstance(searched, list | tuple) else function(value)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A new dict: ``base`` with ``over`` on top, level by level; a search is replaced as a whole."""
    merged = copy.deepcopy(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict) and not is_search(value) and not is_search(below):
            merged[key] = merge(below, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def find(settings: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Yields path and value of every search, and of every dict that has ``grid_search`` beside other keys."""
    if isinstance(settings, dict):
        if GRID in settings or is_search(settings):
            yield path, settings
            return
        for key, value in settings.items():
            yield from find(value, (*path, key))
    elif isinstance(settings, list):
        for index, value in enumerate(settings):
            yield from find(value, (*path, index))


def points(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the settings of each combination of the searches' values, both ends of a range among them.

    The first ones have each value of each search at least once, for those who look at some points only.
    """
    searched = [(path, list(choices(search))) for path, search in find(settings)]
    lengths = [len(values) for _, values in searched]
    first = [tuple(i % length for length in lengths) for i in range(max(lengths, default=1))]
    others = (indices for indices in itertools.product(*map(range, lengths)) if indices not in first)
    for indices in itertools.chain(first, others):
        point = copy.deepcopy(settings)
        for (path, values), index in zip(searched, indices, strict=True):
            place: Any = point
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = copy.deepcopy(values[index])
        yield point


def size(settings: dict[str, Any]) -> int:
    """How many trials a sample has: one for each point of the grid; a value that is drawn at random counts once."""
    number = 1
    for _, search in find(settings):
        number *= len(search.get(GRID, (None,)))
    return number


def check(where: str, settings: dict[str, Any]) -> None:
    """Checks every search, and makes numbers of the ends of ranges, which YAML may read as texts.

    Args:
        where: What holds the settings.
        settings: The settings. Ranges in them are modified.

    Raises:
        UsageError: A search has no values, or other keys beside it.
    """
    for path, block in find(settings):
        key = ".".join(map(str, path))
        found = kind(block)
        if found is None:
            others = ", ".join(repr(k) for k in block if k != GRID)
            raise UsageError(f"{where}: {key}: got {others} beside grid_search, allowed is grid_search alone")
        values = block[found]
        if found in RANGES:
            block[found] = _range(f"{where}: {key}: {found}", found, values)
        elif not isinstance(values, list) or not values:
            raise UsageError(f"{where}: {key}: {found}: got {in_words(values)}, allowed is a list of values")


def _range(where: str, kind: str, values: Any) -> list[float]:
    ends = [checks.as_number(value) for value in values] if isinstance(values, list) else []
    low, high = ends if len(ends) == 2 else (None, None)
    whole = kind != "randint" or all(isinstance(end, int) for end in ends)
    if low is None or high is None or not low < high or not whole or (kind == "loguniform" and low <= 0):
        numbers = {"randint": "whole numbers", "loguniform": "numbers above 0"}.get(kind, "numbers")
        raise UsageError(f"{where}: got {values!r}, allowed are two {numbers} [low, high] with low < high")
    return [low, high]
