"""Atari games by the ids of every era, as settings of a trial. No Ray session but in the last test."""

import json

import pytest
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS

import rllib_stpn
from rllib_stpn.agents.environments import make_env
from rllib_stpn.cli.main import main
from rllib_stpn.experiments import atari
from rllib_stpn.experiments.building import build_config
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.overrides import Overrides
from rllib_stpn.experiments.validation import check
from tests.experiments.of_settings import experiment_of

SMALL = "stpn_envs:stpn/Atari-v0"
OWN_FILTERS = {"conv_filters": [[4, 8, 8]]}
LAYER = {"custom_model": "lstm", "custom_model_config": {"hidden_size": 4}, "max_seq_len": 5}
OLD_STACK = {"enable_rl_module_and_learner": False, "enable_env_runner_and_connector_v2": False}


@pytest.mark.parametrize(
    ("env", "game", "frame_skip", "sticky"),
    [
        ("MsPacman-v0", "ms_pacman", 4, 0.25),
        ("MsPacmanNoFrameskip-v0", "ms_pacman", 1, 0.25),
        ("MsPacmanNoFrameskip-v4", "ms_pacman", 1, 0.0),
        ("SpaceInvadersDeterministic-v4", "space_invaders", 3, 0.0),
        ("ALE/Freeway-v5", "freeway", 4, 0.25),
        ("ale_py:ALE/Freeway-v5", "freeway", 4, 0.25),
    ],
)
@pytest.mark.parametrize("model", [{}, {"use_lstm": True}, LAYER], ids=["plain", "lstm", "layer"])
def test_models_without_filters_see_small_frames(env, game, frame_skip, sticky, model):
    fitted, notes = atari.fit({"env": env, "model": model}, new_stack=True)
    assert fitted["env"] == SMALL
    told = {"game": game, "frame_skip": frame_skip, "repeat_action_probability": sticky}
    assert fitted["env_config"] == {**told, "full_action_space": False, "clip_rewards": True}
    assert f"env: {env} -> {SMALL}" in notes[0]


@pytest.mark.parametrize(
    ("env", "shape"),
    [
        ("Freeway-v4", (210, 160, 3)),
        ("FreewayNoFrameskip-v0", (210, 160, 3)),
        ("FreewayDeterministic-v4", (210, 160, 3)),
        ("ALE/Freeway-v5", (210, 160, 3)),
        ("Freeway-ram-v0", (128,)),
        ("Freeway-ramNoFrameskip-v4", (128,)),
        ("ALE/Freeway-ram-v5", (128,)),
    ],
)
@pytest.mark.parametrize("stack", [{}, OLD_STACK], ids=["new", "old"])
def test_others_see_the_games_own(env, shape, stack):
    config = build_config("PPO", {"env": env, "model": OWN_FILTERS, **stack})
    made = make_env(config.env, config.env_config)
    assert made.observation_space.shape == shape
    made.close()


def test_the_users_own_arguments_win():
    arguments = {"frameskip": 7, "repeat_action_probability": 0.5}
    for model in ({}, OWN_FILTERS):
        settings = {"env": "FreewayDeterministic-v4", "env_config": arguments, "model": model}
        fitted = atari.fit(settings, new_stack=True)[0]["env_config"]
        assert fitted["repeat_action_probability"] == 0.5
        assert fitted.get("frame_skip", fitted.get("frameskip")) == 7


def test_other_environments_stay():
    for env in ("CartPole-v0", "Pendulum-v1", "my.module.Env-v4", "stpn_envs:stpn/Pong-v0", None):
        assert atari.fit({"env": env}, new_stack=True) == ({"env": env}, [])


@pytest.mark.parametrize(
    ("settings", "over", "clips"),
    [
        ({"env": "ALE/Freeway-v5"}, {"clip_rewards": False}, False),
        ({"env": "ALE/Freeway-v5", "clip_rewards": False}, {}, False),
        ({"env": "stpn_envs:stpn/Pong-v0", "clip_rewards": True}, {}, True),
        ({"env": "CartPole-v1", "clip_rewards": False}, {}, None),
    ],
)
def test_rewards_are_clipped_by_the_environment(settings, over, clips):
    experiment = experiment_of("PPO", **settings)
    config = build_config("PPO", Overrides(config=over).apply(experiment).config)
    assert config.env_config.get("clip_rewards") is clips


def test_evaluation_has_its_own_game_and_clipping_and_others_are_told_of_theirs():
    settings = {"env": "ALE/Freeway-v5", "evaluation_config": {"clip_rewards": False, "explore": False}}
    evaluation = build_config("PPO", settings).get_evaluation_config_object()
    assert (evaluation.env, evaluation.env_config["game"]) == (SMALL, "freeway")
    assert evaluation.env_config["clip_rewards"] is False and evaluation.explore is False
    settings = {"env": "ALE/Freeway-v5", "evaluation_config": {"env": "QbertNoFrameskip-v4"}}
    evaluation = build_config("PPO", settings).get_evaluation_config_object()
    assert (evaluation.env_config["game"], evaluation.env_config["frame_skip"]) == ("qbert", 1)
    _, notes = atari.fit({"env": "CartPole-v1", "clip_rewards": True}, new_stack=True)
    assert "clip_rewards no longer means anything with CartPole-v1" in notes[0]


def test_each_game_of_a_sweep_is_told_and_made(write):
    games = "[FreewayNoFrameskip-v4, ALE/Qbert-v5]"
    (experiment,) = load(write(f"x: {{run: PPO, env: {{grid_search: {games}}}, config: {{clip_rewards: true}}}}"))
    experiment = Overrides().apply(experiment)
    told = "\n".join(check(experiment).notes)
    assert f"FreewayNoFrameskip-v4 -> {SMALL}, freeway" in told
    assert f"ALE/Qbert-v5 -> {SMALL}, qbert" in told
    assert experiment.config["env"] == {"grid_search": ["FreewayNoFrameskip-v4", "ALE/Qbert-v5"]}


@pytest.mark.slow
def test_it_trains_in_remote_env_runners_goes_on_and_is_loaded(write, capsys, ray_session, tmp_path):
    config = {"num_env_runners": 1, "train_batch_size": 20, "minibatch_size": 10, "num_epochs": 1}
    config |= {"rollout_fragment_length": 20, "model": {**LAYER, **OWN_FILTERS}}
    file = write(json.dumps({"games": {"run": "PPO", "env": "FreewayDeterministic-v4", "config": config}}))
    options = ["--storage-path", str(tmp_path), "--ray-num-cpus", "2"]
    assert main(["train", str(file), "--stop", '{"training_iteration": 1}', *options]) == 0
    assert main(["train", str(file), "--stop", '{"training_iteration": 2}', "--resume", *options]) == 0
    assert capsys.readouterr().err == ""
    (result,) = tmp_path.glob("games/*/result.json")
    last = json.loads(result.read_text().splitlines()[-1])
    assert last["training_iteration"] == 2 and last[ENV_RUNNER_RESULTS]["num_env_steps_sampled_lifetime"] == 40
    agent = rllib_stpn.load(tmp_path / "games")
    env = agent.make_env(num_envs=2)
    observations, _ = env.reset(seed=0)
    actions, _ = agent.step(observations, None, None)
    assert actions.shape == (2,)
