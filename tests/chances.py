"""Bounds for random draws that follow from their number, and that no seed exceeds: each at less than one in 10^8."""

import numpy as np

STANDARD_ERRORS = 6  # beyond, on both sides, the normal distribution has 2e-9
EXPONENT = 20  # exp(-20) is 2e-9


def is_close(share, expected, draws):
    """Whether the share of independent yes-or-no draws agrees with what is expected of them."""
    return abs(share - expected) < STANDARD_ERRORS * np.sqrt(expected * (1 - expected) / draws)


def is_uniform(counts):
    """Whether counts of independent draws agree with all values being equally likely."""
    counts = np.asarray(counts)
    expected = counts.sum() / counts.size
    chi_square = ((counts - expected) ** 2 / expected).sum()
    freedom = counts.size - 1
    # the bound of Laurent and Massart (2000), lemma 1
    return chi_square < freedom + 2 * np.sqrt(freedom * EXPONENT) + 2 * EXPONENT
