"""Settings as nested dicts: merging them and taking ``grid_search`` apart."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any

GRID = "grid_search"


def is_grid(value: object) -> bool:
    """Whether ``value`` is ``{grid_search: [...]}``."""
    return isinstance(value, dict) and set(value) == {GRID}


def choices(value: Any) -> list[Any]:
    """The values a setting takes: those of its grid, or the one it has."""
    return list(value[GRID]) if is_grid(value) else [value]


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A new dict: ``base`` with ``over`` on top, level by level; a grid is replaced as a whole."""
    merged = copy.deepcopy(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict) and not is_grid(value) and not is_grid(below):
            merged[key] = merge(below, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def grids(settings: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Yields ``(path, value)`` for every dict with a ``grid_search`` key, well-formed or not."""
    if isinstance(settings, dict):
        if GRID in settings:
            yield path, settings
            return
        for key, value in settings.items():
            yield from grids(value, (*path, key))
    elif isinstance(settings, list):
        for index, value in enumerate(settings):
            yield from grids(value, (*path, index))


def points(settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the settings of every point of the grid, one dict without ``grid_search`` each."""
    swept = list(grids(settings))
    for values in itertools.product(*(grid[GRID] for _, grid in swept)):
        point = copy.deepcopy(settings)
        for (path, _), value in zip(swept, values, strict=True):
            place: Any = point
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = copy.deepcopy(value)
        yield point


def size(settings: dict[str, Any]) -> int:
    """The number of points of the grid."""
    number = 1
    for _, grid in grids(settings):
        number *= len(grid[GRID])
    return number
