"""Runs through ``main`` in this process, which joins the Ray of the test session."""

import json

import pytest
import torch

from rllib_stpn.cli.main import main

pytestmark = pytest.mark.usefixtures("ray_session")

BROKEN_ENVIRONMENT = """
import gymnasium
import numpy as np


class Broken(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fails="step"):
        self.fails = fails
        if fails == "init":
            raise OSError("no licence for the simulator")

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        if self.fails == "usage":
            from rllib_stpn.errors import UsageError

            raise UsageError("environment 3, step 7: observation is nan")
        raise RuntimeError("the simulator died")


gymnasium.register("Broken-v0", Broken)
"""


@pytest.fixture
def broken_environment(tmp_path, monkeypatch):
    """Registers an environment that fails as its argument ``fails`` says; RLlib gets a function that makes it."""
    namespace = {"__name__": "broken_environment"}
    exec(compile(BROKEN_ENVIRONMENT, "broken_environment.py", "exec"), namespace)
    from ray import tune

    environment = namespace["Broken"]
    tune.register_env("Broken", lambda context: environment(**context))
    return "Broken"


@pytest.mark.parametrize(
    ("fails", "code", "told"),
    [
        ("init", 1, "rllib: error: OSError: no licence for the simulator"),
        ("step", 1, "rllib: error: RuntimeError: the simulator died"),
        ("usage", 2, "rllib: error: environment 3, step 7: observation is nan"),
    ],
)
def test_a_failing_trial_is_told_in_a_line(capsys, broken_environment, tmp_path, fails, code, told):
    config = {"env_config": {"fails": fails}, "num_env_runners": 0}
    arguments = ["train", "--run", "PPO", "--env", broken_environment, "--storage-path", str(tmp_path)]
    assert main([*arguments, "--stop", '{"training_iteration": 1}', "--config", json.dumps(config)]) == code
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(told)
    assert "error.txt" in line
    assert "Traceback" not in captured.out + captured.err


def test_a_grid_is_run_point_by_point_and_settings_reach_the_trial(capsys, write, tmp_path):
    path = write("""
sweep:
  run: PPO
  env: CartPole-v1
  stop: {training_iteration: 1}
  checkpoint_config: {checkpoint_at_end: false}
  config:
    num_env_runners: 0
    train_batch_size: 64
    minibatch_size: 64
    num_epochs: 1
    lr: {grid_search: [1e-3, 2e-3]}
    observation_filter: MeanStdFilter
    model: {fcnet_hiddens: [4]}
""")
    assert main(["train", str(path), "--storage-path", str(tmp_path / "results")]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "trial 1 of 2: lr 0.001" in captured.out
    assert "trial 2 of 2: lr 0.002" in captured.out
    assert captured.out.count("checkpoint  none") == 2
    rates = set()
    for result in (tmp_path / "results").glob("sweep/*/result.json"):
        learner = json.loads(result.read_text())["learners"]["default_policy"]
        rates.add(learner["default_optimizer_learning_rate"])
    assert rates == {0.001, 0.002}


def _tell_threads(algorithm, metrics_logger, result):
    result["torch_threads"] = torch.get_num_threads()
    result["environments"] = algorithm.env_runner.num_envs
    from rllib_stpn import kernels

    if hasattr(kernels, "num_threads"):
        result["kernel_threads"] = kernels.num_threads()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_folded_trial_computes_with_all_the_cpus_it_has(tmp_path, threads):
    from ray import cloudpickle, tune

    from rllib_stpn.cli.folding import fold
    from rllib_stpn.cli.trial import trial_class

    cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])
    trainable = trial_class("PPO")
    settings = {"env": "CartPole-v1", "num_env_runners": 6, "train_batch_size": 60, "minibatch_size": 60}
    folded, _ = fold(settings, trainable.get_default_config(), cpus=threads)
    folded["callbacks_on_train_result"] = _tell_threads
    results = tune.Tuner(
        trainable,
        param_space=folded,
        run_config=tune.RunConfig(storage_path=str(tmp_path), stop={"training_iteration": 1}, verbose=0),
    ).fit()
    metrics = results[0].metrics
    assert metrics["torch_threads"] == threads
    assert metrics.get("kernel_threads", threads) == threads
    assert metrics["environments"] == 6
