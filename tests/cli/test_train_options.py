"""Several experiments and trials, Python files and checkpoints, by runs that join the Ray of the test session."""

import argparse
import json

import pytest

from rllib_stpn.cli.commands import train
from rllib_stpn.cli.main import main
from rllib_stpn.report.trials import read_trials

pytestmark = pytest.mark.usefixtures("ray_session")

SMALL = "num_env_runners: 0, train_batch_size: 64, minibatch_size: 64, num_epochs: 1, model: {fcnet_hiddens: [4]}"


def results(directory) -> list[list[dict]]:
    """The results of each trial below a directory."""
    files = sorted(directory.rglob("result.json"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


@pytest.mark.slow
def test_two_experiments_in_a_file_and_random_search(capsys, write, tmp_path):
    path = write(f"""
one:
  run: PPO
  env: CartPole-v1
  stop: {{training_iteration: 2}}
  num_samples: 2
  config: {{{SMALL}, lr: {{loguniform: [1e-5, 1e-2]}}, env_config: {{sutton_barto_reward: {{choice: [true]}}}}}}
two:
  run: APPO
  env: Acrobot-v1
  stop: {{training_iteration: 1}}
  config: {{num_env_runners: 0, train_batch_size_per_learner: 50, num_learners: 0}}
""")
    scheduler = ["--scheduler", "ASHA", "--scheduler-config", '{"grace_period": 1, "reduction_factor": 2}']
    assert main(["train", "file", str(path), "--local-dir", str(tmp_path / "out"), *scheduler]) == 0
    first, second = results(tmp_path / "out" / "one")
    rates = {trial[0]["config"]["lr"] for trial in (first, second)}
    assert len(rates) == 2 and all(1e-5 <= rate <= 1e-2 for rate in rates)
    assert all(trial[0]["config"]["env_config"] == {"sutton_barto_reward": True} for trial in (first, second))
    ((alone,),) = results(tmp_path / "out" / "two")
    assert alone["config"]["env"] == "Acrobot-v1"
    assert "APPO on Acrobot-v1: 1 iterations" in capsys.readouterr().out


@pytest.mark.slow
def test_population_based_training_perturbs_the_settings(write, tmp_path):
    path = write(f"""
population:
  run: PPO
  env: CartPole-v1
  stop: {{training_iteration: 4}}
  num_samples: 2
  config: {{{SMALL}, lr: {{uniform: [0.001, 0.002]}}}}
""")
    arguments = {
        "time_attr": "training_iteration",
        "perturbation_interval": 1,
        "synch": True,
        "quantile_fraction": 0.5,
        "resample_probability": 1.0,
        "hyperparam_mutations": {"lr": {"uniform": [0.1, 0.2]}},
    }
    scheduler = ["--scheduler", "pbt", "--scheduler-config", json.dumps(arguments)]
    assert main(["train", str(path), "--storage-path", str(tmp_path / "out"), *scheduler]) == 0
    trials = results(tmp_path / "out")
    assert [trial[-1]["training_iteration"] for trial in trials] == [4, 4]
    rates = [result["config"]["lr"] for trial in trials for result in trial]
    assert min(rates) < 0.002 and max(rates) > 0.1


PYTHON = """
import gymnasium
from ray import tune
from ray.rllib.algorithms.ppo import PPOConfig

from rllib_stpn import recurrent_spec


class Short(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, context):
        pass

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 7.0, True, False, {}


config = (
    PPOConfig()
    .environment(Short)
    .env_runners(num_env_runners=0)
    .training(train_batch_size_per_learner=64, minibatch_size=64, num_epochs=1, lr=tune.grid_search([0.1, 0.2]))
    .rl_module(rl_module_spec=recurrent_spec("gru", hidden_size=4))
)
stop = {"training_iteration": 1}
"""


def test_a_python_file_and_its_checkpoint(capsys, write, tmp_path):
    path = write(PYTHON, "short.py")
    out = tmp_path / "out"
    assert main(["train", "file", str(path), "--storage-path", str(out), "--config", '{"gamma": 0.5}']) == 0
    (first,), (second,) = results(out / "short")
    assert {result["config"]["lr"] for result in (first, second)} == {0.1, 0.2}
    assert first["config"]["gamma"] == 0.5
    assert first["env_runners"]["episode_return_mean"] == 7
    told = capsys.readouterr().out
    assert "PPO on Short: 2 trials, by return, the highest first" in told
    (trial, _), _ = read_trials([out / "short"], [])
    assert (trial.subject, trial.layer) == ("Short", "gru")

    begin = ["train", str(path), "--restore", str(out / "short"), "-n", "on", "--storage-path", str(out)]
    assert main([*begin, "--config", '{"lr": 0.3}']) == 0
    ((result,),) = results(out / "on")
    assert result["training_iteration"] == 2  # counters go on, too
    assert result["num_env_steps_sampled_lifetime"] == 128

    wrong = ["train", "--run", "APPO", "--env", "CartPole-v1", "--restore", str(out / "short")]
    assert main(wrong) == 2
    assert "got a checkpoint of PPO" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        ([], None),
        (["--evaluation-duration", "7"], {"evaluation_duration": 7}),
        (
            ["--evaluation-interval", "5", "--config", '{"lr": 0.1}'],
            {"evaluation_interval": 5, "lr": 0.1, "evaluation_config": {"explore": False}},
        ),
        (
            ["--evaluation-interval", "5", "--config", '{"evaluation_config": {"explore": true}}'],
            {"evaluation_interval": 5, "evaluation_config": {"explore": True}},
        ),
    ],
)
def test_settings_of_evaluation_are_options(arguments, config):
    parser = argparse.ArgumentParser()
    train.add_options(parser)
    assert train._with_evaluation(parser.parse_args(arguments)) == config
