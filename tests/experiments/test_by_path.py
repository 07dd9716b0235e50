"""Connectors that a file names by their paths: they run where RLlib has them, in training and in a loaded agent."""

import json

import numpy as np
import pytest

import rllib_stpn
from rllib_stpn.agents.checkpoints import connectors_of
from rllib_stpn.agents.environments import vector_env_of
from rllib_stpn.cli.main import main
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import compatibility
from rllib_stpn.experiments.building import build_config
from rllib_stpn.experiments.loading import load
from rllib_stpn.experiments.validation import check

OWN = "tests.own_connectors"
STPN = {"custom_model": "stpn", "custom_model_config": {"hidden_size": 4}, "max_seq_len": 5}
SMALL = {"num_env_runners": 0, "train_batch_size": 60, "minibatch_size": 60, "num_epochs": 1, "model": STPN}
ON_CARTPOLE = {**SMALL, "env": "CartPole-v1", "module_to_env_connector": {f"{OWN}.Always": {"action": 0}}}


def spaces_of(config):
    env = vector_env_of(config)
    env.close()
    return env.single_observation_space, env.single_action_space


def names(pipeline):
    return [type(piece).__name__ for piece in pipeline.connectors]


def pipelines(settings):
    config = build_config("PPO", {"env": "CartPole-v1", "num_env_runners": 0, **settings})
    return [names(pipeline) for pipeline in connectors_of(config, *spaces_of(config), None)]


@pytest.mark.parametrize(
    "model, extra, behind",
    [
        (STPN, {}, []),
        (STPN, {"observation_filter": "MeanStdFilter"}, ["MeanStdFilter"]),
        ({"fcnet_hiddens": [4]}, {}, []),
    ],
    ids=["layer", "filter", "mlp"],
)
def test_they_stand_in_front_of_ours(model, extra, behind):
    first, last = pipelines({
        "model": model,
        "env_runner_cls": "single_agent",
        "env_to_module_connector": [{f"{OWN}.First": {"numbers": 3}}],
        "module_to_env_connector": f"{OWN}.Always",
        **extra,
    })  # fmt: skip
    assert first[: 1 + len(behind)] == ["First", *behind]
    assert last.index("GetActions") < last.index("Always") < last.index("ActionsForEnv")


def test_what_they_put_out_is_prepared_for_the_model():
    whole = {f"{OWN}.First": {"dtype": "int64"}}
    settings = {"env_runner_cls": "single_agent", "env_to_module_connector": whole, "model": {"fcnet_hiddens": [4]}}
    first, _ = pipelines(settings)
    assert first[:2] == ["First", "AsFloats"]


def test_a_learner_connector_is_that_of_rllibs_learner():
    settings = {"env_runner_cls": "single_agent", "learner_connector": f"{OWN}.Always"}
    config = build_config("PPO", {"env": "CartPole-v1", **settings})
    assert names(config.build_learner_connector(*spaces_of(config)))[0] == "Always"


@pytest.mark.parametrize(
    "key, block, message",
    [
        ("env_to_module_connector", "nowhere.Mine", "env_to_module_connector: 'nowhere.Mine' cannot be imported"),
        (
            "learner_connector",
            "gymnasium.Env",
            "got gymnasium.Env, allowed is a class derived from RLlib's ConnectorV2",
        ),
        ("module_to_env_connector", "mine", "module_to_env_connector: got 'mine', allowed are .*module.Class"),
        ("module_to_env_connector", [3], "module_to_env_connector: got 3, allowed are"),
        ("module_to_env_connector", {f"{OWN}.Always": {"acton": 1}}, "got the unknown argument .acton.*mean action"),
        ("env_to_module_connector", f"{OWN}.First", "cannot run batched; .*env_runner_cls: single_agent"),
        ("learner_connector", f"{OWN}.Always", "got the learner connector Always, allowed is none"),
    ],
)
def test_what_cannot_be_is_refused_before_ray_starts(write, key, block, message):
    text = json.dumps({"x": {"run": "PPO", "env": "CartPole-v1", "config": {**SMALL, key: block}}})
    with pytest.raises(UsageError, match=message):
        check(*load(write(text)))


def test_the_old_stack_has_none(write):
    old = {"enable_rl_module_and_learner": False, "enable_env_runner_and_connector_v2": False}
    settings = {**old, "env_to_module_connector": f"{OWN}.First"}
    with pytest.raises(UsageError, match="connectors by their paths are for the new API stack"):
        check(*load(write(json.dumps({"x": {"run": "PPO", "env": "CartPole-v1", "config": settings}}))))


def test_a_python_file_keeps_its_own_way():
    from ray.rllib.algorithms.ppo import PPOConfig

    base = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
    config = build_config("PPO", {"module_to_env_connector": f"{OWN}.Always"}, base)
    assert compatibility.check(config, prepared=False, known={}) == []
    _, last = connectors_of(config, *spaces_of(config), None)
    assert names(last).count("NormalizeAndClipActions") == 1
    assert "Always" in names(last)


@pytest.mark.parametrize("runner, kind", [("batched", "Batched"), ("single_agent", "First")])
def test_they_run_in_training_and_in_a_loaded_agent(runner, kind, ray_session, tmp_path):
    config = build_config("PPO", {**ON_CARTPOLE, "env_runner_cls": runner, "env_to_module_connector": f"{OWN}.{kind}"})
    algo = config.build_algo()
    result = algo.train()
    algo.save_to_path(tmp_path / "checkpoint")
    algo.stop()
    # Pushed to one side all the time, the pole falls within ten steps or so; at random after about 22.
    assert result["env_runners"]["episode_len_max"] < 13
    agent = rllib_stpn.load(tmp_path / "checkpoint")
    actions, _ = agent.step(np.zeros((3, 4), np.float32))
    assert (actions == 0).all()
    assert agent.module.observation_space.shape == (2,)


@pytest.mark.slow
def test_remote_env_runners_of_a_command_import_them(ray_session, tmp_path):
    settings = {**ON_CARTPOLE, "num_env_runners": 1, "env_to_module_connector": f"{OWN}.Batched"}
    env = settings.pop("env")
    options = ["--config", json.dumps(settings), "--stop", '{"training_iteration": 1}', "--local-dir", str(tmp_path)]
    assert main(["train", "--run", "PPO", "--env", env, *options, "--ray-num-cpus", "4"]) == 0
    (result,) = tmp_path.rglob("result.json")
    told = json.loads(result.read_text().splitlines()[-1])
    assert told["config"]["num_env_runners"] == 1 and told["env_runners"]["episode_len_max"] < 13
