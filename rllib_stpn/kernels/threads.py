"""Threads for kernels that release the GIL: one slice of the batch each."""

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from rllib_stpn.cpus import allowed_by_quota

_local = threading.local()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}

_SUBNORMAL = 1e-310  # the smallest normal double is 2.2e-308


if hasattr(os, "register_at_fork"):
    # GNU's OpenMP, with which torch shares out its work, has no threads in a forked child and waits for them for ever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def num_threads() -> int:
    """Number of threads a kernel call uses now: torch's (``torch.set_num_threads`` changes both), up to the CPU quota.

    torch itself takes no notice of a container's quota, beyond which threads only wait for their turn.
    """
    return _local.__dict__.get("kernel_threads") or int(min(torch.get_num_threads(), allowed_by_quota()))


def torch_on_one_thread() -> contextlib.AbstractContextManager[None]:
    """``torch_on_threads(1)``."""
    return torch_on_threads(1)


@contextlib.contextmanager
def torch_on_threads(count: int) -> Iterator[None]:
    """Within, torch's own operations take ``count`` threads, and kernels as many as before.

    After a parallel operation torch's other threads spin for a while, on the cores that the next kernel asks for. Where
    operations are small, as in a single step of a layer, that costs more than the parallel operation gained.
    """
    threads, kernel_threads = torch.get_num_threads(), _local.__dict__.get("kernel_threads")
    _local.kernel_threads = num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _local.kernel_threads = kernel_threads


def slices(parts: int, work: int, least: int) -> list[tuple[int, int, int]]:
    """Cuts ``parts`` into one slice per thread, ``(number, begin, end)``; into one where there is too little work.

    Args:
        parts: What can be shared out, e.g. samples.
        work: All of it, in any unit.
        least: Up to this much, a second thread costs more than it saves.
    """
    count = min(num_threads(), parts) if work > least else 1
    if count <= 1:
        return [(0, 0, parts)]
    edges = [parts * i // count for i in range(count + 1)]
    return list(zip(range(count), edges[:-1], edges[1:], strict=True))


@contextlib.contextmanager
def subnormals_are_zero() -> Iterator[None]:
    """Within, the current thread takes floats below the smallest normal one, 1.2e-38, for zero.

    A trace that decays passes through these numbers, and so do its gradients. A processor takes many times as long over
    them: forward and backward of an STPN of Pong's size up to seven times (benchmarks/subnormals.py).
    """
    was_so = _SUBNORMAL * 1.0 == 0.0  # torch has no question for it
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_so)


def run_slices(tasks) -> None:
    """Runs the callables at once, the first in the calling thread, and waits for all of them.

    Each of them takes subnormal numbers for zero.
    """
    if len(tasks) == 1:
        _run(tasks[0])
        return
    # A forked child inherits the pool object without its threads, hence the process id in the key.
    key = (os.getpid(), len(tasks) - 1)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(len(tasks) - 1, thread_name_prefix="rllib-stpn-kernel")
    futures = [_pools[key].submit(_run, task) for task in tasks[1:]]
    _run(tasks[0])
    for future in futures:
        future.result()


def _run(task) -> None:
    with subnormals_are_zero():
        task()
