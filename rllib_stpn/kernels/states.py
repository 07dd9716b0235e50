"""Leave to write a new state over the old one."""

import contextlib
import threading
from collections.abc import Iterator

_leave = threading.local()


@contextlib.contextmanager
def overwriting_states(allowed: bool = True) -> Iterator[None]:
    """Within, calls without gradients may return the state in the memory of the one they were given.

    A plastic state is large (43 MB for 64 samples on Pong). A rollout that keeps only the newest one saves itself fresh
    memory for each step. Holds for the current thread.
    """
    before = overwriting()
    _leave.given = allowed
    try:
        yield
    finally:
        _leave.given = before


def overwriting() -> bool:
    """Whether the current thread is within ``overwriting_states``."""
    return getattr(_leave, "given", False)
