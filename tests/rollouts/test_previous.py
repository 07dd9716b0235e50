"""The previous action and reward as env runners' environments show them, against RLlib's connector."""

import gymnasium as gym
import numpy as np
import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.env_to_module import EnvToModulePipeline, FlattenObservations, PrevActionsPrevRewards
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.tune.registry import register_env

from rllib_stpn.agents.environments import make_env
from rllib_stpn.errors import UsageError
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import EpisodeEnvRunner, use_batched_rollouts
from rllib_stpn.rollouts.previous import with_previous
from tests.rollouts.scripted_env import ScriptedEnv, make_scripted
from tests.rollouts.test_failures import make_config, make_runner, said

pytestmark = pytest.mark.usefixtures("ray_session")
SPACES = {"input_observation_space": ScriptedEnv(0).observation_space, "input_action_space": gym.spaces.Discrete(3)}
BOTH = ("action", "reward")


class Ended(RLlibCallback):
    episodes: list = []

    def on_episode_end(self, *, episode, **kwargs):
        self.episodes.append(episode)


def episodes_of(kind, mode):
    """Episodes that ended in a runner, whose environments show both."""
    register_env("scripted", make_scripted)
    Ended.episodes.clear()
    config = (
        PPOConfig()
        .environment("scripted", env_config={} if mode == "sync" else {"autoreset": mode})
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=3,
            rollout_fragment_length=40,
            gym_env_vectorize_mode="sync" if mode == "sync" else "vector_entry_point",
        )
        .rl_module(rl_module_spec=recurrent_spec("lstm", hidden_size=6, max_seq_len=40))
        .callbacks(Ended)
        .debugging(seed=5)
    )
    config = use_batched_rollouts(config) if kind == "batched" else config.env_runners(env_runner_cls=EpisodeEnvRunner)
    config._previous_inputs = BOTH
    runner = make_runner(config)
    assert runner.module.observation_space.shape == (3 + 3 + 1,)
    runner.sample(num_timesteps=120)
    runner.stop()
    return Ended.episodes


def as_rllib_shows(observations, actions, rewards):
    """An episode's observations ``[T + 1, 7]`` as RLlib's connectors make them, step by step."""
    connectors = EnvToModulePipeline(**SPACES, connectors=[PrevActionsPrevRewards(), FlattenObservations()])
    episode, shown = (
        SingleAgentEpisode(observation_space=SPACES["input_observation_space"], action_space=gym.spaces.Discrete(3)),
        [],
    )
    for t, observation in enumerate(observations):
        if t:
            episode.add_env_step(observation, actions[t - 1], rewards[t - 1])
        else:
            episode.add_env_reset(observation)
        for piece in connectors.connectors:
            piece(rl_module=None, batch={}, episodes=[episode], explore=True, shared_data={})
        shown.append(episode.get_observations(-1))
    return np.stack(shown)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("batched", "sync"),
        ("batched", "NextStep"),
        ("batched", "SameStep"),
        ("batched", "Disabled"),
        ("episodes", "sync"),
    ],
)
def test_they_are_those_of_rllibs_connector_number_for_number(kind, mode):
    episodes = episodes_of(kind, mode)
    assert len(episodes) > 12
    assert {bool(episode.is_terminated) for episode in episodes} == {True, False}
    for episode in episodes:
        seen = np.stack(list(episode.get_observations()))
        assert len(seen) == len(episode) + 1
        expected = as_rllib_shows(seen[:, :3], list(episode.get_actions()), list(episode.get_rewards()))
        np.testing.assert_array_equal(seen, expected)
        assert seen[1:, 3:].any(1).all()


@pytest.mark.parametrize("num_envs", [None, 3])
def test_an_environment_made_for_an_agent_shows_them_as_well(num_envs):
    env = make_env("CartPole-v1", {}, num_envs, previous=("reward",))
    assert (env.observation_space.shape[-1]) == 5
    env.reset(seed=0)
    observations, rewards, *_ = env.step(env.action_space.sample())
    np.testing.assert_array_equal(observations[..., -1], rewards)
    env.close()


@pytest.mark.parametrize("kind", ["batched", "episodes"])
@pytest.mark.parametrize(
    "fault", ["nan@reward", "none@reward", "text@reward", "raises@step", "nan@observation", "shape@observation"]
)
def test_failures_are_told_as_without_them(kind, fault):
    config = make_config(kind, fault)
    config._previous_inputs = BOTH
    told = said(fault).replace(r"\[nan nan nan\]", r"\[nan nan nan.*\]")
    with pytest.raises(Exception, match=told) as raised:
        make_runner(config).sample()
    assert "environment 1 of env runner 0" in str(raised.value)


def test_images_are_refused():
    class Images(gym.Env):
        observation_space, action_space = gym.spaces.Box(0, 255, (8, 8, 1), np.uint8), gym.spaces.Discrete(2)

    with pytest.raises(UsageError, match=r"lstm_use_prev_reward: got images of the shape \(8, 8, 1\)"):
        with_previous(Images(), ("reward",))
