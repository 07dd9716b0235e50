"""``rllib train`` as a user runs it: a process of its own, Ray, files on disk."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

LOAD = """
import sys, warnings
warnings.filterwarnings("ignore")
from ray.rllib.algorithms.algorithm import Algorithm
algorithm = Algorithm.from_checkpoint(sys.argv[1])
kind = type(algorithm)
print(kind.__module__, kind.__name__, algorithm.iteration, algorithm.get_module() is not None)
"""


def load_in_another_process(checkpoint, cwd) -> str:
    """What a process that imports RLlib alone makes of a checkpoint: module, class, iteration, True."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, checkpoint], capture_output=True, text=True, cwd=cwd, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def checkpoint_in(out: str) -> str:
    return re.search(r"^checkpoint +(/.*)$", out, re.MULTILINE)[1]


def test_a_run_from_yaml_to_checkpoint(rllib, cartpole, tmp_path, trial_directory):
    done = rllib(
        "train", "-f", cartpole, "--stop", '{"training_iteration": 2}', "--storage-path", "results",
        "--seed", 3, "--ray-num-cpus", 2, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "folded: cartpole: 4 env runners x 2 -> 8 environments in the trial's own process" in done.stdout
    assert "stopped: training_iteration 2 reached 2" in done.stdout
    assert re.search(r"^ +iter +env steps +steps/s +return +episodes +elapsed$", done.stdout, re.MULTILINE)
    assert len(done.stdout.splitlines()) < 20, done.stdout

    trial = trial_directory(tmp_path / "results", "cartpole")
    results = [json.loads(line) for line in (trial / "result.json").read_text().splitlines()]
    assert [r["training_iteration"] for r in results] == [1, 2]
    assert results[-1]["num_env_steps_sampled_lifetime"] >= 512
    assert results[-1]["trial_id"] in trial.name
    settings = json.loads((trial / "params.json").read_text())
    assert settings["num_envs_per_env_runner"] == 8
    assert settings["seed"] == 3
    written = yaml.safe_load(cartpole.read_text())["cartpole"]["config"]
    assert set(settings) == {*written, "env", "seed", "num_cpus_for_main_process", "_folded_env_runners"}
    (events,) = trial.glob("events.out.tfevents*")
    assert events.stat().st_size > 1000

    assert checkpoint_in(done.stdout).startswith(str(trial))
    assert load_in_another_process(checkpoint_in(done.stdout), tmp_path).startswith(
        "ray.rllib.algorithms.ppo.ppo PPO 2"
    )


def test_pong_runs_and_can_be_loaded(rllib, tmp_path, trial_directory):
    small = {"num_env_runners": 2, "rollout_fragment_length": 10, "train_batch_size": 20}
    done = rllib(
        "train", "-f", "tuned_examples/pong_stpn.yaml", "--stop", '{"training_iteration": 3}',
        "--config", json.dumps(small), "--storage-path", tmp_path, "--ray-num-cpus", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    results = (trial_directory(tmp_path, "pong_stpn") / "result.json").read_text().splitlines()
    assert json.loads(results[-1])["num_env_steps_sampled_lifetime"] == 60
    loaded = load_in_another_process(checkpoint_in(done.stdout), tmp_path)
    assert loaded.startswith("rllib_stpn.algorithms") and loaded.endswith("A2C 3 True")


CORRIDOR = "ray.rllib.examples.envs.classes.simple_corridor.SimpleCorridor"
OLD_STACK = {
    "enable_rl_module_and_learner": False,
    "enable_env_runner_and_connector_v2": False,
    "model": {"custom_model": "gru", "custom_model_config": {"hidden_size": 4}, "max_seq_len": 8},
}


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        pytest.param(CORRIDOR, {}, id="class", marks=pytest.mark.slow),
        pytest.param("CartPole-v1", OLD_STACK, id="old stack", marks=pytest.mark.slow),
    ],
)
def test_what_it_prints_goes_on_in_another_process(rllib, tmp_path, env, settings):
    settings = {"num_env_runners": 0, "train_batch_size": 64, "minibatch_size": 64, "num_epochs": 1, **settings}
    done = rllib(
        "train", "--run", "PPO", "--env", env, "--stop", '{"training_iteration": 1}', "--checkpoint-at-end",
        "--config", json.dumps(settings), "--storage-path", "results", "--ray-num-cpus", 1, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = re.search(r"^continue .*\n( {12}.*\n)+", done.stdout, re.MULTILINE)[0].splitlines()
    script = "\n".join(["import ray; ray.init(num_cpus=1, include_dashboard=False)", *(line[12:] for line in lines)])
    script += "\nprint(algorithm.iteration)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="SIGINT"),
        pytest.param(signal.SIGTERM, 143, id="SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_run_with_a_checkpoint(start, cartpole, tmp_path, number, code):
    process = start(
        "train", "-f", cartpole, "--stop", '{"time_total_s": 600}', "--storage-path", tmp_path / "results",
        "--ray-num-cpus", 2,
    )  # fmt: skip
    for line in process.stdout:
        if line.split()[:1] == ["1"]:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert "stopping after this iteration" in err
    assert f"stopped: {number.name}" in out
    if number == signal.SIGINT:
        assert load_in_another_process(checkpoint_in(out), tmp_path).endswith("True")


SLOW_ENVIRONMENT = """
import time
import gymnasium
import numpy as np


class Slow(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        print("started", file=open("started", "w"))
        return np.zeros(1, np.float32), {}

    def step(self, action):
        time.sleep(0.1)
        return np.zeros(1, np.float32), 0.0, False, False, {}


gymnasium.register("Slow-v0", Slow)
"""


@pytest.mark.slow
def test_a_second_signal_ends_the_run_at_once(start, write, tmp_path):
    """Also: an environment from a module beside the user, whose working directory is that of the user."""
    write(SLOW_ENVIRONMENT, "slow_environment.py")
    process = start(
        "train", "--run", "PPO", "--env", "slow_environment:Slow-v0", "--storage-path", "results",
        "--ray-num-cpus", 1, cwd=tmp_path,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (tmp_path / "started").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)  # an iteration takes longer
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("rllib: aborted")
    assert "Traceback" not in err
