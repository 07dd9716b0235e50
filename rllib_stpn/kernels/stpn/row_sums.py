"""The four sums over a row of ``G = W + E`` that one step leaves for the next: Σ G², Σ G u, Σ W G and Σ W u."""

from rllib_stpn.kernels.simd.compiling import inline
from rllib_stpn.kernels.simd.vector import load, store


@inline
def load_sums(sums, at, stride):
    """Loads the four sums, which lie ``stride`` elements apart."""
    return load(sums, at), load(sums, at + stride), load(sums, at + 2 * stride), load(sums, at + 3 * stride)


@inline
def store_sums(sums, at, stride, totals):
    """Stores the four sums ``stride`` elements apart."""
    store(sums, at, totals[0])
    store(sums, at + stride, totals[1])
    store(sums, at + 2 * stride, totals[2])
    store(sums, at + 3 * stride, totals[3])
