"""Agents as files of weights, and those that come with the package."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.connectors.env_to_module import FlattenObservations
from ray.rllib.connectors.env_to_module import MeanStdFilter as RLlibMeanStdFilter

import rllib_stpn
from rllib_stpn import A2CConfig, pretrained, recurrent_spec, use_batched_rollouts
from rllib_stpn.agents import agent_files
from rllib_stpn.agents.weights import read_weights, write_weights
from rllib_stpn.algorithms.recurrent_replay import use_recurrent_replay
from rllib_stpn.cli.main import main
from rllib_stpn.errors import UsageError
from rllib_stpn.models import LayerCatalog, MemoryRLModule
from rllib_stpn.rollouts import FlatObservations, MeanStdFilter
from rllib_stpn.rollouts.preprocessing import ActionsForEnv
from tests.own_connectors import Always


class Parts(gym.Env):
    """Observations in parts, and two actions at once."""

    observation_space = gym.spaces.Dict(
        {
            "a": gym.spaces.Discrete(3, start=1),
            "b": gym.spaces.Box(-np.inf, np.inf, (2,)),
            "c": gym.spaces.MultiBinary(2),
        }
    )
    action_space = gym.spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._drawn(), {}

    def step(self, action):
        return self._drawn(), float(action[0]), False, bool(self.np_random.random() < 0.1), {}

    def _drawn(self):
        draw = self.np_random
        numbers, bits = draw.normal(size=2).astype(np.float32), draw.integers(2, size=2).astype(np.int8)
        return {"a": draw.integers(1, 4), "b": numbers, "c": bits}


def filtered(env, spaces, device):
    return [MeanStdFilter()]


def flat_and_filtered(env, spaces, device):
    return [FlatObservations(), MeanStdFilter()]


def pendulum():
    spec = recurrent_spec("stpn", hidden_size=5, normalize="pre", custom_action_dist="softplus_gaussian")
    config = PPOConfig().environment("Pendulum-v1").rl_module(rl_module_spec=spec)
    config.training(train_batch_size=64, minibatch_size=32, num_epochs=1)
    return use_batched_rollouts(config.env_runners(env_to_module_connector=filtered))


def parts():
    gym.register("TestParts-v0", Parts)
    config = A2CConfig().environment("TestParts-v0").rl_module(rl_module_spec=recurrent_spec("lstm", hidden_size=4))
    return config.env_runners(env_to_module_connector=flat_and_filtered)


def stock_filtered(env, spaces, device):
    return [RLlibMeanStdFilter()]


def stock():
    """With RLlib's own env runner and connectors."""
    config = PPOConfig().environment("Pendulum-v1").rl_module(rl_module_spec=recurrent_spec("gru", hidden_size=4))
    config.training(train_batch_size=64, minibatch_size=32, num_epochs=1)
    return config.env_runners(env_to_module_connector=stock_filtered)


CONFIGS = {"pendulum": pendulum, "parts": parts, "stock": stock}


@pytest.fixture(scope="module", params=CONFIGS)
def directory(request, ray_session, tmp_path_factory):
    """The checkpoint of a short training, and the file of its weights beside it."""
    folder = tmp_path_factory.mktemp(request.param)
    config = CONFIGS[request.param]().env_runners(num_env_runners=0, num_envs_per_env_runner=2)
    algo = config.debugging(seed=0).build_algo()
    try:
        algo.train()
        algo.save_to_path(folder / "checkpoint")
    finally:
        algo.stop()
    agent_files.write(folder / "checkpoint", folder / "agent.safetensors", {"command": "x"})
    return folder


def test_it_acts_as_the_checkpoint_does(directory):
    agents = [rllib_stpn.load(directory / name) for name in ("checkpoint", "agent.safetensors")]
    assert repr(agents[0]) == repr(agents[1])
    played = []
    for agent in agents:
        env, state, first, actions = agent.make_env(num_envs=3), None, np.ones(3, bool), []
        observations, _ = env.reset(seed=1)
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            chosen, state = agent.step(observations, state, first, explore=True, generator=generator)
            observations, _, terminated, truncated, _ = env.step(chosen)
            first = terminated | truncated
            actions.append(chosen)
        env.close()
        played.append(np.array(actions))
    np.testing.assert_array_equal(*played)
    assert np.ptp(played[0]) > 0
    assert agents[0].observation_space == agents[1].observation_space
    assert agents[0].action_space == agents[1].action_space


def test_numpys_numbers_in_settings_are_numbers_in_the_file(ray_session, tmp_path):
    config = A2CConfig().environment("Pendulum-v1", env_config={"g": np.float32(9.5)})
    config.rl_module(rl_module_spec=recurrent_spec("rnn", hidden_size=3))
    algo = config.env_runners(num_env_runners=0).build_algo()
    try:
        algo.save_to_path(tmp_path / "checkpoint")
    finally:
        algo.stop()
    file = tmp_path / "agent.safetensors"
    agent_files.write(tmp_path / "checkpoint", file, {"seed": np.int64(3)})
    assert agent_files.origin(file) == {"seed": 3}
    assert json.loads(read_weights(file)[1]["agent"])["env_config"] == {"g": 9.5}


def test_nothing_in_the_file_is_pickled(directory):
    tensors, texts = read_weights(directory / "agent.safetensors")
    assert {name for name in tensors if name.startswith("observation_filter.0.")} != set()
    assert json.loads(texts["agent"])["env"] in ("Pendulum-v1", "TestParts-v0")
    assert agent_files.origin(directory / "agent.safetensors") == {"command": "x"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda told: told["model"].update(custom_model="os.system"), "custom_model: got 'os.system', allowed are"),
        (lambda told: told["model"]["custom_model_config"].update(hidden_size=7), "size mismatch"),
        (lambda told: told.pop("env"), "cannot be made an agent of: KeyError: 'env'"),
        (lambda told: told["observation_space"].update(kind="Graph"), "space: got 'Graph', allowed are 'Box'"),
        (lambda told: told["observations"].append("Popen"), "cannot be made an agent of: KeyError: 'Popen'"),
        (lambda told: told.update(env="antigravity:A-v0"), "env: got 'antigravity:A-v0', whose module 'antigravity'"),
        (lambda told: told.update(env="this.Env"), "env: got 'this.Env', whose module 'this' a file of weights does"),
        (lambda told: told.update(env=["CartPole-v1"]), "env: got ['CartPole-v1'], allowed is the id"),
    ],
)
def test_a_file_that_says_something_else_is_refused(directory, tmp_path, change, told):
    tensors, texts = read_weights(directory / "agent.safetensors")
    agent = json.loads(texts["agent"])
    change(agent)
    write_weights(tmp_path / "other.safetensors", tensors, texts | {"agent": json.dumps(agent)})
    with pytest.raises(UsageError) as error:
        rllib_stpn.load(tmp_path / "other.safetensors")
    assert told in str(error.value)


def test_a_module_that_is_imported_here_may_be_named(directory, tmp_path):
    tensors, texts = read_weights(directory / "agent.safetensors")
    agent = json.loads(texts["agent"])
    for env in (f"{__name__}:Mine-v0", "stpn_envs:stpn/Maze-v0"):
        texts["agent"] = json.dumps(agent | {"env": env})
        write_weights(tmp_path / "other.safetensors", tensors, texts)
        assert rllib_stpn.load(tmp_path / "other.safetensors").env_id == env


def test_the_command_writes_the_same_file(directory, tmp_path, capsys):
    file = tmp_path / "agent.safetensors"
    assert main(["export", str(directory / "checkpoint"), str(file)]) == 0
    assert f"weights     {file}" in capsys.readouterr().out
    tensors, texts = read_weights(file)
    expected, told = read_weights(directory / "agent.safetensors")
    assert all(torch.equal(tensors[name], expected[name]) for name in expected) and texts["agent"] == told["agent"]
    assert main(["export", str(directory / "checkpoint"), str(tmp_path / "agent.pt")]) == 2
    assert "allowed is a name that ends with .safetensors" in capsys.readouterr().err
    assert main(["export", str(directory / "checkpoint"), str(tmp_path / "missing/agent.safetensors")]) == 2
    assert "cannot be written: No such file" in capsys.readouterr().err


def test_weights_of_something_else_are_refused(tmp_path):
    write_weights(tmp_path / "w.safetensors", {"a": np.zeros(2)})
    with pytest.raises(UsageError, match="got the format None, allowed is 'rllib-stpn agent 1'"):
        rllib_stpn.load(tmp_path / "w.safetensors")


def test_the_name_of_a_file_tells_its_form(directory, tmp_path):
    with pytest.raises(UsageError, match="allowed is a name that ends in .safetensors"):
        agent_files.write(directory / "checkpoint", tmp_path / "agent.pt")


def test_an_agent_without_a_layer_is_refused(tmp_path, ray_session):
    algo = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0).build_algo()
    try:
        algo.save_to_path(tmp_path / "checkpoint")
    finally:
        algo.stop()
    with pytest.raises(UsageError, match="got an agent without a layer of this package"):
        agent_files.write(tmp_path / "checkpoint", tmp_path / "w.safetensors")


class Half(MemoryRLModule):
    """A module of the user's own."""


class Twice(ActionsForEnv):
    """A connector of the user's own, derived from that of this package."""


class OwnCatalog(LayerCatalog):
    """A catalog of the user's own."""


def _other_filter(kind, **arguments):
    return lambda: pendulum().env_runners(env_to_module_connector=lambda env, spaces, device: kind(**arguments))


def _other_actions(make):
    return lambda: pendulum().env_runners(module_to_env_connector=lambda env, spaces: make())


def _only_first(env, spaces, device):
    return [FlattenObservations(Parts.observation_space, Parts.action_space, keys_to_remove=["a"])]


def _other_kind(**fields):
    config = pendulum()
    for name, value in fields.items():
        setattr(config._rl_module_spec, name, value)
    return config


def _replayed():
    config = DQNConfig().environment("CartPole-v1").rl_module(rl_module_spec=recurrent_spec("rnn", hidden_size=4))
    return use_recurrent_replay(config)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_other_filter(MeanStdFilter, clip_by_value=0.2), "MeanStdFilter: clip_by_value: got 0.2, allowed is 10.0"),
        (_other_filter(RLlibMeanStdFilter, de_std_to_one=False), "de_std_to_one: got False, allowed is True"),
        (_other_filter(type("MeanStdFilter", (MeanStdFilter,), {})), "got the connector MeanStdFilter, allowed are"),
        (
            lambda: pendulum().env_runners(env_to_module_connector=lambda *_: [MeanStdFilter(), MeanStdFilter()]),
            "got the connector MeanStdFilter twice, allowed is one",
        ),
        (
            lambda: parts().env_runners(env_to_module_connector=_only_first),
            "FlattenObservations: keys_to_remove: got ['a'], allowed is None",
        ),
        (_other_actions(lambda: [Always()]), "got the connector Always of actions, allowed is one NormalizeAndClip"),
        (
            _other_actions(lambda: [Twice(normalize_actions=True, clip_actions=False)]),
            "got the connector Twice of actions, allowed is one NormalizeAndClip",
        ),
        (lambda: _other_kind(module_class=Half), "got the module Half, allowed is rllib_stpn.models.MemoryRLModule"),
        (lambda: _other_kind(catalog_class=OwnCatalog), "got the catalog OwnCatalog, allowed is rllib_stpn.models.Lay"),
        (_replayed, "got the module MemoryQModule, allowed is rllib_stpn.models.MemoryRLModule itself"),
    ],
)
def test_what_the_file_would_leave_out_is_refused(make, told, tmp_path, ray_session):
    gym.register("TestParts-v0", Parts)
    algo = make().env_runners(num_env_runners=0).build_algo()
    try:
        algo.save_to_path(tmp_path / "checkpoint")
    finally:
        algo.stop()
    with pytest.raises(UsageError) as error:
        agent_files.write(tmp_path / "checkpoint", tmp_path / "w.safetensors")
    assert told in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize("name", pretrained.names())
def test_an_agent_of_the_package_plays_to_its_stated_return(name):
    told = agent_files.origin(pretrained.find(name))
    assert pretrained.find(name).stat().st_size < 100_000
    assert (Path(__file__).parents[2] / told["file"]).exists()
    assert told["command"].startswith(f"rllib train -f {told['file']} --seed {told['seed']}")
    episodes = 4 if "pendulum" in name else 24
    played = rllib_stpn.evaluate(name, episodes, seed=0)  # other episodes than those that were stated
    error = told["return_std"] * (1 / episodes + 1 / told["episodes"]) ** 0.5
    assert abs(played.returns.mean() - told["return_mean"]) <= 5 * error  # five standard errors


def test_the_documentation_states_what_the_files_do():
    page = (Path(__file__).parents[2] / "docs/agents.md").read_text()
    stated = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert sorted(stated) == pretrained.names()
    for name, line in stated.items():
        told = agent_files.origin(pretrained.find(name))
        assert f"| {told['return_mean']:.4g}" in line and told["file"] in line and f"seed {told['seed']} " in line
