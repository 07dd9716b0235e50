"""How many steps ago, within a chunk of time, each product was added to the memory."""

import functools

import numpy as np


@functools.cache
def lags(steps: int) -> np.ndarray:
    """``[C + 1, C]``: steps since step s (columns) added its product, at step t or after the chunk (rows)."""
    t = np.arange(steps + 1, dtype=np.float32)
    return (t[:, None] - t[:-1] - 1).clip(0)
