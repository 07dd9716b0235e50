"""Experiments in a notebook or a script: what `load` gives, without the command line."""

import dataclasses
import os
import subprocess
import sys

import pytest

import rllib_stpn
from rllib_stpn.errors import UsageError

SMALL = """
small:
  run: PPO
  env: CartPole-v1
  stop: {training_iteration: 2}
  config: {num_workers: 0, train_batch_size: 64, minibatch_size: 64, num_epochs: 1, model: {fcnet_hiddens: [4]}}
"""


@pytest.fixture
def small(write, tmp_path):
    (experiment,) = rllib_stpn.experiments.load(write(SMALL), storage_path=str(tmp_path / "results"))
    return experiment


def test_an_experiment_does_not_change(small):
    for field in dataclasses.fields(small):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(small, field.name, None)


def test_a_notebook_shows_it_in_a_line(small):
    assert repr(small) == f"CheckedExperiment({small.where}, PPO on CartPole-v1)"
    both = small.override(config={"env": {"grid_search": ["CartPole-v1", "Acrobot-v1"]}})
    assert repr(both).endswith(", PPO on CartPole-v1, Acrobot-v1)")


def test_what_was_written_checked_and_folded_are_three_values(write, ray_session):
    (experiment,) = rllib_stpn.experiments.load(write(SMALL.replace("num_workers: 0", "num_workers: '6e1'")))
    folded = experiment.fold()
    assert (experiment.written["num_workers"], experiment.folded) == ("6e1", None)
    assert experiment.config["num_env_runners"] == folded.config["num_env_runners"] == 60
    assert folded.folded["num_env_runners"] == 0
    (note,) = folded.notes[len(experiment.notes) :]
    assert note.startswith("60 env runners x 1 -> 60 environments in the trial's own process")
    with pytest.raises(UsageError, match="strict.* a trial asks for 61 CPUs, there are 4"):
        experiment.fold(strict=True)


def test_its_config_is_that_of_a_trial_and_can_be_built(small, capfd):
    config = small.algorithm_config()
    assert (config.env, config.train_batch_size, config.num_env_runners) == ("CartPole-v1", 64, 0)
    algorithm = config.build_algo()
    try:
        assert algorithm.train()["num_env_steps_sampled_lifetime"] == 64
    finally:
        algorithm.stop()


def test_overrides_are_the_options_of_rllib_train(small):
    other = small.override(config={"num_sgd_iter": 3}, seed=7, stop={"timesteps_total": 128}, num_samples=2)
    assert (other.config["num_epochs"], other.config["seed"], other.num_trials) == (3, 7, 2)
    assert other.stop == {"num_env_steps_sampled_lifetime": 128}
    assert small.config["num_epochs"] == 1
    assert [note for note in other.notes if note not in small.notes] == [
        "config: num_sgd_iter -> num_epochs",
        "stop: timesteps_total -> num_env_steps_sampled_lifetime",
    ]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"sed": 1}, r"got the unknown override 'sed', allowed are 'name', .*; did you mean seed\?"),
        ({"num_samples": 0}, r"^num_samples: got 0, allowed is a whole number of at least 1"),
        ({"checkpoints_kept": -1}, r"^checkpoints_kept: got -1, allowed"),
        ({"config": {"lr": "much"}}, r"config: lr: got 'much', allowed is a number"),
    ],
)
def test_a_wrong_override_is_named_as_it_was_given(small, overrides, told):
    with pytest.raises(UsageError, match=told):
        small.override(**overrides)


def test_a_search_has_no_single_config(small):
    searched = small.override(
        config={"lr": {"grid_search": [0.1, 0.2]}, "model": {"vf_share_layers": {"choice": [True]}}}
    )
    with pytest.raises(
        UsageError, match="algorithm_config: got a search over model.vf_share_layers, lr, allowed is one"
    ):
        searched.algorithm_config()
    assert searched.override(config={"lr": 0.1, "model": {"vf_share_layers": True}}).algorithm_config().lr == 0.1


def test_it_runs_goes_on_and_prints_nothing(small, ray_session, capsys, tmp_path):
    (first,) = small.run()
    assert (first.error, first.metrics["training_iteration"]) == (None, 2)
    assert first.stopped == "training_iteration 2 reached 2"
    assert (first.settings["train_batch_size"], first.cause) == (64, None)
    assert first.path.startswith(str(tmp_path / "results" / "small")) and first.checkpoint.startswith(first.path)
    assert repr(first) == f"TrialResult({first.path}, stopped: training_iteration 2 reached 2)"
    (more,) = small.run(resume=True, stop={"training_iteration": 3})
    assert (more.path, more.metrics["num_env_steps_sampled_lifetime"]) == (first.path, 3 * 64)
    assert "".join(capsys.readouterr()) == ""


@pytest.mark.slow
def test_its_tuner_is_tunes(small, ray_session):
    results = small.override(config={"lr": {"grid_search": [0.1, 0.2]}}).tuner().fit()
    assert sorted(result.config["lr"] for result in results) == [0.1, 0.2]
    assert all(result.metrics["training_iteration"] == 2 for result in results)


def test_a_trial_that_fails_is_a_result(small, ray_session):
    crashing = "ray.rllib.examples.envs.classes.cartpole_crashing.CartPoleCrashing"
    (result,) = small.run(env=crashing, config={"env_config": {"p_crash": 1.0}})
    assert "Simulated env crash" in str(result.error)
    assert (result.stopped, result.checkpoint, result.metrics.get("training_iteration")) == (None, None, None)
    assert str(result.cause).count("\n") == 0 and "Simulated env crash" in str(result.cause)
    assert repr(result) == f"TrialResult({result.path}, failed: {result.cause})"


def test_a_cluster_that_does_not_answer_is_told(write, tmp_path):
    code = (
        "import rllib_stpn\n"
        f"(experiment,) = rllib_stpn.experiments.load({str(write(SMALL))!r}, storage_path={str(tmp_path)!r})\n"
        "try:\n    experiment.run()\nexcept rllib_stpn.UsageError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)
    assert "nothing answers at '127.0.0.1:1'" in done.stdout, done.stderr


def test_the_command_line_is_not_imported(write):
    code = (
        "import sys, rllib_stpn\n"
        f"(experiment,) = rllib_stpn.experiments.load({str(write(SMALL))!r})\n"
        "experiment.algorithm_config()\n"
        "assert not any(name.startswith('rllib_stpn.cli') for name in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300).returncode == 0
