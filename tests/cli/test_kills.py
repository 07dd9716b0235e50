"""Processes of a run that are killed at random moments: it goes on from its newest whole checkpoint.

Five moments each; ``MOMENTS=20 pytest -m slow tests/cli/test_kills.py`` takes 20.
"""

import contextlib
import csv
import json
import os
import random
import signal
import time

import pytest

from rllib_stpn.agents.checkpoints import newest_whole

MODULE = """
import os, time, gymnasium, numpy as np

class Slow(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, pid):
        self.pid, self.steps = pid, 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 1:
            with open(self.pid, "w") as file:
                file.write(str(os.getpid()))
        time.sleep(0.001)
        return np.zeros(1, np.float32), 1.0, False, self.steps % 10 == 0, {}

gymnasium.register("Slow-v0", lambda **arguments: Slow(**arguments), disable_env_checker=True)
"""


def learner_of(command):
    """The process of the remote learner below a process."""
    import ray  # noqa: F401  # which brings psutil
    import psutil  # isort: skip

    for process in psutil.Process(command).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            if any("_WrappedExecutable" in word for word in process.cmdline()):
                return process.pid
    raise AssertionError("no learner is there")


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(int(os.environ.get("MOMENTS", "5"))))
@pytest.mark.parametrize(
    ("who", "number"),
    [
        ("command", signal.SIGKILL),
        ("command", signal.SIGTERM),
        ("trial", signal.SIGKILL),
        ("runner", signal.SIGKILL),
        ("learner", signal.SIGKILL),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_killed_run_goes_on_from_its_newest_checkpoint(start, write, in_shared_memory, tmp_path, who, number, moment):
    shared = in_shared_memory()
    write(MODULE, "slow_env.py")
    pid = tmp_path / "pid"
    config = {
        "num_env_runners": int(who == "runner"),
        "num_learners": int(who == "learner"),
        "restart_failed_env_runners": False,
        "train_batch_size": 64,
        "minibatch_size": 64,
        "num_epochs": 1,
        "env_config": {"pid": str(pid)},
        "model": {"fcnet_hiddens": [4]},
    }
    checkpoints = {"checkpoint_frequency": 1, "num_to_keep": 2} if moment % 2 else {"checkpoint_frequency": 1}
    path = write(
        "x: "
        + json.dumps({
            "run": "PPO", "env": "slow_env:Slow-v0", "stop": {"training_iteration": 5000},
            "checkpoint_config": checkpoints, "config": config,
        })
    )  # fmt: skip
    place = ["--storage-path", tmp_path / "results", "--ray-num-cpus", 2]
    process = start("train", "-f", path, *place, cwd=tmp_path)
    while not any(tmp_path.glob("results/x/*/checkpoint_*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(random.Random(moment).uniform(0, 5))
    pids = {"command": lambda: process.pid, "learner": lambda: learner_of(process.pid)}
    os.kill(pids.get(who, lambda: int(pid.read_text()))(), number)
    _, err = process.communicate(timeout=900)
    assert process.returncode == {signal.SIGKILL: -9 if who == "command" else 1, signal.SIGTERM: 143}[number], err
    if who != "command":
        assert "died" in err and "memory" in err
        learners = ("a learner ended: its process died", "a learner's process (_WrappedExecutable, pid ")
        assert who != "learner" or any(said in err for said in learners)

    (trial,) = (each for each in (tmp_path / "results/x").iterdir() if each.is_dir())
    newest = newest_whole(trial).path
    done = json.loads((newest / "last_result.json").read_text())["training_iteration"]
    again = start("train", "--resume", "--stop", json.dumps({"training_iteration": done + 2}), *place, cwd=tmp_path)
    out, err = again.communicate(timeout=900)
    assert again.returncode == 0, err
    first = next(line for line in out.splitlines() if line[:7].strip().isdigit())
    assert int(first.split()[0]) == done + 1
    whole = list(range(1, done + 3))
    with (trial / "result.json").open() as lines:
        assert [json.loads(line)["training_iteration"] for line in lines] == whole
    with (trial / "progress.csv").open(newline="") as rows:
        assert [int(row["training_iteration"]) for row in csv.DictReader(rows)] == whole
    assert in_shared_memory() <= shared
