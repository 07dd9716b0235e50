"""Environments that write each step into the same arrays, and callbacks that look at whole episodes."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorWrapper
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.tune.registry import register_env

from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import BatchedEnvRunner, EpisodeEnvRunner, FlatObservations, use_batched_rollouts
from rllib_stpn.rollouts.copies import copied
from tests.rollouts.scripted_env import ScriptedEnv

pytestmark = pytest.mark.usefixtures("ray_session")
NUM_ENVS = 3


class ReusesItsArrays(VectorWrapper):
    """One array each for observations, final ones and an info, in dicts if asked for, and for rewards and flags."""

    def __init__(self, env, nested):
        super().__init__(env)
        self.nested = nested
        self.now, self.final = (np.zeros((NUM_ENVS, 3), np.float32) for _ in range(2))
        self.place = np.zeros((NUM_ENVS, 2))
        self.outcome = np.zeros(NUM_ENVS), np.zeros(NUM_ENVS, bool), np.zeros(NUM_ENVS, bool)
        if nested:
            self.single_observation_space = gym.spaces.Dict({"a": env.single_observation_space})
            self.observation_space = gym.spaces.Dict({"a": env.observation_space})

    def told(self, array):
        return {"a": array} if self.nested else array

    def reset(self, **kwargs):
        for array in self.outcome:
            array[:] = 0
        return self.written(*self.env.reset(**kwargs))

    def step(self, actions):
        observations, *outcome, infos = self.env.step(actions)
        for array, values in zip(self.outcome, outcome, strict=True):
            array[:] = values
        return *self.written(observations, infos)[:1], *self.outcome, self.infos

    def written(self, observations, infos):
        self.now[:] = observations
        if "final_obs" in infos:
            for index in np.flatnonzero(infos["_final_obs"]):
                self.final[index] = infos["final_obs"][index]
            infos["final_obs"] = self.told(self.final)
        if "t" in infos:
            self.place[:] = np.stack([infos["episode"], infos["t"]], axis=1)
            infos |= {"place": self.place, "_place": np.ones(NUM_ENVS, bool)}
        self.infos = infos
        return self.told(self.now), infos


class Watch(RLlibCallback):
    episodes: list = []
    outcomes: list = []

    def on_episode_end(self, *, episode, env_index, prev_episode_chunks, **kwargs):
        if not prev_episode_chunks:
            infos = [info["place"] for info in episode.get_infos() if "place" in info]
            self.episodes.append((env_index, np.stack(episode.get_observations()), infos))
            self.outcomes.append((env_index, episode.is_terminated, episode.is_truncated, episode.get_rewards()[-1]))


def runner_on(nested, mode, runner_class):
    def create(context):
        envs = [lambda i=i: ScriptedEnv(i) for i in range(NUM_ENVS)]
        return ReusesItsArrays(SyncVectorEnv(envs, autoreset_mode=mode), nested)

    register_env("reuses", create)
    batched = runner_class is BatchedEnvRunner
    config = use_batched_rollouts(PPOConfig()) if batched else PPOConfig()
    config.environment("reuses").callbacks(Watch)
    config.rl_module(rl_module_spec=recurrent_spec("gru", hidden_size=4, max_seq_len=8))
    config.env_runners(
        num_env_runners=0,
        num_envs_per_env_runner=NUM_ENVS,
        gym_env_vectorize_mode="vector_entry_point",
        env_to_module_connector=(lambda env, spaces, device: FlatObservations()) if nested else None,
    )
    return runner_class(config=config, worker_index=0)


@pytest.mark.parametrize("nested", [False, True], ids=["box", "dict"])
@pytest.mark.parametrize(
    "mode, runner_class",
    [*((mode, BatchedEnvRunner) for mode in AutoresetMode), (AutoresetMode.NEXT_STEP, EpisodeEnvRunner)],
    ids=lambda value: getattr(value, "value", getattr(value, "__name__", None)),
)
def test_callbacks_see_an_episode_as_it_was(nested, mode, runner_class):
    Watch.episodes, Watch.outcomes = [], []
    runner_on(nested, mode, runner_class).sample(num_timesteps=120, explore=True)
    counts = dict.fromkeys(range(NUM_ENVS), 0)
    for index, observations, places in Watch.episodes:
        env, episode = ScriptedEnv(index), counts[index]
        expected = [env.observation(episode, t) for t in range(env.length(episode) + 1)]
        np.testing.assert_array_equal(observations, expected)
        assert [tuple(place) for place in places[:-1]] == [(episode, t) for t in range(len(places) - 1)]
        counts[index] += 1
    assert min(counts.values()) >= 3
    counts = dict.fromkeys(range(NUM_ENVS), 0)
    for index, terminated, truncated, last_reward in Watch.outcomes:
        env, episode = ScriptedEnv(index), counts[index]
        assert (terminated, truncated) == (env.terminates(episode), not env.terminates(episode))
        assert last_reward >= env.reward(episode, env.length(episode), 0)
        counts[index] += 1


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.value)
def test_a_terminated_episode_has_no_value_behind_its_end(mode):
    runner = runner_on(False, mode, BatchedEnvRunner)
    (fragment,) = runner.sample(num_timesteps=60, explore=True)
    ends = 0
    for index in range(NUM_ENVS):
        env, episode, t = ScriptedEnv(index), 0, 0
        for step in np.flatnonzero(fragment.mask[index]):
            t += 1
            if t == env.length(episode):
                if env.terminates(episode):
                    reward = env.reward(episode, t, fragment.columns["actions"][index, step])
                    assert fragment.columns["value_targets"][index, step] == pytest.approx(reward, rel=1e-5)
                    ends += 1
                episode, t = episode + 1, 0
    assert ends >= 3


def test_nothing_is_copied_where_no_callback_asks(monkeypatch):
    from rllib_stpn.rollouts import env_runner

    monkeypatch.setattr(env_runner, "copied", None)  # calling it would fail
    runner = runner_on(False, AutoresetMode.SAME_STEP, BatchedEnvRunner)
    assert runner._keeps_episodes
    runner._keeps_episodes = False
    runner.sample(num_timesteps=30, explore=True)


def test_copies_share_no_array():
    class Other:
        pass

    inner, other = np.arange(3), Other()
    objects = np.empty(2, object)
    objects[0], objects[1] = inner, inner
    value = {"a": [inner, (inner, 1)], "b": objects, "c": other}
    copy = copied(value)
    inner[:] = 9
    np.testing.assert_array_equal(copy["a"][0], [0, 1, 2])
    np.testing.assert_array_equal(copy["a"][1][0], [0, 1, 2])
    np.testing.assert_array_equal(copy["b"][0], [0, 1, 2])
    np.testing.assert_array_equal(copy["b"][1], [0, 1, 2])
    assert copy["c"] is other
