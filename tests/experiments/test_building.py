"""From plain settings to an AlgorithmConfig. No Ray cluster."""

import types

import gymnasium
import numpy as np
import pytest

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.building import build_config
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.searches import points
from rllib_stpn.experiments.validation import check
from rllib_stpn.rollouts import BatchedEnvRunner, EpisodeEnvRunner, ManyAgentsEnvRunner, RecordingEnvRunner
from rllib_stpn.rollouts.observations import AsFloats
from rllib_stpn.rollouts.preprocessing import ActionsForEnv
from tests.experiments.of_settings import experiment_of

STPN = {"custom_model": "stpn", "custom_model_config": {"hidden_size": 8}, "max_seq_len": 5}


def test_settings_are_attributes_of_the_config():
    settings = {
        "env": "CartPole-v1",
        "lr": 0.1,
        "lambda_": 0.5,
        "evaluation_interval": 3,
        "__trial_info__": None,
    }
    config = build_config("PPO", settings)
    assert (config.env, config.lr, config.lambda_, config.evaluation_interval) == ("CartPole-v1", 0.1, 0.5, 3)
    assert config.env_runner_cls is EpisodeEnvRunner


def test_a_plain_model_block_is_the_default_modules():
    config = build_config("PPO", {"model": {"fcnet_hiddens": [8], "use_lstm": True}})
    assert config.model_config["fcnet_hiddens"] == [8]
    assert config.model_config["use_lstm"] is True


def test_a_custom_model_is_a_module_spec_and_the_settings_stay_as_they_were():
    settings = {"model": dict(STPN)}
    config = build_config("PPO", settings)
    assert config.rl_module_spec.model_config["custom_model"] == "stpn"
    assert config.rl_module_spec.model_config["max_seq_len"] == 5
    assert settings == {"model": STPN}


def test_which_env_runner_samples():
    assert build_config("PPO", {"model": STPN}).env_runner_cls is BatchedEnvRunner
    assert build_config("PPO", {"env_runner_cls": "batched"}).env_runner_cls is BatchedEnvRunner
    assert build_config("A2C", {"model": STPN}).env_runner_cls is BatchedEnvRunner
    alone = build_config("PPO", {"model": STPN, "env_runner_cls": "single_agent"})
    assert alone.env_runner_cls is EpisodeEnvRunner
    assert build_config("SAC", {}).env_runner_cls is EpisodeEnvRunner
    assert build_config("PPO", {"policies": ["a"]}).env_runner_cls is ManyAgentsEnvRunner
    assert build_config("PPO", {"output": "/tmp/episodes"}).env_runner_cls is RecordingEnvRunner
    assert alone.add_default_connectors_to_learner_pipeline


@pytest.mark.parametrize("run", ["A2C", "PPO"])
@pytest.mark.parametrize("bootstrap", [True, False])
@pytest.mark.parametrize("runner", [{}, {"env_runner_cls": "batched"}], ids=["default", "batched"])
def test_bootstrap_truncated_is_one_setting_for_both_algorithms(run, bootstrap, runner):
    config = build_config(run, {"model": STPN, "bootstrap_truncated": bootstrap, **runner})
    told = getattr(config, "bootstrap_truncated", config.learner_config_dict.get("bootstrap_truncated"))
    assert told is bootstrap


def test_bootstrap_truncated_without_batched_sampling_is_refused():
    with pytest.raises(UsageError, match="env_runner_cls: batched"):
        build_config("PPO", {"bootstrap_truncated": False})


@pytest.mark.parametrize("runner", ["single_agent", "batched"])
def test_evaluation_may_normalize_and_clip_actions_otherwise(runner):
    settings = {"env": "Pendulum-v1", "env_runner_cls": runner, "clip_actions": True}
    config = build_config("PPO", settings | {"evaluation_config": {"normalize_actions": False}})
    spaces = gymnasium.spaces.Box(-1, 1, (3,)), gymnasium.spaces.Box(-2, 2, (1,))
    for each, normalizes in ((config, True), (config.get_evaluation_config_object(), False)):
        (piece,) = (
            piece
            for piece in each.build_module_to_env_connector(env=None, spaces={"__env_single__": spaces}).connectors
            if isinstance(piece, ActionsForEnv)
        )
        assert (piece.normalize_actions, piece.clip_actions) == (normalizes, True)


def test_the_old_stack_gets_its_model_block_as_it_is():
    settings = {
        "enable_rl_module_and_learner": False,
        "enable_env_runner_and_connector_v2": False,
        "model": {"fcnet_hiddens": [8]},
    }
    config = build_config("PPO", settings)
    assert not config.enable_rl_module_and_learner
    assert config.model["fcnet_hiddens"] == [8]


def test_numbers_written_as_text_are_numbers_after_the_check(write):
    (experiment,) = load(
        write(
            "x: {run: PPO, env: CartPole-v1, config: {lr: 1e-4, train_batch_size: 4e3, "
            "entropy_coeff: [[0, 1e-2], [1e6, 0]], gamma: {grid_search: [9e-1, 0.99]}}}"
        )
    )
    experiment = check(experiment)
    first, second = points(experiment.config)
    assert (first["lr"], first["train_batch_size"], first["gamma"]) == (1e-4, 4000, 0.9)
    assert first["entropy_coeff"] == [[0, 0.01], [1_000_000, 0]]
    assert second["gamma"] == 0.99


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (gymnasium.spaces.Box(0, 255, (4, 4, 1), np.uint8), ["ScalePixels", "MeanStdFilter"]),
        (gymnasium.spaces.Box(0, 255, (128,), np.uint8), ["AsFloats", "MeanStdFilter"]),
        (gymnasium.spaces.Box(-1, 1, (4,), np.float32), ["MeanStdFilter"]),
        (gymnasium.spaces.Discrete(3), ["FlatObservations", "MeanStdFilter"]),
    ],
)
def test_whole_numbers_are_floats_before_they_are_filtered(space, expected):
    config = build_config("PPO", {"model": STPN, "observation_filter": "MeanStdFilter"})
    env = types.SimpleNamespace(single_observation_space=space)
    assert [type(piece).__name__ for piece in config._env_to_module_connector(env)] == expected


def test_filtered_bytes_keep_their_fractions():
    cast = AsFloats()
    observations = np.array([[0, 1], [2, 255]], np.uint8)
    assert cast.batched(observations).dtype == np.float32
    space = cast.recompute_output_observation_space(gymnasium.spaces.Box(0, 255, (2,), np.uint8), None)
    assert space == gymnasium.spaces.Box(0, 255, (2,), np.float32)


def test_algorithms_with_several_rates_do_without_the_one():
    check(experiment_of("SAC", "Pendulum-v1", lr=None, actor_lr=0.001))
    with pytest.raises(UsageError, match="lr: got None, allowed is a number"):
        check(experiment_of("PPO", "CartPole-v1", lr=None))
