"""Values that make no sense are refused, wherever a setting can stand."""

import pytest

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.validation import check


def checked(tmp_path, config, run="PPO", env="CartPole-v1"):
    path = tmp_path / "experiment.yaml"
    path.write_text(f"x: {{run: {run}, env: {env}, config: {config}}}")
    (experiment,) = load(path)
    check(experiment)


@pytest.mark.parametrize("value", [".nan", "1e999", ".inf", "-.inf"])
@pytest.mark.parametrize("key", ["num_env_runners", "train_batch_size", "num_epochs", "seed", "evaluation_interval"])
def test_a_whole_number_is_finite(tmp_path, key, value):
    with pytest.raises(UsageError, match=f"{key}: got .*, allowed is a whole number"):
        checked(tmp_path, f"{{{key}: {value}}}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("gamma: 3.7", "gamma: got 3.7, allowed are numbers from 0 to 1"),
        ("lambda_: -1", "lambda_: got -1, allowed are numbers from 0 to 1"),
        ("lambda: 1.5", "lambda_: got 1.5, allowed are numbers from 0 to 1"),
        ("lr: -1e-3", "lr: got -0.001, allowed are numbers from 0"),
        ("lr: .inf", "lr: got inf, allowed are finite numbers"),
        ("lr: [[0, 1e-3], [1000, -1e-4]]", "lr: schedule: got -0.0001, allowed are numbers from 0"),
        ("lr: [[0, a]]", "lr: got 'a' as a value of the schedule, allowed are numbers"),
        ("lr: {grid_search: [1e-3, -1e-3]}", "lr: got -0.001"),
        ("lr: {uniform: [-1e-3, 1e-3]}", "lr: got -0.001"),
        ("entropy_coeff: .nan", "entropy_coeff: got nan"),
        ("grad_clip: []", r"grad_clip: got \[\], allowed is a number"),
        ("grad_clip: -1", "grad_clip: got -1, allowed are numbers from 0"),
        ("clip_param: 0", "clip_param: got 0, allowed are numbers above 0"),
        ("vf_loss_coeff: [[0, 1], [10, 2]]", "vf_loss_coeff: got .*, allowed is a number"),
        ("evaluation_config: {gamma: 2}", "evaluation_config: gamma: got 2"),
        ("model: {custom_model: 0}", "custom_model: got 0, allowed is the name of a layer"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, setting, message):
    with pytest.raises(UsageError, match=message):
        checked(tmp_path, f"{{{setting}}}")


@pytest.mark.parametrize(
    "setting",
    ["vf_clip_param: .inf", "lr: 0", "gamma: 0", "gamma: 1", "grad_clip: null", "lr: [[0, 1e-3], [9, 0]]"],
)
def test_the_ends_of_the_ranges_are_taken(tmp_path, setting):
    checked(tmp_path, f"{{{setting}}}")


@pytest.mark.parametrize(
    ("run", "env", "setting"),
    [
        ("DQN", "CartPole-v1", "replay_buffer_config: {capasity: 1000}"),
        ("SAC", "Pendulum-v1", "q_model_config: {fcnet_hidens: [8]}"),
    ],
)
def test_a_misspelt_key_in_a_block_that_is_handed_on_is_refused(tmp_path, run, env, setting):
    with pytest.raises(UsageError, match="got the unknown key .*, allowed are those of RLlib; did you mean"):
        checked(tmp_path, f"{{{setting}}}", run, env)
