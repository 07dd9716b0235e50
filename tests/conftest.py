"""A home for all tests, a Ray to share, and the options with which ``make portable`` runs the tests in other ways."""

import logging
import os
import random
import shutil
import sys
import tempfile

import pytest

from tests.other_seeds import shift_seeds

# RLlib writes into ~/ray_results whatever is not run by Tune; Ray notes where that is when it is imported.
HOME = os.environ["HOME"] = tempfile.mkdtemp(prefix="rllib-stpn-home-")


def pytest_addoption(parser):
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in a random order")
    parser.addoption("--other-seeds", type=int, metavar="N", help="add N to every seed of this process")


def pytest_configure(config):
    if config.option.other_seeds:
        shift_seeds(config.option.other_seeds)


def pytest_unconfigure():
    shutil.rmtree(HOME, ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    if config.option.shuffle is not None:
        random.Random(config.option.shuffle).shuffle(items)


@pytest.fixture(autouse=True)
def process_as_before():
    """Takes back what a test leaves in this process: commands set variables and log levels, trials torch's threads."""
    environment = dict(os.environ)
    loggers = [logging.getLogger(name) for name in ("ray", "ray.rllib", "ray.tune", "ray.train", "ray.data")]
    levels = [logger.level for logger in loggers]
    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    os.environ.clear()
    os.environ.update(environment)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    if threads is not None:
        sys.modules["torch"].set_num_threads(threads)


@pytest.fixture(scope="session")
def ray_session():
    """One small Ray for all tests that need actors, whatever the environment variables of who runs them."""
    import ray

    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("RAY_ADDRESS", raising=False)
        environment.delenv("OMP_NUM_THREADS", raising=False)  # Ray gives it to actors, by the CPUs they have.
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    yield
    ray.shutdown()
