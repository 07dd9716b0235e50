"""A layer's weights as the compiled loops read them, made once for as long as the weights stay the same."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

_local = threading.local()


@contextlib.contextmanager
def weights_unchanged() -> Iterator[None]:
    """Within, nothing changes the weights of layers, so that each is laid out once and not at every call.

    A rollout calls a layer for single steps, of which laying out the weights took 30 % with 64 samples of the maze
    (``benchmarks/stpn_kernel.py``). Holds for the current thread.
    """
    before = getattr(_local, "kept", None)
    _local.kept = {}
    try:
        yield
    finally:
        _local.kept = before


def laid_out(lay_out: Callable[..., Any], weights: tuple[torch.Tensor, ...], *options: Any) -> Any:
    """``lay_out(*weights, *options)``, or what it returned for them before within ``weights_unchanged``."""
    kept = getattr(_local, "kept", None)
    if kept is None:
        return lay_out(*weights, *options)
    # Torch counts the changes of a tensor: those in place are seen even here, but for those through `.data`.
    key = lay_out, options, *((id(weight), weight._version) for weight in weights)
    if key not in kept:
        kept[key] = lay_out(*weights, *options), weights  # which are kept, or another tensor could get an id of theirs
    return kept[key][0]
