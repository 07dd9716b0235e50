"""Runs through ``main`` in this process, which joins the Ray of the test session."""

import json
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from ray import cloudpickle, tune

from rllib_stpn.cli.main import main
from rllib_stpn.errors import UsageError
from rllib_stpn.report.trials import at

pytestmark = pytest.mark.usefixtures("ray_session")


class Broken(gymnasium.Env):
    """Fails as its argument says."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, fails):
        self.fails = fails
        if fails == "init":
            raise OSError("no licence for the simulator")

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        if self.fails == "usage":
            raise UsageError("environment 3, step 7: observation is nan")
        if self.fails == "silent":
            raise TimeoutError
        if self.fails.startswith("/"):  # once, of which there is a file afterwards
            if Path(self.fails).exists():
                return np.zeros(1, np.float32), 1.0, False, True, {}
            Path(self.fails).touch()
        raise RuntimeError("the simulator died")


@pytest.fixture(autouse=True, scope="module")
def this_module_travels_to_trials():
    """Trials cannot import a test module: what stands in it is sent as it is."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.parametrize(
    ("fails", "runners", "code", "told"),
    [
        ("init", 0, 1, "rllib: error: OSError: no licence for the simulator"),
        pytest.param("step", 0, 1, "rllib: error: RuntimeError: the simulator died", marks=pytest.mark.slow),
        ("silent", 1, 1, "rllib: error: TimeoutError (environment 0 of env runner 1, at step 1 of its episode; "),
        pytest.param(
            "init",
            1,
            1,
            "rllib: error: OSError: no licence for the simulator (environment 0 of env runner 1, as it was",
            marks=pytest.mark.slow,
        ),
        pytest.param("usage", 0, 2, "rllib: error: environment 3, step 7: observation is nan", marks=pytest.mark.slow),
        pytest.param("usage", 1, 2, "rllib: error: environment 3, step 7: observation is nan", marks=pytest.mark.slow),
    ],
)
def test_a_failing_trial_is_told_in_a_line(capsys, tmp_path, fails, runners, code, told):
    tune.register_env("Broken", lambda context: Broken(**context))
    config = {"env_config": {"fails": fails}, "num_env_runners": runners}
    arguments = ["train", "--run", "PPO", "--env", "Broken", "--storage-path", str(tmp_path)]
    assert main([*arguments, "--stop", '{"training_iteration": 1}', "--config", json.dumps(config)]) == code
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(told)
    assert "error.txt" in line
    assert "Traceback" not in captured.out + captured.err
    if code == 1:
        assert f"{__file__}:" in line


@pytest.mark.slow
def test_each_trial_of_a_grid_is_told_under_its_own_environment(capsys, write, tmp_path):
    tune.register_env("Broken", lambda context: Broken("init" if context.get("broken") else ""))
    path = write("""
grid:
  run: PPO
  env: {grid_search: [Broken, CartPole-v1]}
  stop: {training_iteration: 1}
  config: {num_env_runners: 0, train_batch_size: 512, minibatch_size: 512, num_epochs: 1}  # no episode is as long
""")
    assert main(["train", "-f", str(path), "--storage-path", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().out.splitlines()
    assert "PPO on Broken: failed" in told
    (best,) = (line.split() for line in told if line.split()[:1] == ["1"])
    assert best[:2] == ["1", "CartPole-v1"]


def test_what_the_fault_settings_let_it_survive_is_said(capsys, tmp_path):
    tune.register_env("Broken", lambda context: Broken(**context))
    config = {
        "env_config": {"fails": str(tmp_path / "failed")},
        "num_env_runners": 0,
        "restart_failed_sub_environments": True,
    }
    config |= {"train_batch_size": 40, "minibatch_size": 20, "num_epochs": 1}
    arguments = ["train", "--run", "PPO", "--env", "Broken", "--storage-path", str(tmp_path)]
    assert main([*arguments, "--stop", '{"training_iteration": 2}', "--config", json.dumps(config)]) == 0
    (note,) = (line for line in capsys.readouterr().out.splitlines() if "made anew" in line)
    assert note.startswith("note: RuntimeError: the simulator died (environment 0 of env runner 0, at step 1")


def test_a_run_without_any_env_runner_left_ends_with_the_cause(capsys, tmp_path):
    tune.register_env("Broken", lambda context: Broken(**context))
    config = {"env_config": {"fails": "step"}, "num_env_runners": 1, "train_batch_size": 40, "minibatch_size": 20}
    config |= {"restart_failed_env_runners": False, "ignore_env_runner_failures": True}
    arguments = ["train", "--run", "PPO", "--env", "Broken", "--storage-path", str(tmp_path)]
    assert main([*arguments, "--stop", '{"training_iteration": 2}', "--config", json.dumps(config)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        "rllib: error: no env runner is left: RuntimeError: the simulator died (environment 0 of env"
    )


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
    assert "checkpoint  none" in captured.out
    assert {path.name.split("_")[5] for path in (tmp_path / "results/sweep").glob("PPO_*")} == {"lr=0.001", "lr=0.002"}
    rates = set()
    for result in (tmp_path / "results").glob("sweep/*/result.json"):
        learner = json.loads(result.read_text())["learners"]["default_policy"]
        rates.add(learner["default_optimizer_learning_rate"])
    assert rates == {0.001, 0.002}


@pytest.mark.slow
def test_a_trial_of_our_own_algorithm_takes_what_yaml_alone_has(capsys, write, tmp_path):
    path = write("""
own:
  run: A2C
  env: CartPole-v1
  stop: {training_iteration: 1}
  checkpoint_config: {checkpoint_at_end: false}
  config:
    num_env_runners: 0
    callbacks: {energy: {every_n_steps: 2}}
    seed: {grid_search: [0, 1]}
    model: {custom_model: stpn, custom_model_config: {hidden_size: 4}}
""")
    code = main(["train", str(path), "--storage-path", str(tmp_path / "results")])
    assert code == 0, capsys.readouterr().out
    results = [json.loads(result.read_text()) for result in (tmp_path / "results").glob("own/*/result.json")]
    assert [result["config"]["callbacks_class"] for result in results] == [{"energy": {"every_n_steps": 2}}] * 2
    assert all(result["env_runners"]["energy"]["per_step"] > 0 for result in results)


class Tires(Broken):
    """Rewards less at every step."""

    def __init__(self):
        self.steps = 0

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), float(-self.steps), False, self.steps % 8 == 0, {}


@pytest.mark.parametrize(
    "score", ["episode_reward_mean", pytest.param("learners/default_policy/weights_seq_no", marks=pytest.mark.slow)]
)
def test_the_best_checkpoint_is_kept(capsys, write, tmp_path, score):
    tune.register_env("Tires", lambda context: Tires())
    order = "max" if score == "episode_reward_mean" else "min"  # so that the first is the best, and not the newest
    file = write(f"""
best:
  run: PPO
  env: Tires
  stop: {{training_iteration: 3}}
  checkpoint_config:
    checkpoint_frequency: 1
    checkpoint_at_end: false
    num_to_keep: 1
    checkpoint_score_attribute: {score}
    checkpoint_score_order: {order}
  config: {{num_env_runners: 0, train_batch_size: 64, minibatch_size: 64, num_epochs: 1}}
""")
    assert main(["train", str(file), "--storage-path", str(tmp_path / "results")]) == 0, capsys.readouterr().out
    # Tune keeps the newest, too.
    kept = sorted(path.name for path in (tmp_path / "results").glob("best/*/checkpoint_*"))
    assert kept == ["checkpoint_000000", "checkpoint_000002"]


class Hangs(Broken):
    """Takes its time, once."""

    def step(self, action):
        if not Path(self.fails).exists():
            Path(self.fails).touch()
            time.sleep(8)
        return np.zeros(1, np.float32), 1.0, False, True, {}


def test_an_environment_that_hangs_in_the_trials_own_process_is_said_meanwhile(capsys, tmp_path):
    tune.register_env("Hangs", lambda context: Hangs(**context))
    config = {"env_config": {"fails": str(tmp_path / "hung")}, "num_env_runners": 0, "sample_timeout_s": 0.1}
    config |= {"train_batch_size": 40, "minibatch_size": 20, "num_epochs": 1}
    arguments = ["train", "--run", "PPO", "--env", "Hangs", "--storage-path", str(tmp_path)]
    assert main([*arguments, "--stop", '{"training_iteration": 1}', "--config", json.dumps(config)]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: env runner 0 has made no")]
    assert any("(10 times sample_timeout_s; environment 0 of env runner 0, at step 1 of its" in note for note in notes)


@pytest.mark.slow
def test_a_checkpoint_between_two_evaluations_is_not_taken_for_the_best(capsys, write, tmp_path):
    path = "evaluation/env_runners/episode_return_mean"
    file = write(f"""
best:
  run: PPO
  env: CartPole-v1
  stop: {{training_iteration: 5}}
  checkpoint_config:
    {{checkpoint_frequency: 1, checkpoint_at_end: false, num_to_keep: 1, checkpoint_score_attribute: {path}}}
  config:
    {{num_env_runners: 0, train_batch_size: 64, minibatch_size: 64, num_epochs: 1, evaluation_interval: 2,
      evaluation_duration: 1}}
""")
    assert main(["train", str(file), "--storage-path", str(tmp_path / "results")]) == 0, capsys.readouterr().out
    (trial,) = (tmp_path / "results").glob("best/*/result.json")
    returns = [at(json.loads(line), path) for line in trial.read_text().splitlines()]
    assert returns == [None, *[returns[1]] * 2, *[returns[3]] * 2]  # RLlib repeats the last evaluation
    kept = sorted(int(each.name[-1]) for each in trial.parent.glob("checkpoint_*"))
    assert kept in ([1, 4], [3, 4])  # the newest is kept, too
    assert returns[kept[0]] == max(returns[1], returns[3])
    assert f"best        {trial.parent}/checkpoint_00000{kept[0]} (" in capsys.readouterr().out
