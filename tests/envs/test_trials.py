"""Trials: several episodes as one, the task kept over them."""

import gymnasium
import numpy as np
import pytest
import stpn_envs
from gymnasium import spaces


def make_vec(num_envs, **kwargs):
    return gymnasium.make_vec("stpn/Trials-v0", num_envs, vectorization_mode="vector_entry_point", **kwargs)


def rewarded(env_id, episodes, **kwargs):
    """The hidden state of the wrapped batch, noted at every step of three trials."""
    vec, hidden, ends = make_vec(4, env=env_id, episodes=episodes, **kwargs), [], []
    vec.reset(seed=0)
    while len(ends) < 3:
        inner = vec._inner
        hidden.append(
            (inner.goals if "Maze" in env_id else inner.chances if "Bandit" in env_id else inner.targets).copy()
        )
        if vec.step(np.zeros(4, int))[2:4][int("Bandit" not in env_id)].all():
            ends.append(len(hidden))
    return np.split(np.stack(hidden), ends)[:-1]


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("stpn/MazeSmall-v0", {"episode_length": 6}),
        ("stpn/Bandit-v0", {}),
        ("stpn/CueReward-v0", {"episode_length": 5}),
    ],
)
def test_the_task_stays_for_a_trial_and_is_new_in_the_next(env_id, kwargs):
    trials = rewarded(env_id, 5, **kwargs)
    for trial in trials:
        assert len(trial) == 5 * kwargs.get("episode_length", 1)
        assert (trial == trial[0]).all()
    assert any((trials[0][0] != other[0]).any() for other in trials[1:])


@pytest.mark.parametrize("env_id", ["stpn/MazeSmall-v0", "stpn/Bandit-v0", "stpn/CueReward-v0"])
def test_a_reset_can_keep_the_task_of_the_trial_before(env_id):
    name = {"stpn/MazeSmall-v0": "goals", "stpn/Bandit-v0": "chances", "stpn/CueReward-v0": "targets"}[env_id]
    scalar, vec = gymnasium.make("stpn/Trials-v0", env=env_id), make_vec(6, env=env_id)
    for env, batch, some in ((scalar, scalar.unwrapped.batch, None), (vec, vec, np.arange(6) < 3)):
        env.reset(seed=0)
        kept, new = getattr(batch._inner, name).copy(), 0
        for mask in [None, some] if some is not None else [None] * 5:
            env.reset(options={"same_task": True} | ({} if mask is None else {"reset_mask": mask}))
            np.testing.assert_array_equal(getattr(batch._inner, name), kept)
        for _ in range(10):
            env.reset()
            new += (getattr(batch._inner, name) != kept).any()
        assert new > 0


def test_a_trial_of_one_seed_is_repeated_with_its_task():
    env = gymnasium.make("stpn/Trials-v0", env="CartPole-v1", same_seed=True)
    first, _ = env.reset(seed=0)
    np.testing.assert_array_equal(env.reset(options={"same_task": True})[0], first)
    assert (env.reset()[0] != first).any()


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "stpn/PositionOnlyPendulumEasy-v0"])
def test_an_action_outside_its_bounds_is_shown_at_them(env_id):
    scalar, vec = gymnasium.make("stpn/Trials-v0", env=env_id), make_vec(2, env=env_id)
    bound = scalar.action_space.high[0]
    scalar.reset(seed=0)
    vec.reset(seed=0)
    shown = [scalar.step(np.array([5.0], np.float32))[0], *vec.step(np.array([[-7.0], [0.5]], np.float32))[0]]
    assert [observation[-3] for observation in shown] == [bound, -bound, 0.5]
    assert all(map(scalar.observation_space.contains, shown))


def test_observations_hold_the_previous_action_the_reward_and_the_end_of_an_episode():
    env = gymnasium.make("stpn/Trials-v0", env="stpn/Bandit-v0", episodes=6, pulls=2, num_arms=3)
    observation, _ = env.reset(seed=1)
    np.testing.assert_array_equal(observation, [1, 0, 0, 0, 0, 0])
    for step in range(1, 13):
        observation, reward, terminated, truncated, info = env.step(step % 3)
        np.testing.assert_array_equal(observation, [1, *np.eye(3)[step % 3], reward, step % 2 == 0])
        assert (terminated, truncated, info) == (step == 12, False, {})


def test_an_environment_of_another_package_is_played_as_it_is():
    vec = make_vec(3, env="CartPole-v1", episodes=3)
    scalar, plain = gymnasium.make("stpn/Trials-v0", env="CartPole-v1", episodes=3), gymnasium.make("CartPole-v1")
    observations, _ = vec.reset(seed=5)
    observation, _ = scalar.reset(seed=6)
    raw, _ = plain.reset(seed=6)
    rng, trials, episodes = np.random.default_rng(0), 0, 0
    while trials < 2:
        np.testing.assert_array_equal(observations[1], observation)
        np.testing.assert_array_equal(observation[:4], raw)
        actions = rng.integers(2, size=3)
        observations, rewards, terminations, _, info = vec.step(actions)
        observation, reward, terminated, truncated, _ = scalar.step(actions[1])
        raw, raw_reward, over, _, _ = plain.step(actions[1])
        assert (rewards[1], terminations[1]) == (reward, terminated)
        assert (reward, observation[-1]) == (raw_reward, over)
        if over:
            episodes += 1
            final, (raw, _) = raw, plain.reset()
        if terminated:
            trials += 1
            assert episodes == 3 * trials
            np.testing.assert_array_equal(info["final_obs"][1], observation)
            np.testing.assert_array_equal(observation[:4], final)
            observation, _ = scalar.reset()


def test_the_same_seed_repeats_the_episode_within_a_trial_only():
    env, starts = stpn_envs.Trials(gymnasium.make("CartPole-v1"), episodes=2, same_seed=True), []
    for _ in range(2):
        starts.append(env.reset()[0][:4])
        while not (end := env.step(0))[0][-1]:
            pass
        starts.append(end[0][:4])
        while not env.step(0)[2]:
            pass
    np.testing.assert_array_equal(starts[0], starts[1])
    np.testing.assert_array_equal(starts[2], starts[3])
    assert (starts[0] != starts[2]).any()


def test_other_spaces_are_made_flat():
    class Odd(gymnasium.Env):
        observation_space = spaces.Dict({"a": spaces.Discrete(3, start=2), "b": spaces.Box(-1, 1, (2, 2))})
        action_space = spaces.MultiDiscrete([2, 3])

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return {"a": np.int64(3), "b": np.full((2, 2), 0.5, np.float32)}, {}

        def step(self, action):
            assert self.action_space.contains(action)
            return self.reset()[0], 0.25, False, True, {}

    env = stpn_envs.Trials(Odd(), episodes=2)
    np.testing.assert_array_equal(env.reset()[0], [0, 1, 0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0, 0, 0])
    observation, *outcome, _ = env.step([1, 2])
    np.testing.assert_array_equal(observation, [0, 1, 0, 0.5, 0.5, 0.5, 0.5, 0, 1, 0, 0, 1, 0.25, 1])
    assert outcome == [0.25, False, False]
    assert env.observation_space.contains(observation)
    assert env.step([0, 0])[3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": 0}, "episodes: got 0, allowed is a whole number of at least 1"),
        ({"env": 3}, "env: got 3, allowed is the id of an environment"),
        ({"same_seed": "yes"}, "same_seed: got 'yes', allowed is true or false"),
        ({"env": "stpn/MazeSmall-v0", "sise": 7}, "got the unknown argument 'sise', .*; did you mean size"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    for make in (lambda: gymnasium.make("stpn/Trials-v0", **arguments), lambda: make_vec(2, **arguments)):
        with pytest.raises(ValueError, match=message):
            make()
