"""POPGym's environments on arrays: with the same seeds the same episodes as in the popgym package."""

import gymnasium
import numpy as np
import pytest
import stpn_envs

popgym_envs = pytest.importorskip("popgym.envs", reason="the package popgym is not installed (extra 'popgym')")
from popgym.wrappers import Antialias, Flatten, PreviousAction  # noqa: E402

IDS = [env_id for env_id in stpn_envs.ENV_IDS if hasattr(popgym_envs, env_id[len("stpn/") : -len("-v0")])]


def flat(env):
    return Flatten(Antialias(PreviousAction(env)))


def one_hot(env, observation):
    return gymnasium.spaces.flatten(env.observation_space, observation)


def test_all_three_difficulties_are_compared():
    assert len(IDS) % 3 == 0
    assert len(IDS) >= 15


@pytest.mark.parametrize("previous_action", [True, False], ids=["previous-action", "bare"])
@pytest.mark.parametrize("env_id", IDS)
def test_episodes_are_those_of_popgym(env_id, previous_action):
    original = getattr(popgym_envs, env_id[len("stpn/") : -len("-v0")])
    envs = [flat(original()) if previous_action else original() for _ in range(2)]
    vec = gymnasium.make_vec(env_id, 2, vectorization_mode="vector_entry_point", previous_action=previous_action)
    assert vec.single_action_space == envs[0].action_space
    rng, ended = np.random.default_rng(0), 0
    observations, _ = vec.reset(seed=40)
    expected = [env.reset(seed=40 + i)[0] for i, env in enumerate(envs)]
    for step in range(2 * 10**3):
        for i, env in enumerate(envs):
            np.testing.assert_array_equal(observations[i], one_hot(env, expected[i]))
        if step == 7:  # also out of the middle of an episode
            vec.reset(options={"reset_mask": np.array([True, False])})
            envs[0].reset()
        actions = rng.integers(vec.single_action_space.n, size=2)
        observations, rewards, terminations, truncations, info = vec.step(actions)
        for i, env in enumerate(envs):
            expected[i], *outcome, _ = env.step(actions[i].item())
            assert (rewards[i], terminations[i], truncations[i]) == tuple(outcome)
            if outcome[1] or outcome[2]:
                ended += 1
                np.testing.assert_array_equal(info["final_obs"][i], one_hot(env, expected[i]))
                expected[i], _ = env.reset()
        if ended >= 5:
            break
    assert ended >= 4
