"""What a sampling records, as arrays over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import tree

from rllib_stpn.rollouts.acting import map_leaves


class Recorder:
    """Arrays filled step by step, and the recurrent states with which sequences begin.

    All is copied, since an environment may write its next step into the same arrays. In memory time comes first, so
    that a step is written in one piece.

    Args:
        steps: How many steps are expected; more make the arrays grow.
    """

    def __init__(self, steps: int) -> None:
        self._capacity = steps
        self._columns: dict[str, Any] = {}
        self._states: list[Any] = []

    def put(self, t: int, values: dict[str, Any]) -> None:
        """Writes step ``t`` of some columns: arrays ``[B, ...]`` by name, in dicts and tuples for such spaces."""
        if t >= self._capacity:
            self._grow()
        for name, value in values.items():
            if name not in self._columns:
                self._columns[name] = map_leaves(self._allocate, value)
            if isinstance(value, np.ndarray):
                self._columns[name][t] = value
            else:
                tree.map_structure(lambda array, part: array.__setitem__(t, part), self._columns[name], value)

    def begin_sequence(self, state: Any) -> None:
        """Keeps the state ``[B, ...]``, tensors, in front of the step that comes."""
        self._states.append(tree.map_structure(lambda leaf: leaf.detach().cpu().numpy().copy(), state))

    def columns(self, steps: int) -> dict[str, Any]:
        """The first steps of each column, ``[B, steps, ...]``, as views with time first in memory."""
        return {
            name: map_leaves(lambda array: array[:steps].swapaxes(0, 1), column)
            for name, column in self._columns.items()
        }

    @property
    def sequences(self) -> int:
        """How many were begun."""
        return len(self._states)

    def states(self) -> Any:
        """The states, ``[B, sequences, ...]``; None where none was kept."""
        if not self._states:
            return None
        if len(self._states) == 1:
            return tree.map_structure(lambda leaf: leaf[:, None], self._states[0])
        return tree.map_structure(lambda *leaves: np.stack(leaves, axis=1), *self._states)

    def _allocate(self, value: Any) -> np.ndarray:
        value = np.asarray(value)
        return np.empty((self._capacity, *value.shape), dtype=value.dtype)

    def _grow(self) -> None:
        self._capacity += max(8, self._capacity // 4)

        def grown(array: np.ndarray) -> np.ndarray:
            larger = np.empty((self._capacity, *array.shape[1:]), dtype=array.dtype)
            larger[: len(array)] = array
            return larger

        self._columns = {name: map_leaves(grown, column) for name, column in self._columns.items()}
