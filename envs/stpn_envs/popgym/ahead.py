"""Random numbers drawn from many generators in blocks, as if each had been drawn when it was needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["DrawnAhead"]

_BLOCK = 32  # steps


class DrawnAhead:
    """The same numbers, in the same order, as one call of a generator at every step would give.

    Args:
        generators: One for each environment; the list is shared with its owner, who replaces what is seeded anew.
        method: Which method of the generators draws, ``"random"`` or ``"standard_normal"``.
        count: How many numbers each step takes.
    """

    def __init__(self, generators: Sequence[np.random.Generator], method: str, count: int):
        self._generators, self._method = generators, method
        self._numbers = np.zeros((len(generators), _BLOCK, count))
        self._used = np.full(len(generators), _BLOCK)  # steps of the block
        self._before: list[Any] = [None] * len(generators)  # states from which blocks were drawn

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return the next numbers of the generators `rows`, float64 ``[len(rows), count]``."""
        for row in rows[self._used[rows] == _BLOCK].tolist():
            self._before[row] = self._generators[row].bit_generator.state
            self._numbers[row] = getattr(self._generators[row], self._method)(self._numbers.shape[1:])
            self._used[row] = 0
        numbers = self._numbers[rows, self._used[rows]]
        self._used[rows] += 1
        return numbers

    def settle(self, rows: np.ndarray) -> None:
        """Put the generators `rows` where they are without what was drawn and not taken."""
        for row in rows[self._used[rows] < _BLOCK].tolist():
            generator = self._generators[row]
            generator.bit_generator.state = self._before[row]
            getattr(generator, self._method)((self._used[row], self._numbers.shape[2]))
        self.forget(rows)

    def forget(self, rows: Any) -> None:
        """Drop what was drawn: the generators `rows` are new ones."""
        self._used[rows] = _BLOCK
