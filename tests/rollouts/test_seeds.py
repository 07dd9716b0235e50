"""With a seed: which episodes env runners begin with, in training and in evaluation."""

import gymnasium as gym
import numpy as np
import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.env.multi_agent_env import MultiAgentEnv
from ray.tune.registry import register_env

from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import EpisodeEnvRunner, ManyAgentsEnvRunner, RecordingEnvRunner, use_batched_rollouts

pytestmark = pytest.mark.usefixtures("ray_session")
NUM_ENVS, STEPS = 3, 4
DRAWN = []  # what each reset drew, in this process


class DrawnEnv(gym.Env):
    """Episodes of four steps, each about a number that its reset draws."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, config=None):
        pass

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.drawn, self.t = self.np_random.uniform(), 0
        DRAWN.append(self.drawn)
        return np.array([self.drawn], np.float32), {}

    def step(self, action):
        self.t += 1
        return np.array([self.drawn], np.float32), 0.0, self.t == STEPS, False, {}


class AgentsEnv(MultiAgentEnv):
    """The same for an agent among several, of which there is one."""

    agents = possible_agents = ["a"]
    observation_spaces = {"a": DrawnEnv.observation_space}
    action_spaces = {"a": DrawnEnv.action_space}

    def __init__(self, config=None):
        super().__init__()
        self.env = DrawnEnv()

    def reset(self, *, seed=None, options=None):
        observation, info = self.env.reset(seed=seed)
        return {"a": observation}, {}

    def step(self, actions):
        observation, reward, ends, _, _ = self.env.step(actions["a"])
        return {"a": observation}, {"a": reward}, {"a": ends, "__all__": ends}, {"__all__": False}, {}


def config_of(kind, batch_mode="complete_episodes", seed=7, folder=None):
    config = PPOConfig().environment(DrawnEnv).debugging(seed=seed)
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=NUM_ENVS, batch_mode=batch_mode)
    config.env_runners(rollout_fragment_length=2 * STEPS)
    config.rl_module(rl_module_spec=recurrent_spec("mlp", hidden_size=4))
    if kind == "batched":
        return use_batched_rollouts(config)
    if kind == "recording":
        config.offline_data(output=str(folder))
    if kind != "several agents":
        return config.env_runners(env_runner_cls={"episodes": EpisodeEnvRunner, "recording": RecordingEnvRunner}[kind])
    register_env("several", AgentsEnv)
    config.environment("several").env_runners(env_runner_cls=ManyAgentsEnvRunner, num_envs_per_env_runner=1)
    return config.multi_agent(policies={"a"}, policy_mapping_fn=lambda agent, episode, **_: agent)


def runner_of(config):
    return config.env_runner_cls(config=config, worker_index=0)


def begins_with(runner, **asked):
    """What the first episodes of a sample are about."""
    before = len(DRAWN)
    runner.sample(**asked)
    return DRAWN[before:][: runner.num_envs]


kinds = pytest.mark.parametrize("kind", ["batched", "episodes", "recording", "several agents"])


@kinds
def test_each_sample_of_whole_episodes_has_episodes_of_its_own(kind, tmp_path):
    runner = runner_of(config_of(kind, folder=tmp_path))
    begun = [number for _ in range(4) for number in begins_with(runner)]
    runner.stop()
    assert len(set(begun)) == len(begun) == 4 * runner.num_envs


@kinds
def test_a_seed_gives_the_same_episodes_again(kind, tmp_path):
    begun = []
    for seed in (7, 7, 8):
        runner = runner_of(config_of(kind, seed=seed, folder=tmp_path))
        begun.append([begins_with(runner) for _ in range(3)])
        runner.stop()
    assert begun[0] == begun[1] != begun[2]


@kinds
def test_the_first_episodes_are_those_of_the_seed(kind, tmp_path):
    runner = runner_of(config_of(kind, folder=tmp_path))
    expected = [np.random.default_rng(7 + index).uniform() for index in range(runner.num_envs)]
    assert begins_with(runner) == expected
    runner.stop()


@pytest.mark.parametrize("kind", ["batched", "episodes"])
def test_whole_episodes_in_between_do_not_lead_back_to_the_first_ones(kind):
    """As when an algorithm without env runners for evaluation evaluates."""
    runner = runner_of(config_of(kind, batch_mode="truncate_episodes"))
    first = begins_with(runner)
    later = [
        *begins_with(runner, num_episodes=2),
        *begins_with(runner),
        *begins_with(runner, force_reset=True, num_timesteps=4),
    ]
    runner.stop()
    assert not set(first) & set(later)


@pytest.mark.parametrize("kind", ["batched", "episodes", "several agents"])
def test_evaluations_begin_alike(kind):
    config = config_of(kind)
    config.evaluation(evaluation_interval=1, evaluation_num_env_runners=0)
    runner = runner_of(config.get_evaluation_config_object())
    assert begins_with(runner, num_episodes=3) == begins_with(runner, num_episodes=3)
    runner.stop()


@pytest.mark.parametrize("kind", ["batched", "episodes"])
def test_environments_that_are_made_again_are_seeded_again(kind):
    begun = []
    for _ in range(2):
        runner = runner_of(config_of(kind))
        begun.append([begins_with(runner)])
        runner.make_env()
        begun[-1] += [begins_with(runner), begins_with(runner)]
        runner.stop()
    assert begun[0] == begun[1]
    assert len({number for sample in begun[0] for number in sample}) == 3 * NUM_ENVS
