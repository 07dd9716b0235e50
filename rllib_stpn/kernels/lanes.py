"""What the kernels share; above all, sixteen samples side by side, lane ``l`` of every vector for sample ``l``.

Arrays "in lanes" have the sixteen samples innermost; the others are laid out as torch has them. All are flat float32.
"""

import numba
import numpy as np

from rllib_stpn.kernels import disk_cache
from rllib_stpn.kernels.vector import (
    LANES,
    absolute,
    at_least,
    at_most,
    copy_sign,
    load,
    load_first,
    power_of_two,
    splat,
    store,
    store_first,
    transpose,
)

inline = numba.njit(forceinline=True, error_model="numpy")
compiled_part = numba.njit(error_model="numpy")


def compiled(arguments):
    """Compiles for one signature at once, or takes from the disk what was compiled before."""
    code = {"f": "float32[::1]", "b": "uint8[::1]", "i": "int64", "s": "float32"}
    signature = f"void({', '.join(code[a] for a in arguments)})"

    def compile_now(function):
        options = {"nogil": True, "error_model": "numpy"}
        place = disk_cache.directory()
        if place is not None:
            try:
                with disk_cache.used_by_numba(place):
                    return numba.njit(signature, cache=True, **options)(function)
            except Exception as error:  # A full disk, or files that were cut short, which fail in many ways.
                disk_cache.give_up(place, error)
        return numba.njit(signature, **options)(function)

    return compile_now


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


@inline
def _expm1(t):
    # exp(t) - 1 for t from 0 to 80, and exp(t); a sum would lose the relative accuracy of small arguments.
    magic = splat(12582912.0)  # 1.5 * 2**23: adding it rounds to an integer
    shifted = t * splat(1.4426950408889634) + magic
    n = shifted - magic
    r = t - n * splat(0.693145751953125)
    r = r - n * splat(1.428606765330187e-06)
    p = r * splat(1.0 / 5040.0) + splat(1.0 / 720.0)
    p = p * r + splat(1.0 / 120.0)
    p = p * r + splat(1.0 / 24.0)
    p = p * r + splat(1.0 / 6.0)
    p = p * r + splat(0.5)
    p = p * r * r + r
    scale = power_of_two(shifted)
    return scale * p + (scale - splat(1.0))


@inline
def tanh(x):
    """Tanh of every lane, to a few units in the last place."""
    e = _expm1(at_most(absolute(x) * splat(2.0), splat(20.0)))
    return copy_sign(e / (e + splat(2.0)), x)


@inline
def sigmoid(x):
    """Logistic function of every lane, to a few units in the last place."""
    one, half = splat(1.0), splat(0.5)
    low = one / (_expm1(at_most(absolute(x), splat(80.0))) + splat(2.0))  # of -|x|
    positive = half + copy_sign(half, x)
    return low + positive * (one - low - low)


@inline
def bounded(x, bound):
    """``x`` cut off at ``±bound``."""
    return at_least(at_most(x, bound), splat(0.0) - bound)
