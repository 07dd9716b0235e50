"""The update of one synapse of sixteen samples, which forward makes and backward repeats."""

from rllib_stpn.kernels.simd.compiling import inline
from rllib_stpn.kernels.simd.functions import bounded
from rllib_stpn.kernels.simd.vector import load, splat, store, where_inside


@inline
def update_synapse(lanes, at, to, trace, v, m, rho, kappa, began, bound, clamped, traced, unclamped):
    """Stores and returns the next A of one synapse, and stores its next E ``trace`` further on.

    With ``unclamped`` the clamp is applied to what is loaded, not to what is stored: backward has to see where a value
    went beyond it.
    """
    a = load(lanes, at)
    if clamped and unclamped:
        a = bounded(a, bound)
    if traced:
        e = load(lanes, at + trace)
        a = m * e + a
        store(lanes, to + trace, where_inside(began, splat(0.5), rho * v + kappa * e))
    elif clamped:
        a = rho * v + a
    else:
        a = rho * v + kappa * a
    if clamped and not unclamped:
        a = bounded(a, bound)
    a = where_inside(began, splat(0.5), a)
    store(lanes, to, a)
    return a
