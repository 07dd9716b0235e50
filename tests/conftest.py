"""What all tests share: a home, a Ray, files and commands, and the options with which ``make portable`` runs them."""

import inspect
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.other_seeds import shift_seeds

# RLlib writes into ~/ray_results whatever is not run by Tune; Ray notes where that is when it is imported.
HOME = os.environ["HOME"] = tempfile.mkdtemp(prefix="rllib-stpn-home-")
REPOSITORY = Path(__file__).parents[1]

CARTPOLE = """\
cartpole:
  env: CartPole-v1
  run: PPO
  stop:
    training_iteration: 50
  config:
    num_env_runners: 4
    num_envs_per_env_runner: 2
    rollout_fragment_length: 32
    train_batch_size: 256
    minibatch_size: 128
    num_epochs: 1
    lr: 0.001
    model:
      fcnet_hiddens: [8]
"""


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


def pytest_collection_finish():
    """Spares RLlib's connectors a look for the source of each of pytest's frames, which takes longer than many a test.

    Each connector asks ``inspect.stack()`` for the frame of its caller, and nothing else.
    """
    module = sys.modules.get("ray.rllib.connectors.connector_v2")
    if module is not None:
        module.inspect = SimpleNamespace(getargvalues=inspect.getargvalues, stack=_frames)


def _frames():
    own = sys._getframe(1)
    return [SimpleNamespace(frame=own), SimpleNamespace(frame=own.f_back)]


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


@pytest.fixture
def gentle_environment(monkeypatch):
    """Ray by the environment variables of a user, not of another test."""
    for name in ("RAY_ADDRESS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cartpole(tmp_path) -> Path:
    """A small experiment's file."""
    path = tmp_path / "cartpole.yaml"
    path.write_text(CARTPOLE)
    return path


@pytest.fixture
def write(tmp_path):
    """Writes a file's text and returns its path."""

    def write(text: str, name: str = "experiment.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def start():
    """Starts ``rllib`` in a process of its own, as a user does; what outlives the test is killed."""
    started = []

    def start(*arguments: object, cwd: Path | None = None) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "rllib_stpn.cli.main", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd or REPOSITORY,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def rllib(start):
    """Runs ``rllib`` to its end, in a process of its own."""

    def rllib(*arguments: object, cwd: Path | None = None, timeout: float = 300) -> subprocess.CompletedProcess:
        process = start(*arguments, cwd=cwd)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return rllib


@pytest.fixture
def trial_directory():
    """Finds the directory of an experiment's only trial."""

    def trial_directory(storage: Path, experiment: str) -> Path:
        (trial,) = (path for path in (storage / experiment).iterdir() if path.is_dir())
        return trial

    return trial_directory
