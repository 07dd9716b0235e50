"""The statistics over the seeds of a group. Seeds are the first axis of ``values``; none of them may be NaN.

Interquartile mean and intervals are those of Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", NeurIPS 2021 (arXiv 2108.13264). A group is compared on one task, so that its bootstrap has one
stratum, the seeds; that of a ratio has two.
"""

from __future__ import annotations

import numpy as np
import scipy

_LEVEL = 0.95


def sample_deviation(values: np.ndarray) -> float:
    """The standard deviation of the sample, with n - 1 in the denominator; NaN for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def interquartile_mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """The mean without the quarter of the lowest and that of the highest values, each rounded down to whole values.

    Of three values or fewer it is the mean.
    """
    return scipy.stats.trim_mean(values, 0.25, axis=axis)


def bootstrap_interval(values: np.ndarray, resamples: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of the interquartile mean, from the percentiles of a bootstrap over seeds.

    Of two to four seeds it reaches from the lowest value to the highest.

    Args:
        values: ``[seeds, ...]``.
        resamples: How often the seeds are drawn; always the same ones in the same order.

    Returns:
        Its ends, of the shape that one seed has; NaN for a single seed.
    """
    if len(values) < 2:
        return np.full_like(values[0], np.nan), np.full_like(values[0], np.nan)
    found = scipy.stats.bootstrap(
        (values,),
        interquartile_mean,
        n_resamples=resamples,
        method="percentile",
        confidence_level=_LEVEL,
        axis=0,
        rng=0,
    ).confidence_interval
    return found.low, found.high


def ratio(values: np.ndarray, baseline: np.ndarray, axis: int = 0) -> np.ndarray:
    """The interquartile mean in proportion to that of the baseline."""
    return interquartile_mean(values, axis) / interquartile_mean(baseline, axis)


def ratio_interval(values: np.ndarray, baseline: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the ratio: a bootstrap that draws the seeds of both; NaN where either has a single seed."""
    if min(len(values), len(baseline)) < 2:
        return np.nan, np.nan
    found = scipy.stats.bootstrap(
        (values, baseline), ratio, n_resamples=10_000, method="percentile", confidence_level=_LEVEL, rng=0
    ).confidence_interval
    return float(found.low), float(found.high)
