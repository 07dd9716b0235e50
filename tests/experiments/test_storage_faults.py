"""Runs whose storage or process is taken from them: what is said, and that they go on."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from ray import cloudpickle, tune

from rllib_stpn.cli.main import main
from tests.experiments.of_settings import SMALL

pytestmark = pytest.mark.usefixtures("ray_session")


class Taking(gymnasium.Env):
    """After two iterations, once: renames a directory, or kills its own process."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, mark, moved=None):
        self.mark, self.moved, self.left = Path(mark), moved, 2 * 64 + 10

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        if self.left == 0 and not self.mark.exists():
            self.mark.touch()
            if self.moved:
                os.rename(*self.moved)
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros(1, np.float32), 1.0, False, self.left % 10 == 0, {}


@pytest.fixture(autouse=True)
def environment():
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)  # Trials cannot import a test module.
    tune.register_env("Taking", lambda context: Taking(**context))
    yield
    cloudpickle.unregister_pickle_by_value(module)


def begin(storage: Path, iterations: int, **env_config) -> int:
    config = json.dumps({**SMALL, "env_config": env_config} if env_config else SMALL)
    env = "Taking" if env_config else "CartPole-v1"
    arguments = ["--storage-path", str(storage), "--checkpoint-freq", "1", "-n", "x"]
    goal = json.dumps({"training_iteration": iterations})
    return main(["train", "--run", "PPO", "--env", env, "--config", config, "--stop", goal, *arguments])


def told(capsys) -> str:
    """The command's one line; what processes of Ray print comes with their names in front."""
    of_processes = re.compile(r"(\x1b\[\d+m)?\(.* pid=\d+")
    (line,) = (line for line in capsys.readouterr().err.splitlines() if not of_processes.match(line))
    return line


def iterations(storage: Path) -> list[int]:
    (file,) = storage.glob("x/*/result.json")
    return [json.loads(line)["training_iteration"] for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_storage_that_is_moved_away_ends_the_run_which_goes_on_where_it_is(tmp_path, capsys):
    storage, moved = tmp_path / "storage", tmp_path / "moved"
    assert begin(storage, 4, mark=str(tmp_path / "mark"), moved=(str(storage), str(moved))) == 1
    line = told(capsys)
    assert line.startswith(f"rllib: error: {storage}/x: it is not there any more: ")
    assert "rllib train --resume --storage-path" in line
    assert main(["train", "--resume", "--storage-path", str(moved)]) == 0
    assert iterations(moved) == [1, 2, 3, 4]
    assert main(["train", "--resume", "--storage-path", str(storage), "-n", "x"]) == 2  # of which Tune left a shell


@pytest.mark.slow
def test_a_trial_whose_process_was_killed_is_told_as_that_and_goes_on(tmp_path, capsys):
    assert begin(tmp_path, 4, mark=str(tmp_path / "mark")) == 1
    line = told(capsys)
    assert "the trial's process (PPO, pid" in line and "memory" in line and "rllib train --resume" in line
    assert main(["train", "--resume", "--storage-path", str(tmp_path)]) == 0
    assert iterations(tmp_path) == [1, 2, 3, 4]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a megabyte, and what makes it larger."""
    path = tmp_path / "disk"
    path.mkdir()

    def mount(*options: str) -> bool:
        return subprocess.run(["mount", *options, "tmpfs", str(path)], capture_output=True).returncode == 0

    if not mount("-t", "tmpfs", "-o", "size=1m"):
        pytest.skip("only root can mount a disk that is small")
    yield path, lambda: mount("-o", "remount,size=50m")
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_ends_the_run_which_goes_on_once_there_is_room(small_disk, capsys):
    disk, grow = small_disk
    assert begin(disk, 30) == 1
    line = told(capsys)
    assert line.startswith(f"rllib: error: {disk}/x: the disk is full: ") and "rllib train --resume" in line
    done = len(list(disk.glob("x/*/checkpoint_*")))
    assert done > 1
    (disk / "ballast").write_bytes(b"\0" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize))
    assert main(["train", "--resume", "--storage-path", str(disk)]) == 2
    line = told(capsys)
    assert "the disk is full" in line
    assert grow()
    goal = json.dumps({"training_iteration": done + 2})
    assert main(["train", "--resume", "--storage-path", str(disk), "--stop", goal]) == 0
    assert iterations(disk) == list(range(1, done + 3))
