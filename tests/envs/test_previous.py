"""The previous action and reward beside the observations: one environment, and a batch in every autoreset mode."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
import stpn_envs
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import iterate
from stpn_envs import PreviousActionReward, PreviousActionRewardVector
from stpn_envs.flat import flat

from rllib_stpn.models.spaces import FlatSpace

ACTIONS = {
    "discrete": (spaces.Discrete(3, start=2), 3),
    "multi_discrete": (spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [0, 5]]), 11),
    "multi_binary": (spaces.MultiBinary((2, 2)), 4),
    "box": (spaces.Box(2.0, 5.0, (2, 1), np.float32), 2),
    "tuple": (spaces.Tuple([spaces.Discrete(2), spaces.Box(-1.0, 1.0, (3,), np.float64)]), 5),
    "dict": (spaces.Dict({"b": spaces.Discrete(2), "a": spaces.MultiBinary(3)}), 5),
}
OBSERVATIONS = {
    "vector": spaces.Box(-1.0, 1.0, (2,), np.float64),
    "grid": spaces.Box(0, 255, (2, 2), np.uint8),
    "discrete": spaces.Discrete(5),
    "dict": spaces.Dict({"x": spaces.Discrete(3), "y": spaces.Box(-1.0, 1.0, (2,), np.float32)}),
}


class Episodes(gymnasium.Env):
    """Episodes of 1 to 4 steps with random observations and rewards, which do not depend on the actions."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = copy.deepcopy(observation_space), action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = int(self.np_random.integers(1, 5))
        return self.observation_space.sample(), {}

    def step(self, action):
        self.left -= 1
        truncates = bool(self.np_random.integers(2))
        reward = float(self.np_random.normal())
        return self.observation_space.sample(), reward, not self.left and not truncates, not self.left and truncates, {}


def assert_same(a, b):
    if isinstance(a, (dict, tuple)):
        for key in a if isinstance(a, dict) else range(len(a)):
            assert_same(a[key], b[key])
    elif isinstance(a, np.ndarray) and a.dtype == object:
        for mine, other in zip(a, b, strict=True):
            assert (mine is None) == (other is None)
            if mine is not None:
                assert_same(mine, other)
    else:
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(a, b)


def played(env, steps=20):
    """All that a vector environment returns; where it does not reset by itself, it is reset by a mask."""
    returned = [env.reset(seed=3)]
    env.action_space.seed(0)
    for _ in range(steps):
        returned.append(env.step(env.action_space.sample()))
        over = returned[-1][2] | returned[-1][3]
        if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and over.any():
            returned.append(env.reset(options={"reset_mask": over}))
    return returned


def without_empty(infos):
    """A vector of scalar environments names those whose info is empty, too."""
    return {key: infos[key] for key in ("final_obs", "_final_obs") if key in infos}


@pytest.mark.parametrize("action_space", [space for space, _ in ACTIONS.values()], ids=ACTIONS)
def test_an_observation_shows_what_was_done_and_what_it_brought(action_space):
    env = PreviousActionReward(Episodes(OBSERVATIONS["vector"], action_space))
    plain = Episodes(OBSERVATIONS["vector"], action_space)
    action_space.seed(0)
    size = spaces.flatdim(action_space)
    assert env.observation_space.shape == (2 + size + 1,)
    for seed in range(5):
        (observation, _), (seen, _) = env.reset(seed=seed), plain.reset(seed=seed)
        np.testing.assert_array_equal(observation, [*seen.astype(np.float32), *np.zeros(size + 1)])
        over = False
        while not over:
            action = action_space.sample()
            observation, reward, terminated, truncated, _ = env.step(action)
            seen, *_ = plain.step(action)
            expected = [*seen, *spaces.flatten(action_space, action), reward]
            np.testing.assert_array_equal(observation, np.array(expected, np.float32))
            assert env.observation_space.contains(observation)
            over = terminated or truncated


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_is_flat_as_an_observation_of_its_space_would_be(name):
    space, size = ACTIONS[name]
    space.seed(0)
    vector = gymnasium.vector.utils.batch_space(space, 4)
    vector.seed(0)
    batch = vector.sample()
    together = flat(space, batch, (4,))
    assert together.shape == (4, size)
    np.testing.assert_array_equal(together.astype(np.float32), FlatSpace(space).flatten(batch, (4,)))
    for row, value in zip(together, iterate(vector, batch), strict=True):
        np.testing.assert_array_equal(row, spaces.flatten(space, value))
        np.testing.assert_array_equal(row, flat(space, value))


@pytest.mark.parametrize("observation_space", OBSERVATIONS.values(), ids=OBSERVATIONS)
@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_batch_shows_what_each_environment_would(observation_space, mode):
    for action_space, _ in ACTIONS.values():

        def make(action_space=action_space):
            return Episodes(observation_space, action_space)

        batch = PreviousActionRewardVector(SyncVectorEnv([make] * 3, autoreset_mode=mode))
        each = SyncVectorEnv([lambda make=make: PreviousActionReward(make())] * 3, autoreset_mode=mode)
        assert batch.single_observation_space == each.single_observation_space
        assert batch.observation_space == each.observation_space
        for mine, theirs in zip(played(batch), played(each), strict=True):
            assert_same(mine[:-1], theirs[:-1])
            assert_same(without_empty(mine[-1]), without_empty(theirs[-1]))


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_vector_form_of_its_own_shows_the_same(mode):
    made = {"num_arms": 3, "pulls": 4}
    own = gymnasium.make_vec("stpn/Bandit-v0", 3, vectorization_mode="vector_entry_point", autoreset_mode=mode, **made)
    scalar = SyncVectorEnv(
        [lambda: PreviousActionReward(gymnasium.make("stpn/Bandit-v0", **made))] * 3, autoreset_mode=mode
    )
    for mine, theirs in zip(played(PreviousActionRewardVector(own)), played(scalar), strict=True):
        assert_same(mine[:-1], theirs[:-1])
        if "final_obs" in theirs[-1]:
            ended = theirs[-1]["_final_obs"]
            assert_same(mine[-1]["final_obs"][ended], np.stack(theirs[-1]["final_obs"][ended]))


@pytest.mark.parametrize(
    ("shown", "parts"),
    [({"reward": False}, ["previous_action"]), ({"action": False}, ["previous_reward"])],
    ids=["action", "reward"],
)
def test_one_of_them_alone(shown, parts):
    env = PreviousActionReward(gymnasium.make("FrozenLake-v1"), **shown)
    assert list(env.observation_space) == ["observation", *parts]
    env.reset(seed=0)
    observation, reward, *_ = env.step(2)
    assert list(observation) == ["observation", *parts]
    expected = [0, 0, 1, 0] if "previous_action" in parts else [reward]
    np.testing.assert_array_equal(observation[parts[0]], expected)


def test_what_was_shown_is_not_written_over():
    vector = PreviousActionRewardVector(
        SyncVectorEnv([lambda: Episodes(OBSERVATIONS["grid"], spaces.Discrete(2))] * 3, autoreset_mode="SameStep")
    )
    returned = [each[0] for each in played(vector)]
    kept = [{key: part.copy() for key, part in observations.items()} for observations in returned]
    for _ in range(10):
        vector.step(vector.action_space.sample())
    for observations, copies in zip(returned, kept, strict=True):
        assert_same(observations, copies)


def test_gymnasiums_own_check_and_a_copy_in_another_process():
    env = PreviousActionReward(gymnasium.make("CartPole-v1", disable_env_checker=True))
    check_env(env, skip_render_check=True)
    again = gymnasium.make(pickle.loads(pickle.dumps(env.spec)))
    assert again.observation_space.shape == (7,)


def test_nothing_shown_is_refused():
    with pytest.raises(ValueError, match="one of them has to be shown"):
        PreviousActionReward(gymnasium.make("CartPole-v1"), action=False, reward=False)
    sequence = spaces.Sequence(spaces.Discrete(2))
    with pytest.raises(ValueError, match="no fixed size when flat"):
        PreviousActionReward(Episodes(OBSERVATIONS["vector"], sequence))
    assert stpn_envs.PreviousActionReward is PreviousActionReward
