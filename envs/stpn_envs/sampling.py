"""Random numbers for many environments at once: what environment i draws depends on its own seed and history alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["Draw", "Streams", "distinct"]

Draw = Callable[[Any], np.ndarray]
"""``draw(high)``: an array of independent integers, uniform in 0 .. high - 1; `high` broadcasts against it."""

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio
_EPISODE = np.uint64(32)  # the counter's upper half counts episodes, the lower the draws of one


class Streams:
    """One stream of random numbers per environment, computed from a key and a counter.

    Draw k of episode e of the stream with seed s is ``mix(mix(s) + (2**32 e + k) step)``, all modulo 2**64, with the
    finaliser and the step of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA
    2014). So a whole array of streams is drawn from at once, an environment of a batch gets what it would get alone,
    and an episode does not depend on how many numbers the ones before it used.
    """

    def __init__(self, num_streams: int):
        self._keys = np.zeros(num_streams, np.uint64)
        self._counters = np.zeros(num_streams, np.uint64)

    def seed(self, seeds: Mapping[int, int]) -> None:
        """Start some streams anew, from a seed each, taken modulo 2**64."""
        rows = list(seeds)
        self._keys[rows] = _mix(np.array([seeds[row] % 2**64 for row in rows], np.uint64))
        self._counters[rows] = 0

    def next_episode(self, rows: np.ndarray) -> None:
        """Move the streams `rows` to the numbers of their next episode."""
        self._counters[rows] = ((self._counters[rows] >> _EPISODE) + np.uint64(1)) << _EPISODE

    def bits(self, rows: np.ndarray, count: int) -> np.ndarray:
        """Return the next `count` numbers of the streams `rows`, 64 random bits each: uint64 ``[len(rows), count]``."""
        counters = self._counters[rows]
        self._counters[rows] = counters + np.uint64(count)
        # modulo 2**64, as numpy's arrays of unsigned integers are
        return _mix(self._keys[rows][:, None] + (counters[:, None] + np.arange(count, dtype=np.uint64)) * _STEP)

    def integers(self, rows: np.ndarray, high: Any, *, size: tuple[int, ...] = ()) -> np.ndarray:
        """Return integers uniform in 0 .. high - 1, int64 ``[len(rows), *size]``.

        `high` is at most 2**32 and broadcasts against the result; chances are off by less than 2**-32.
        """
        shape = (len(rows), *size)
        halves = self.bits(rows, int(np.prod(size))).reshape(shape) >> np.uint64(32)
        return ((halves * np.asarray(high, np.uint64)) >> np.uint64(32)).astype(np.int64)


def distinct(draw: Draw, high: Any, count: int) -> np.ndarray:
    """Draw `count` different integers of 0 .. high - 1, every choice and order as likely: ``[..., count]``.

    Draw k picks one of the ``high - k`` values that are left, counted from the smallest.
    """
    chosen: list[np.ndarray] = []
    for k in range(count):
        value = draw(high - k)
        for taken in np.sort(np.stack(chosen), axis=0) if chosen else ():
            value = value + (value >= taken)
        chosen.append(value)
    return np.stack(chosen, axis=-1)


def _mix(x: np.ndarray) -> np.ndarray:
    """Scatter the bits of `x` (splitmix64's finaliser)."""
    x = x + _STEP
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
