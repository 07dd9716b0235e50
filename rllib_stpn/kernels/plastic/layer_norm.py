"""Layer normalisation over the units of sixteen samples, forward and backward."""

import numpy as np

from rllib_stpn.kernels.simd.compiling import inline
from rllib_stpn.kernels.simd.copying import add_to
from rllib_stpn.kernels.simd.vector import LANES, broadcast, load, splat, square_root, store

NORM_EPSILON = np.float32(1e-5)  # torch's default


@inline
def normalize(lanes, p_at, z_at, n):
    """``z = (p - mean) / deviation`` over ``n`` vectors; returns 1 / deviation."""
    share = splat(np.float32(1.0) / np.float32(n))
    total, squares = splat(0.0), splat(0.0)
    for i in range(n):
        total = total + load(lanes, p_at + i * LANES)
    for i in range(n):
        z = load(lanes, p_at + i * LANES) - total * share
        squares = z * z + squares
        store(lanes, z_at + i * LANES, z)
    r = splat(1.0) / square_root(squares * share + splat(NORM_EPSILON))
    for i in range(n):
        store(lanes, z_at + i * LANES, load(lanes, z_at + i * LANES) * r)
    return r


@inline
def normalize_backward(lanes, at, saved, s_at, z_at, r_at, gain, gain_at, n):
    """From the gradient of ``s = tanh(gain z + shift)`` to that of p, in place; adds those of gain and shift."""
    share = splat(np.float32(1.0) / np.float32(n))
    total, along = splat(0.0), splat(0.0)
    for i in range(n):
        s, z = load(saved, s_at + i * LANES), load(saved, z_at + i * LANES)
        d = load(lanes, at + i * LANES) * (splat(1.0) - s * s)
        add_to(lanes, gain_at + i * LANES, d * z)
        add_to(lanes, gain_at + (n + i) * LANES, d)
        d = d * broadcast(gain, i)
        total = total + d
        along = d * z + along
        store(lanes, at + i * LANES, d)
    r = load(saved, r_at)
    for i in range(n):
        z = load(saved, z_at + i * LANES)
        d = load(lanes, at + i * LANES) - total * share - z * (along * share)
        store(lanes, at + i * LANES, d * r)
