"""Functions of every lane of a vector."""

from rllib_stpn.kernels.simd.compiling import inline
from rllib_stpn.kernels.simd.vector import absolute, at_least, at_most, copy_sign, power_of_two, splat


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
