"""For the tests of the command line."""

import os

import pytest


@pytest.fixture(autouse=True)
def in_a_gentle_environment(gentle_environment):
    """Every test here starts Ray as a user would, or asks how many CPUs there are."""


@pytest.fixture
def in_shared_memory():
    """The names in /dev/shm, but for the semaphores of Python's multiprocessing, which other programs have there."""
    return lambda: {name for name in os.listdir("/dev/shm") if not name.startswith("sem.mp-")}
