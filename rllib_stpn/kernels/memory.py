"""Scratch memory that outlives calls, so that a call need not ask the system for fresh pages."""

import collections
import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

_LINE = 16  # floats in a cache line
_NOTHING = np.empty(0, dtype=np.float32)

_local = threading.local()


def flat(*arrays: torch.Tensor | np.ndarray | None) -> list[np.ndarray]:
    """As numba's loops take them: contiguous, in one dimension; empty for None."""
    # numpy's ravel copies what is expanded, such as the gradient of a sum, where its reshape would not.
    return [
        _NOTHING if a is None else (a.numpy(force=True) if isinstance(a, torch.Tensor) else a).ravel() for a in arrays
    ]


def uninitialised(*shape: int) -> torch.Tensor:
    """As ``torch.empty``, in float32; large ones are in huge pages, which numpy asks for, where the system has them."""
    return torch.from_numpy(_floats(math.prod(shape)).reshape(shape))


def _floats(size: int) -> np.ndarray:
    memory = np.empty(size + _LINE, dtype=np.float32)
    start = -(memory.ctypes.data // 4) % _LINE
    return memory[start : start + size]


def workspace(slot: int, size: int) -> np.ndarray:
    """``size`` uninitialised floats, the calling thread's own until it asks for the same slot again."""
    buffers: dict[int, np.ndarray] = _local.__dict__.setdefault("buffers", {})
    if slot not in buffers or buffers[slot].size < size:
        buffers[slot] = _floats(size)
    return buffers[slot][:size]


class Lease:
    """``size`` uninitialised floats for what forward keeps for backward.

    When a lease is dropped, the next one of about its size takes over its memory.
    """

    _free: collections.deque[np.ndarray] = collections.deque(maxlen=2)

    def __init__(self, size: int) -> None:
        try:
            self._whole = Lease._free.pop()  # in one step: no other thread gets the same
        except IndexError:
            self._whole = _floats(size)
        if not size <= self._whole.size <= 2 * size:
            self._whole = _floats(size)
        self.memory = self._whole[:size]

    def __del__(self) -> None:
        Lease._free.append(self._whole)


@contextlib.contextmanager
def memory_left_unfilled() -> Iterator[None]:
    """Within, torch does not fill new memory before an operation writes to it; results are the same.

    With a ``seed`` RLlib switches on torch's deterministic algorithms, and torch then fills all new memory with NaN, to
    show who reads it too early. That took 16 % of the time of an LSTM's update.
    """
    settings: Any = torch.utils.deterministic
    before = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = before
