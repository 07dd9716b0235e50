"""Numbers as tables and figures write them: with the digits that their uncertainty leaves.

The spread has two significant digits, and the value ends where the spread does. Arrays hold a value per seed, NaN for a
seed that has none.
"""

from __future__ import annotations

import math

import numpy as np

from rllib_stpn.report.statistics import (
    bootstrap_interval,
    interquartile_mean,
    ratio,
    ratio_interval,
    sample_deviation,
)

_SIZES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def count(number: float) -> str:
    """A number of steps in three digits, e.g. ``"1.25M"``."""
    size, letter = _size(number)
    return f"{number / size:.3g}{letter}"


def mean_and_deviation(values: np.ndarray) -> str:
    """The mean and the sample's standard deviation, e.g. ``"138.1 ± 2.2"``; no ± where the seeds agree, or for one."""
    known = values[np.isfinite(values)]
    if not len(known):
        return "-"
    mean, deviation = known.mean(), sample_deviation(known)
    return _pair(mean, deviation, _places(mean, deviation)) + _of_seeds(values)


def mean_count_and_deviation(values: np.ndarray) -> str:
    """The same of numbers of steps, in three digits at most, e.g. ``"1.23M ± 0.30M"``."""
    known = values[np.isfinite(values)]
    if not len(known):
        return "-"
    size, letter = _size(known.mean())
    mean, deviation = known.mean() / size, sample_deviation(known) / size
    places = min(_places(mean, deviation), _places(mean, 0.0) - 1)
    return _pair(mean, deviation, places, letter) + _of_seeds(values)


def interquartile_mean_alone(values: np.ndarray) -> str:
    """The interquartile mean, in as many digits as beside its interval."""
    return interquartile_mean_and_interval(values).partition(" (")[0]


def interquartile_mean_and_interval(values: np.ndarray) -> str:
    """The interquartile mean and its 95 % interval, e.g. ``"138.1 (136.5 to 139.7)"``; no interval of one seed."""
    known = values[np.isfinite(values)]
    if not len(known):
        return "-"
    return _with_interval(float(interquartile_mean(known)), *map(float, bootstrap_interval(known)))


def ratio_and_interval(values: np.ndarray, baseline: np.ndarray) -> str:
    """How large values are in proportion to those of the baseline, and the 95 % interval of that."""
    known, base = values[np.isfinite(values)], baseline[np.isfinite(baseline)]
    if not len(known) or not len(base) or base.min() <= 0:
        return "-"
    return _with_interval(float(ratio(known, base)), *ratio_interval(known, base))


def _with_interval(middle: float, low: float, high: float) -> str:
    places = _places(middle, (high - low) / 2)
    ends = f" ({_fixed(low, places)} to {_fixed(high, places)})" if round(high - low, places) > 0 else ""
    return _fixed(middle, places) + ends


def _pair(mean: float, deviation: float, places: int, unit: str = "") -> str:
    spread = f" ± {_fixed(deviation, places)}{unit}" if round(deviation, places) > 0 else ""
    return f"{_fixed(mean, places)}{unit}{spread}"


def _of_seeds(values: np.ndarray) -> str:
    known = np.isfinite(values).sum()
    return "" if known == len(values) else f" ({known} of {len(values)} seeds)"


def _size(number: float) -> tuple[float, str]:
    return next(((size, letter) for size, letter in _SIZES if abs(number) >= size), (1.0, ""))


def _places(value: float, spread: float) -> int:
    """Digits after the point: two significant ones of the spread, or four of the value where nothing is uncertain."""
    if spread > 1e-6 * abs(value):  # less comes from the rounding of sums
        return 1 - math.floor(math.log10(spread))
    return 3 - math.floor(math.log10(abs(value))) if value else 0


def _fixed(value: float, places: int) -> str:
    return f"{round(value, places) + 0.0:,.{max(places, 0)}f}"  # 0.0 makes 0 of -0
