"""W, Λ and Γ as the loops read them: interleaved, one vector of each in turn."""

from rllib_stpn.kernels.simd.compiling import inline
from rllib_stpn.kernels.simd.vector import LANES, load


@inline
def load_weights(weights, at):
    """Loads a vector each of W, Λ and Γ."""
    return load(weights, at), load(weights, at + LANES), load(weights, at + 2 * LANES)
