"""Checks of values: what passes, and the one sentence for what does not."""

import math

import pytest

from rllib_stpn import checks
from rllib_stpn.errors import UsageError


@pytest.mark.parametrize(
    ("bounds", "told", "right", "wrong"),
    [
        ({}, "a number", [-1, 0.5], [math.inf, math.nan, True, "1", None]),
        ({"at_least": 0}, "a number of at least 0", [0, 2.5], [-1]),
        ({"above": 0}, "a number greater than 0", [1e-9], [0]),
        ({"at_most": 1}, "a number of at most 1", [1, -5], [1.5]),
        ({"at_least": 0, "at_most": 1}, "a number from 0 to 1", [0, 1], [-0.1, 1.1]),
        ({"above": 0, "at_most": 1}, "a number greater than 0 and of at most 1", [1], [0, 1.1]),
        ({"at_least": 0, "or_none": True}, "a number of at least 0, or None", [None, 0], [-1]),
    ],
)
def test_a_number_out_of_its_range_is_refused_with_the_whole_range(bounds, told, right, wrong):
    for value in right:
        assert checks.number("x", value, **bounds) is value
    for value in wrong:
        with pytest.raises(UsageError) as error:
            checks.number("x", value, **bounds)
        assert str(error.value) == f"x: got {value!r}, allowed is {told}"


@pytest.mark.parametrize(
    ("value", "number", "from_text"),
    [
        ("1e6", 1_000_000, 1_000_000),
        ("1e-3", 0.001, 0.001),
        (" 7 ", 7, 7),
        (2.0, 2.0, 2),
        (3, 3, 3),
        ("much", None, "much"),
        (True, None, True),
        (None, None, None),
        ([1], None, [1]),
    ],
)
def test_texts_that_are_numbers_are_taken_for_them(value, number, from_text):
    for found, expected in ((checks.as_number(value), number), (checks.from_text(value), from_text)):
        assert (found, type(found)) == (expected, type(expected))
