"""What the tests of the command line share."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

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


@pytest.fixture(autouse=True)
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
