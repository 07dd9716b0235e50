"""What the loops of each rule keep, and how much memory they need, in vectors of sixteen samples."""

import numpy as np

from rllib_stpn.kernels.simd.vector import LANES

CLAMPED = ("additive", "modulated", "retroactive")
MODULATED = ("modulated", "retroactive")

CLAMP = np.float32(1.0)
BEYOND = np.nextafter(CLAMP, np.float32(2.0))  # gradients pass up to the bound and on it
INFINITY = np.float32(np.inf)


def saved_vectors(rule: str, H: int) -> int:
    """Vectors that forward saves of one step: h, and M or what the layer normalisations gave."""
    return 4 * H + 2 if rule == "fast_weights" else H + 1


def forward_vectors(rule: str, H: int) -> int:
    """Vectors of scratch memory: A, E, v now and before, rows h, p, s, z, energy, and where episodes begin."""
    return matrices(rule) * (H + 1) * H + 7 * H + 1


def backward_vectors(rule: str, H: int, passes: int, length: int) -> int:
    """Vectors of scratch memory, with passes in segments of ``length``.

    A and E of one segment, before each segment, and their gradients; v and where episodes begin at all steps;
    gradients of v now and before; dp of one segment, dh and s; the sums of ``gradient_vectors``.
    """
    states = length + 1 + -(-passes // length)
    rows = (length + 4) * H + (passes + 1) * (H + 1) + gradient_vectors(rule, H)
    return matrices(rule) * (states * H + H + 1) * H + rows


def gradient_sizes(rule: str, H: int) -> tuple[int, ...]:
    """Gradients of parameters: weight, α; bias; modulator or gain; shift; keep, rate, modulator's bias."""
    return H * H, 0 if rule == "fast_weights" else H * H, H, H, H, 1, 1, 1


def gradient_vectors(rule: str, H: int) -> int:
    """The sum of ``gradient_sizes``, filled up."""
    return -(-sum(gradient_sizes(rule, H)) // LANES) * LANES


def matrices(rule: str) -> int:
    """Matrices of a state: A, and E where there is a trace."""
    return 2 if rule == "retroactive" else 1
