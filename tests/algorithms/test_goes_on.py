"""A run that goes on from its checkpoint is the unbroken one, to the bit, with a local runner."""

import json

import gymnasium as gym
import numpy as np
import pytest
import tree
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback

from rllib_stpn import recurrent_spec, register, use_batched_rollouts
from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.cli.main import main
from rllib_stpn.layers import LAYERS
from rllib_stpn.rollouts.standing import saved_environments

pytestmark = pytest.mark.usefixtures("ray_session")
MAZE = "stpn_envs:stpn/MazeSmall-v0"


class Lasting(gym.Env):
    """Episodes of 30 steps whose rewards are drawn; it cannot be pickled, and can be told where it stands."""

    observation_space = gym.spaces.Box(-10, 10, (2,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config=None):
        self.step_number = 0
        self.simulator = (value for value in ())  # cannot be pickled

    def get_state(self):
        return self.step_number, self.np_random.bit_generator.state

    def set_state(self, state):
        self.step_number, self.np_random.bit_generator.state = state

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_number = 0
        return self.np_random.normal(size=2).astype(np.float32), {}

    def step(self, action):
        self.step_number += 1
        observation = self.np_random.normal(size=2).astype(np.float32)
        return observation, float(action * observation[0]), False, self.step_number == 30, {}


class Forgetful(Lasting):
    """It cannot be told where it stands."""

    get_state = set_state = None


class Anew(Forgetful):
    """A pickle makes it anew."""

    def __reduce__(self):
        return type(self), ()


class Dropping(Forgetful):
    """Its pickle is without its simulator."""

    def __getstate__(self):
        return {**self.__dict__, "simulator": None}

    def step(self, action):
        if self.simulator is None:
            raise ConnectionError("no simulator")
        return super().step(action)


class Watching(RLlibCallback):
    """Brings RLlib's episode objects."""

    def on_episode_step(self, *, episode, **kwargs):
        episode.custom_data["steps"] = len(episode)


def config_of(algorithm, layer, env=MAZE, mode="vector_entry_point", seed=7, batch_mode="truncate_episodes", **options):
    config = {"PPO": PPOConfig, "A2C": A2CConfig}[algorithm]()
    config.environment(env).env_runners(
        num_env_runners=0,
        num_envs_per_env_runner=4,
        rollout_fragment_length=8,
        gym_env_vectorize_mode=mode,
        batch_mode=batch_mode,
        env_to_module_connector=options.pop("connector", None),
    )
    config.training(train_batch_size=32, lr=[[0, 0.01], [200, 0.001]], entropy_coeff=[[0, 0.1], [200, 0.0]])
    if algorithm == "PPO":
        config.training(minibatch_size=16, num_epochs=2)
    config.rl_module(rl_module_spec=recurrent_spec(layer, hidden_size=5, max_seq_len=8))
    return use_batched_rollouts(config).debugging(seed=seed).callbacks(options.pop("callbacks", None))


def what_matters(result):
    """A result's returns, steps, losses and coefficients."""
    of_runners, of_learner = result["env_runners"], result["learners"]["default_policy"]
    names = ("episode_return_mean", "episode_len_mean", "num_env_steps_sampled_lifetime", "num_episodes_lifetime")
    losses = {name: value for name, value in of_learner.items() if "loss" in name or "coeff" in name or "kl" in name}
    return {
        **{name: of_runners.get(name) for name in names},
        **losses,
        "lr": of_learner["default_optimizer_learning_rate"],
    }


def maze():
    env = gym.make_vec(MAZE, num_envs=2, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    return env


def assert_same(found, expected):
    tree.map_structure(np.testing.assert_array_equal, found, expected)


def unbroken_and_restored(config, folder, before=2, after=2):
    """Results and weights of the iterations behind the checkpoint, with and without the break."""
    register()
    algorithm = config.build_algo()
    try:
        for _ in range(before):
            algorithm.train()
        algorithm.save_to_path(folder)
        expected = [what_matters(algorithm.train()) for _ in range(after)], algorithm.learner_group.get_weights()
    finally:
        algorithm.stop()
    algorithm = Algorithm.from_checkpoint(folder)
    try:
        return expected, (
            [what_matters(algorithm.train()) for _ in range(after)],
            algorithm.learner_group.get_weights(),
        )
    finally:
        algorithm.stop()


@pytest.mark.parametrize("algorithm", ["PPO", "A2C"])
@pytest.mark.parametrize(
    "layer",
    ["stpn", "mlp", *(pytest.param(each, marks=pytest.mark.slow) for each in LAYERS if each not in ("stpn", "mlp"))],
)
def test_a_restored_run_is_the_unbroken_one(algorithm, layer, tmp_path):
    expected, found = unbroken_and_restored(config_of(algorithm, layer), tmp_path)
    assert_same(found, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"env": "CartPole-v1", "mode": "sync"},
        {"env": Lasting, "mode": "sync"},
        {"env": "CartPole-v1", "mode": "sync", "callbacks": Watching},
        {"env": "CartPole-v1", "mode": "sync", "batch_mode": "complete_episodes"},
        {"batch_mode": "complete_episodes"},
        {"batch_mode": "complete_episodes", "callbacks": Watching},
    ],
    ids=[
        "pickled",
        "get_state and set_state",
        "episode callbacks",
        "whole episodes",
        "whole episodes of arrays",
        "their callbacks",
    ],
)
def test_so_it_is_with_any_environment_that_tells_where_it_stands(options, tmp_path):
    expected, found = unbroken_and_restored(config_of("PPO", "lstm", **options), tmp_path)
    assert_same(found, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"env": Forgetful, "mode": "sync"},
        {"env": Anew, "mode": "sync"},
        {"env": Dropping, "mode": "sync"},
        {"env": "stpn_envs:stpn/Atari-v0"},
    ],
    ids=["no pickle", "pickle that makes it anew", "pickle that cannot go on", "Atari"],
)
def test_environments_that_do_not_tell_begin_other_episodes_and_the_counts_go_on(options, tmp_path):
    expected, found = unbroken_and_restored(config_of("PPO", "lstm", **options), tmp_path)
    counts = ["num_env_steps_sampled_lifetime", "lr", "curr_entropy_coeff"]
    for a, b in zip(found[0], expected[0], strict=True):
        assert {name: a[name] for name in counts} == {name: b[name] for name in counts}


def test_another_seed_goes_on_another_way(tmp_path):
    register()
    algorithm = config_of("A2C", "lstm").build_algo()
    algorithm.train()
    algorithm.save_to_path(tmp_path)
    algorithm.stop()
    weights = []
    for seed in (1, 2, 7):
        algorithm = config_of("A2C", "lstm", seed=seed).build_algo()
        algorithm.restore_from_path(tmp_path)
        algorithm.train()
        weights.append(algorithm.learner_group.get_weights()["default_policy"]["pi.net.mlp.0.weight"])
        algorithm.stop()
    assert not np.array_equal(weights[0], weights[1])


def test_a_simulator_that_would_only_be_made_anew_is_not_kept():
    env = gym.make_vec("InvertedPendulum-v5", num_envs=1, vectorization_mode="sync")
    env.reset(seed=0)
    assert saved_environments(env) is None
    env.close()
    for mode in ("sync", "vector_entry_point"):
        env = gym.make_vec("stpn_envs:stpn/Pong-v0", num_envs=1, vectorization_mode=mode)
        env.reset(seed=0)
        assert saved_environments(env) is None
        env.close()
    assert saved_environments(maze()) is not None


def test_environments_of_a_checkpoint_that_cannot_go_on_are_told(tmp_path):
    config = config_of("PPO", "lstm", env=Dropping, mode="sync")
    algorithm = config.build_algo()
    algorithm.train()
    algorithm.save_to_path(tmp_path)
    algorithm.stop()
    algorithm = Algorithm.from_checkpoint(tmp_path)
    (told,) = algorithm.train()["survived"]
    assert told.startswith("the environments of the checkpoint cannot go on (ConnectionError: no simulator (")
    assert "new episodes begin; dropped: 0 steps, 4 episodes" in told
    assert "survived" not in algorithm.train()
    algorithm.stop()


def test_environments_too_large_for_a_checkpoint_are_not_kept(monkeypatch):
    from rllib_stpn.rollouts import standing

    monkeypatch.setattr(standing, "LARGEST", 100)
    assert saved_environments(maze()) is None


@pytest.mark.slow
def test_so_it_is_from_the_command_line(write, tmp_path):
    path = write(
        """
x:
  env: stpn_envs:stpn/MazeSmall-v0
  run: PPO
  checkpoint_config: {checkpoint_frequency: 1}
  config:
    seed: 3
    num_env_runners: 0
    num_envs_per_env_runner: 4
    train_batch_size: 128
    minibatch_size: 64
    num_epochs: 2
    lr: [[0, 0.01], [1000, 0.001]]
    model: {custom_model: stpn, custom_model_config: {hidden_size: 5}, max_seq_len: 32}
"""
    )

    def trained(name, *stops):
        for iterations in stops:
            command = ["train", "-f", path, "--storage-path", tmp_path, "-n", name]
            command += ["--resume"] if iterations != stops[0] else []
            assert main([*map(str, command), "--stop", json.dumps({"training_iteration": iterations})]) == 0
        (lines,) = tmp_path.glob(f"{name}/*/result.json")
        return [what_matters(json.loads(line)) for line in lines.read_text().splitlines()]

    unbroken = trained("unbroken", 4)
    assert len(unbroken) == 4
    assert_same(trained("broken", 2, 4), unbroken)
