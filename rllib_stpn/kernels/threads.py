"""Threads for kernels that release the GIL: one slice of the batch each."""

import collections
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

_local = threading.local()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def num_threads() -> int:
    """Number of threads a kernel call uses now: torch's, ``torch.set_num_threads`` changes both."""
    return torch.get_num_threads()


def run_slices(tasks) -> None:
    """Runs the callables at once, the first in the calling thread, and waits for all of them."""
    if len(tasks) == 1:
        tasks[0]()
        return
    # A forked child inherits the pool object without its threads, hence the process id in the key.
    key = (os.getpid(), len(tasks) - 1)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(len(tasks) - 1, thread_name_prefix="rllib-stpn-kernel")
    futures = [_pools[key].submit(task) for task in tasks[1:]]
    tasks[0]()
    for future in futures:
        future.result()


def workspace(slot: int, size: int) -> torch.Tensor:
    """``size`` uninitialised floats, the calling thread's own until it asks for the same slot again.

    Kept between calls, so that each need not take fresh pages from the system.
    """
    buffers: dict[int, torch.Tensor] = _local.__dict__.setdefault("buffers", {})
    if slot not in buffers or buffers[slot].numel() < size:
        buffers[slot] = torch.empty(size)
    return buffers[slot][:size]


class Lease:
    """``size`` uninitialised floats that outlive a call; dropped, they serve the next lease of about that size.

    For what forward keeps for backward, so that each call need not take fresh pages from the system.
    """

    _free: collections.deque[torch.Tensor] = collections.deque(maxlen=2)

    def __init__(self, size: int) -> None:
        try:
            self._whole = Lease._free.pop()  # in one step: no other thread gets the same
        except IndexError:
            self._whole = torch.empty(size)
        if not size <= self._whole.numel() <= 2 * size:
            self._whole = torch.empty(size)
        self.memory = self._whole[:size]

    def __del__(self) -> None:
        Lease._free.append(self._whole)
