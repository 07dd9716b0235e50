"""Numbers in tables: their digits, and what stands beside them."""

import numpy as np
import pytest

from rllib_stpn.report import numbers

NAN = np.nan


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([137.0, 139.0], "138.0 ± 1.4"),
        ([1000.0, 1400.0], "1,200 ± 280"),
        ([0.9952, 0.9988, 1.0], "0.9980 ± 0.0025"),
        ([-0.01, 0.3, -0.29], "0.00 ± 0.30"),
        ([18.4567], "18.46"),
        ([1.0, 1.0, 1.0], "1.000"),
        ([0.1, 0.1, 0.1], "0.1000"),  # whose sum is rounded
        ([0.0, 0.0], "0"),
        ([1000.0, 1000.0], "1,000"),
        ([NAN, 2.0, 4.0], "3.0 ± 1.4 (2 of 3 seeds)"),
        ([NAN, 2.0], "2.000 (1 of 2 seeds)"),
        ([NAN], "-"),
    ],
)
def test_mean_has_the_digits_that_the_deviation_leaves(values, text):
    assert numbers.mean_and_deviation(np.array(values)) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.02e6, 1.44e6], "1.23M ± 0.30M"),
        ([40_000_512.0, 40_000_000.0], "40.0M"),
        ([201_000.0], "201k"),
        ([70.0e6, 72.0e6], "71.0M ± 1.4M"),
        ([5.0, NAN], "5.00 (1 of 2 seeds)"),
        ([NAN, NAN], "-"),
    ],
)
def test_steps_have_three_digits_at_most(values, text):
    assert numbers.mean_count_and_deviation(np.array(values)) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([136.52, 139.68], "138.1 (136.5 to 139.7)"),
        ([25.0, 52.0], "38 (25 to 52)"),
        ([1.0, 1.0], "1.000"),
        ([18.4567], "18.46"),
        ([NAN, NAN], "-"),
    ],
)
def test_interquartile_mean_has_the_digits_that_its_interval_leaves(values, text):
    assert numbers.interquartile_mean_and_interval(np.array(values)) == text
    assert numbers.interquartile_mean_alone(np.array(values)) == text.split(" (")[0]


@pytest.mark.parametrize(
    ("values", "baseline", "text"),
    [
        ([2.0, 6.0], [1.0, 4.0], "1.6 (0.5 to 6.0)"),
        ([3.0], [1.5], "2.000"),
        ([3.0, NAN], [1.5, 1.5], "2.000"),
        ([NAN], [1.0], "-"),
        ([1.0, 2.0], [0.0, 1.0], "-"),  # nothing is in proportion to 0
    ],
)
def test_ratio_has_its_interval(values, baseline, text):
    assert numbers.ratio_and_interval(np.array(values), np.array(baseline)) == text


@pytest.mark.parametrize(("number", "text"), [(0.0, "0"), (999.0, "999"), (1250.0, "1.25k"), (3.0e9, "3G")])
def test_counts_on_axes_are_short(number, text):
    assert numbers.count(number) == text
