"""The statistics of a report, against values worked by hand and plain loops."""

import itertools

import numpy as np
import pytest

from rllib_stpn.report.statistics import (
    bootstrap_interval,
    interquartile_mean,
    ratio,
    ratio_interval,
    sample_deviation,
)


@pytest.mark.parametrize(
    ("values", "expected"), [([1.0, 3.0], 2**0.5), ([2.0, 4.0, 9.0], 13**0.5), ([5.0, 5.0, 5.0], 0.0)]
)
def test_deviation_is_the_samples(values, expected):
    assert sample_deviation(np.array(values)) == pytest.approx(expected)


def test_one_value_has_no_deviation():
    assert np.isnan(sample_deviation(np.array([3.0])))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 9.0], 4.0),  # a quarter of three is less than one: nothing is left out
        ([9.0, 1.0, 2.0, 4.0], 3.0),  # without 1 and 9
        ([100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -90.0], 3.5),  # without -90, 1, 6 and 100
        ([0.0, 1.0, 2.0, 3.0, 70.0], 2.0),
    ],
)
def test_interquartile_mean_is_that_of_the_middle_half(values, expected):
    assert interquartile_mean(np.array(values)) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[4.0, 1.0], [4.0, 1.0, 2.0], [4.0, 1.0, 2.0, 3.5]], ids=len)
def test_interval_of_up_to_four_seeds_reaches_from_the_lowest_to_the_highest(values):
    assert bootstrap_interval(np.array(values)) == pytest.approx((1.0, 4.0))


def test_interval_is_that_of_all_ways_to_draw_the_seeds():
    values = np.array([3.0, 10.0, 11.0, 12.0, 30.0, 14.0])
    middles = [np.sort(values[list(draw)])[1:-1].mean() for draw in itertools.product(range(6), repeat=6)]
    low, high = bootstrap_interval(values)
    # 10,000 draws: the share below an end is 2.5 % give or take 0.16, and so within 1.5 and 3.5 %.
    for end, (least, most) in ((low, (1.5, 3.5)), (high, (96.5, 98.5))):
        assert np.percentile(middles, least) <= end <= np.percentile(middles, most)


def test_interval_is_the_same_each_time_and_never_beyond_the_values():
    values = np.random.default_rng(3).random((5, 7))  # [seeds, points]
    low, high = bootstrap_interval(values, 500)
    again = bootstrap_interval(values, 500)
    assert np.array_equal([low, high], again) and low.shape == (7,)
    assert (low >= values.min(0)).all() and (high <= values.max(0)).all() and (low < high).all()


def test_one_seed_has_no_interval():
    assert np.isnan(bootstrap_interval(np.array([3.0]))).all()
    assert np.isnan(ratio_interval(np.array([3.0]), np.array([1.0, 2.0]))).all()
    assert np.isnan(ratio_interval(np.array([1.0, 2.0]), np.array([3.0]))).all()


def test_ratio_is_of_interquartile_means_and_draws_the_seeds_of_both():
    values, baseline = np.array([2.0, 6.0]), np.array([1.0, 4.0])
    assert ratio(values, baseline) == pytest.approx(8 / 5)
    # Of 16 equally likely draws one is 2/4 and one 6/1: each more than 2.5 %.
    assert ratio_interval(values, baseline) == pytest.approx((0.5, 6.0))
