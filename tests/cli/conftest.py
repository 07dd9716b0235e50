"""For the tests of the command line."""

import pytest


@pytest.fixture(autouse=True)
def in_a_gentle_environment(gentle_environment):
    """Every test here starts Ray as a user would, or asks how many CPUs there are."""
