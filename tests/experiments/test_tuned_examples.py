"""The files of ``tuned_examples``."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rllib_stpn.experiments.building import build_config
from rllib_stpn.experiments.folding import fold
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.resources import Cluster
from rllib_stpn.experiments.searches import points
from rllib_stpn.experiments.validation import check

DIRECTORY = Path(__file__).parents[2] / "tuned_examples"
FILES = sorted(DIRECTORY.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_passes_the_checks_uses_todays_names_and_ends(path):
    for experiment in load(path):
        assert check(experiment).notes == ()
        assert experiment.stop
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(
    ("name", "layer", "options", "lr"),
    [
        ("pong_stpn", "stpn", {"hidden_size": 64, "normalize": "pre"}, 7e-4),
        ("pong_lstm", "lstm", {"hidden_size": 48}, 1e-4),
    ],
)
def test_pong_has_the_papers_settings(name, layer, options, lr):
    (experiment,) = load(DIRECTORY / f"{name}.yaml")
    (settings,) = points(experiment.config)
    config = build_config(experiment.algorithm, settings)
    assert config.num_env_runners * config.num_envs_per_env_runner == 64
    assert (config.rollout_fragment_length, config.train_batch_size, config.minibatch_size) == (50, 3200, 200)
    assert (config.gamma, config.lambda_) == (0.99, 1.0)
    # The papers' 0.5 and 40 were of RLlib's sum over a minibatch, with half of the squared error.
    assert (config.vf_loss_coeff, config.entropy_coeff, config.grad_clip) == (0.5 / 2, 0.01, 40 / 200)
    assert config.lr == [[0, lr], [200_000_000, 0.0]]
    assert config.env_config["clip_rewards"] is True
    assert (config.env_config["frame_skip"], config.env_config["repeat_action_probability"]) == (1, 0.0)
    assert experiment.stop == {
        "num_env_steps_sampled_lifetime": 100_000_000,
        "env_runners/episode_return_mean": 20.99,
    }
    model = config.rl_module_spec.model_config
    assert (model["custom_model"], model["max_seq_len"], model["vf_share_layers"]) == (layer, 50, True)
    assert {key: model["custom_model_config"][key] for key in options} == options


@pytest.mark.parametrize(("name", "core"), [("pong_stpn", 510_016), ("pong_lstm", 507_264)])
def test_pong_has_as_many_parameters_as_the_papers(name, core):
    (experiment,) = load(DIRECTORY / f"{name}.yaml")
    (settings,) = points(experiment.config)
    spec = build_config(experiment.algorithm, settings).rl_module_spec
    spec.observation_space = gymnasium.spaces.Box(0, 255, (84, 84, 1), np.uint8)
    spec.action_space = gymnasium.spaces.Discrete(6)
    module = spec.build()
    hidden = settings["model"]["custom_model_config"]["hidden_size"]
    convolutions = (8 * 8 * 1 + 1) * 16 + (4 * 4 * 16 + 1) * 32
    heads = (hidden + 1) * 6 + (hidden + 1)
    assert sum(p.numel() for p in module.parameters()) == convolutions + core + heads


def test_pong_on_a_small_machine_keeps_its_batch():
    (experiment,) = load(DIRECTORY / "pong_stpn.yaml")
    folded, _ = fold(experiment.config, build_config("A2C", {}), Cluster([2]))
    config = build_config("A2C", folded)
    assert (config.num_env_runners, config.num_envs_per_env_runner) == (0, 64)
    assert 64 * config.rollout_fragment_length == config.train_batch_size_per_learner == 3200
