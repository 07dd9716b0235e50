"""Threads for kernels that release the GIL: one slice of the batch each."""

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

    Kept between calls: fresh pages would cost a small kernel more than its arithmetic.
    """
    buffers: dict[int, torch.Tensor] = _local.__dict__.setdefault("buffers", {})
    if slot not in buffers or buffers[slot].numel() < size:
        buffers[slot] = torch.empty(size)
    return buffers[slot][:size]
