"""Copies between arrays: rows that are no whole vectors, and samples side by side in the lanes of vectors.

Arrays "in lanes" have sixteen samples innermost, lane ``l`` of every vector for sample ``l``; the others are laid out
as torch has them. All are flat float32.
"""

import numpy as np

from rllib_stpn.kernels.simd.compiling import inline
from rllib_stpn.kernels.simd.vector import LANES, load, load_first, splat, store, store_first, transpose


@inline
def load_up_to(array, at, count):
    """Loads 16 elements, or ``count`` if that is less, and zeros."""
    if count >= LANES:
        return load(array, at)
    return load_first(array, at, count)


@inline
def store_up_to(array, at, value, count):
    """Stores 16 elements, or ``count`` if that is less."""
    if count >= LANES:
        store(array, at, value)
    else:
        store_first(array, at, value, count)


@inline
def clear(array, at, count):
    """Sets ``count`` elements to zero."""
    for i in range(0, count, LANES):
        store_up_to(array, at + i, splat(0.0), count - i)


@inline
def copy(target, to, source, at, count):
    """Copies ``count`` elements."""
    for i in range(0, count, LANES):
        store_up_to(target, to + i, load_up_to(source, at + i, count - i), count - i)


@inline
def fill(lanes, at, n, value):
    """Sets ``n`` vectors."""
    for j in range(n):
        store(lanes, at + j * LANES, value)


@inline
def add_to(lanes, at, value):
    """Adds to the vector that is stored there."""
    store(lanes, at, load(lanes, at) + value)


@inline
def gather(lanes, to, n, array, at, stride, count):
    """``lanes[j, l] = array[l, j]`` for ``count`` samples, ``stride`` apart."""
    for j in range(0, n, LANES):
        transpose(array, at + j, stride, lanes, to + j * LANES, LANES, count, n - j)


@inline
def scatter(array, at, stride, count, lanes, begin, n):
    """``array[l, j] = lanes[j, l]``."""
    for j in range(0, n, LANES):
        transpose(lanes, begin + j * LANES, LANES, array, at + j, stride, n - j, count)


@inline
def episode_begins(lanes, to, first, sample, steps, t, count):
    """Ones in the lanes in which an episode begins with step ``t``."""
    if first.size > 0 and t < steps:
        for s in range(count):
            lanes[to + s] = np.float32(first[(sample + s) * steps + t])
    else:
        store(lanes, to, splat(0.0))
    return load(lanes, to)
