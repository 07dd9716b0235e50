"""What every registered environment promises: run over all ids, in both forms."""

import contextlib
import copy
import json
import pickle
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import stpn_envs
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

# id: (arguments that make episodes short, length of such an episode in steps)
SHORT_EPISODES = {
    "stpn/Atari-v0": ({"game": "breakout", "max_frames": 45}, 45),
    "stpn/Pong-v0": ({"max_frames": 150, "frame_skip": 4}, 38),
}


@pytest.fixture(scope="module", params=stpn_envs.ENV_IDS)
def env_id(request):
    return request.param


@pytest.fixture(scope="module")
def envs(env_id):
    """Three scalar environments, shared because emulators are slow to make; each test resets them."""
    return [make(env_id) for _ in range(3)]


@pytest.fixture(scope="module")
def vec(env_id):
    """A vector of three environments, shared like `envs`."""
    return make_vec(env_id)


def make(env_id, **kwargs):
    return gymnasium.make(env_id, **{**SHORT_EPISODES[env_id][0], **kwargs})


def make_vec(env_id, num_envs=3, **kwargs):
    kwargs = {**SHORT_EPISODES[env_id][0], **kwargs}
    return gymnasium.make_vec(env_id, num_envs, vectorization_mode="vector_entry_point", **kwargs)


def in_fresh_process(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(result.stdout)


def test_ids_resolve_in_a_process_that_imported_nothing():
    found = in_fresh_process(
        "import gymnasium, json\n"
        "env = gymnasium.make('stpn_envs:stpn/Atari-v0')\n"
        "options = {'num_envs': 2, 'vectorization_mode': 'vector_entry_point'}\n"
        "vec = gymnasium.make_vec('stpn_envs:stpn/Pong-v0', **options)\n"
        "print(json.dumps([env.spec.id, vec.spec.id, env.reset()[0].shape, vec.reset()[0].shape]))"
    )
    assert found == ["stpn/Atari-v0", "stpn/Pong-v0", [84, 84, 1], [2, 84, 84, 1]]


def test_importing_the_package_imports_no_simulator_and_no_framework():
    heavy = in_fresh_process(
        "import stpn_envs, json, sys\n"
        "names = ('torch', 'ray', 'ale_py', 'mujoco', 'rllib_stpn')\n"
        "print(json.dumps([name for name in names if name in sys.modules]))"
    )
    assert heavy == []


def test_registering_twice_is_silent_and_changes_nothing():
    before = {env_id: gymnasium.spec(env_id) for env_id in stpn_envs.ENV_IDS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stpn_envs.register()
    assert all(gymnasium.spec(env_id) is spec for env_id, spec in before.items())


def test_check_env_passes_without_a_warning(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # its render check opens every mode, a window among them
        check_env(make(env_id).unwrapped, skip_render_check=True)


def test_both_forms_have_the_same_spaces(envs, vec):
    env = envs[0]
    assert vec.single_observation_space == env.observation_space
    assert vec.single_action_space == env.action_space
    assert vec.observation_space.shape == (3, *env.observation_space.shape)
    assert vec.observation_space.dtype == env.observation_space.dtype


def test_same_seed_and_actions_replay_on_another_instance(envs):
    runs = []
    for env in envs[:2]:
        rng = np.random.default_rng(0)
        run = [env.reset(seed=11)]
        for _ in range(100):
            run.append(env.step(rng.integers(env.action_space.n)))
            if run[-1][2] or run[-1][3]:
                run.append(env.reset())
        runs.append(run)
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:] == other[1:]


def test_the_environment_itself_truncates_at_its_limit(env_id, envs):
    env, (_, length) = envs[0], SHORT_EPISODES[env_id]
    assert env.spec.max_episode_steps is None
    for _ in range(2):
        env.reset()
        ends = [env.step(0)[2:4] for _ in range(length)]
        assert ends == [(False, False)] * (length - 1) + [(False, True)]


@pytest.mark.parametrize(
    "mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP], ids=["same-step", "next-step"]
)
def test_vector_form_equals_scalar_form_step_for_step(env_id, envs, vec, mode):
    if mode is not AutoresetMode.SAME_STEP:
        vec = make_vec(env_id, autoreset_mode=mode)
    assert vec.metadata["autoreset_mode"] is mode
    rng, ended, to_reset = np.random.default_rng(1), 0, [False] * 3
    observations, infos = vec.reset(seed=70)
    for i, env in enumerate(envs):
        observation, info = env.reset(seed=70 + i)
        np.testing.assert_array_equal(observations[i], observation)
        assert {key: infos[key][i] for key in info} == info
    for t in range(300):
        if t in (10, 21):  # from here on the episodes end at different steps
            i = 0 if t == 10 else 2
            with contextlib.suppress(NotImplementedError):  # then they end together
                vec.reset(options={"reset_mask": np.arange(3) == i})
                envs[i].reset()
        actions = rng.integers(vec.single_action_space.n, size=3)
        observations, rewards, terminations, truncations, infos = vec.step(actions)
        assert rewards.dtype == np.float64
        for i, env in enumerate(envs):
            if to_reset[i]:
                to_reset[i] = False
                observation, info = env.reset()
                expected = (0.0, False, False)
            else:
                observation, *expected, info = env.step(actions[i])
                if expected[1] or expected[2]:
                    ended += 1
                    if mode is AutoresetMode.NEXT_STEP:
                        to_reset[i] = True
                    else:
                        assert infos["_final_obs"][i]
                        np.testing.assert_array_equal(infos["final_obs"][i], observation)
                        observation, info = env.reset()
                elif "final_obs" in infos:
                    assert not infos["_final_obs"][i]
                    assert infos["final_obs"][i] is None
            np.testing.assert_array_equal(observations[i], observation)
            assert (rewards[i], terminations[i], truncations[i]) == tuple(expected)
            assert {key: infos[key][i] for key in info} == info
            assert all(infos[f"_{key}"][i] for key in info)
        assert ("final_obs" in infos) == (
            mode is AutoresetMode.SAME_STEP and (terminations | truncations).any()
        )
    assert ended > 3


def test_returned_arrays_belong_to_the_caller(envs, vec):
    env = envs[0]
    kept = [vec.reset()[0], env.reset()[0]]
    copies = copy.deepcopy(kept)
    for _ in range(50):
        step = vec.step(np.ones(3, int))
        kept.extend(step[:4])
        copies.extend(array.copy() for array in step[:4])
        *step, truncated, _ = env.step(1)
        kept.append(step[0])
        copies.append(step[0].copy())
        if truncated:
            env.reset()
    for array, at_return in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, at_return)
        array[...] = 0  # and may be written to


def test_copies_and_pickles_have_the_same_arguments(env_id):
    for env in (make(env_id).unwrapped, make_vec(env_id, num_envs=1)):
        observation, _ = env.reset(seed=3)
        for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
            assert twin.spec == env.spec
            assert twin.observation_space == env.observation_space
            np.testing.assert_array_equal(twin.reset(seed=3)[0], observation)


def test_render_returns_colour_images(env_id):
    env = make(env_id, render_mode="rgb_array")
    env.reset()
    image = env.render()
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.max() > 0


def test_an_unknown_argument_is_named(env_id):
    for construct in (make, make_vec):
        with pytest.raises(ValueError, match="no argument 'no_such'"):
            construct(env_id, no_such=1)


def test_actions_outside_the_space_are_refused(envs, vec):
    env = envs[0]
    env.reset()
    vec.reset()
    for action in (-1, env.action_space.n, 0.5, "up", None):
        with pytest.raises(ValueError, match="action is "):
            env.unwrapped.step(action)
    for actions, message in [
        ([0, -1, 0], "action of environment 1 is -1"),
        ([0, 0, env.action_space.n], "action of environment 2"),
        ([0, 0], r"shape \(2,\)"),
        ([0.0, 0.0, 0.0], "float64"),
    ]:
        with pytest.raises(ValueError, match=message):
            vec.step(np.array(actions))
    vec.step([0, 1, 0])  # both still work
    env.step(1)


def test_a_step_needs_an_episode_and_an_open_environment(env_id):
    env, vec = make(env_id).unwrapped, make_vec(env_id, num_envs=2)
    for unstarted, action in ((env, 0), (vec, np.zeros(2, int))):
        with pytest.raises(gymnasium.error.ResetNeeded):
            unstarted.step(action)
    with pytest.raises(gymnasium.error.ResetNeeded):
        vec.reset(options={"reset_mask": np.array([True, False])})
    env.reset()
    while not any(env.step(0)[2:4]):
        pass
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    for closed in (env, vec):
        closed.close()
        closed.close()
        with pytest.raises(gymnasium.error.ClosedEnvironmentError):
            closed.reset()


def test_a_mask_resets_only_the_chosen_environments(envs, vec):
    vec.reset()
    for _ in range(10):
        before, *_ = vec.step(np.array([1, 0, 1]))
    try:
        observations, _ = vec.reset(seed=20, options={"reset_mask": np.array([False, True, False])})
    except NotImplementedError as reason:
        pytest.skip(str(reason))
    np.testing.assert_array_equal(observations[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(observations[1], envs[1].reset(seed=21)[0])
    for mask in ([True] * 3, np.ones(2, bool), np.ones(3), np.zeros(3, bool)):
        with pytest.raises(ValueError, match="reset_mask"):
            vec.reset(options={"reset_mask": mask})


def test_seeds_can_be_given_one_by_one_and_be_large(envs, vec):
    env = envs[0]
    observations, _ = vec.reset(seed=[5, None, 2**40 + 7])
    np.testing.assert_array_equal(observations[0], env.reset(seed=5)[0])
    np.testing.assert_array_equal(observations[2], env.reset(seed=2**40 + 7)[0])
    for seed in ([1, 2], [1, 2, -3], [1, 2, "3"]):
        with pytest.raises(ValueError, match="seed"):
            vec.reset(seed=seed)
    for either in (vec, env):
        with pytest.raises(gymnasium.error.Error, match="Seed"):
            either.reset(seed=-1)


def test_making_a_vector_form_leaves_the_metadata_of_other_environments_alone():
    before = dict(gymnasium.vector.VectorEnv.metadata)
    make_vec("stpn/Pong-v0", num_envs=1, autoreset_mode="NextStep")
    assert gymnasium.vector.VectorEnv.metadata == before
    assert make_vec("stpn/Pong-v0", num_envs=1).metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
