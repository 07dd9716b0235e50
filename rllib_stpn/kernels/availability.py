"""Whether the compiled loops can take a call; numba is imported here at the first question and not before."""

import functools
import warnings

import torch


def can_run_fused(*tensors: torch.Tensor | None) -> bool:
    """Whether the loops can run on these: float32 on the CPU, no autocasting, not traced, and numba installed."""
    if torch.compiler.is_compiling():  # torch.export and torch.compile look into plain torch alone
        return False
    fits = all(t is None or (t.is_cpu and t.dtype is torch.float32) for t in tensors)
    return fits and not torch.is_autocast_enabled("cpu") and numba_is_installed()


@functools.cache
def numba_is_installed() -> bool:
    """Whether numba can be imported; if not, a warning says once what that costs."""
    try:
        import numba  # noqa: F401
    except ImportError as error:
        warnings.warn(
            f"numba cannot be imported ({error}): plastic layers run in plain torch, five times slower or more",
            stacklevel=3,
        )
        return False
    return True
