"""Threads for kernels that release the GIL: one slice of the batch each."""

import os
from concurrent.futures import ThreadPoolExecutor

import torch

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
