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

from tests.envs.some_actions import some_actions

# id: (arguments that make episodes short, length of such an episode in steps)
SHORT_EPISODES = {
    "stpn/Atari-v0": ({"game": "breakout", "max_frames": 45}, 45),
    "stpn/Pong-v0": ({"max_frames": 150, "frame_skip": 4}, 38),
    "stpn/Maze-v0": ({"size": 5, "episode_length": 60, "wall_penalty": 0.5}, 60),  # small: often moved by a reward
    "stpn/MazeSmall-v0": ({}, 100),
    "stpn/MazeLarge-v0": ({"episode_length": 30}, 30),
    "stpn/AssociativeRetrieval-v0": ({}, 9),
    "stpn/AssociativeRetrievalSmall-v0": ({}, 5),
    "stpn/AssociativeRetrievalLarge-v0": ({}, 19),
    "stpn/Familiarity-v0": ({"dim": 130, "episode_length": 30}, 30),
    "stpn/FamiliaritySmall-v0": ({}, 50),
    "stpn/FamiliarityLarge-v0": ({"episode_length": 40}, 40),
    "stpn/CueReward-v0": ({}, 120),
    "stpn/CueRewardSmall-v0": ({}, 60),
    "stpn/CueRewardLarge-v0": ({"episode_length": 37}, 37),
    "stpn/Bandit-v0": ({"pulls": 12}, 12),
    "stpn/RepeatFirstEasy-v0": ({}, 51),
    "stpn/RepeatFirstMedium-v0": ({"num_decks": 1}, 51),
    "stpn/RepeatFirstHard-v0": ({"num_decks": 1}, 51),
    "stpn/RepeatPreviousEasy-v0": ({}, 51),
    "stpn/RepeatPreviousMedium-v0": ({}, 103),
    "stpn/RepeatPreviousHard-v0": ({"num_decks": 2}, 103),
    "stpn/AutoencodeEasy-v0": ({}, 103),
    "stpn/AutoencodeMedium-v0": ({"num_decks": 1}, 103),
    "stpn/AutoencodeHard-v0": ({"num_decks": 1}, 103),
    "stpn/CountRecallEasy-v0": ({}, 51),
    "stpn/CountRecallMedium-v0": ({}, 103),
    "stpn/CountRecallHard-v0": ({"num_decks": 1}, 51),
    "stpn/HigherLowerEasy-v0": ({}, 51),
    "stpn/HigherLowerMedium-v0": ({}, 103),
    "stpn/HigherLowerHard-v0": ({"num_decks": 2}, 103),
    "stpn/PositionOnlyCartPoleEasy-v0": ({"episode_length": 8}, 8),  # too short to fall
    "stpn/PositionOnlyCartPoleMedium-v0": ({"episode_length": 7}, 7),
    "stpn/PositionOnlyCartPoleHard-v0": ({"episode_length": 6}, 6),
    "stpn/NoisyPositionOnlyCartPoleEasy-v0": ({"episode_length": 8}, 8),
    "stpn/NoisyPositionOnlyCartPoleMedium-v0": ({"episode_length": 7}, 7),
    "stpn/NoisyPositionOnlyCartPoleHard-v0": ({"episode_length": 6}, 6),
    "stpn/PositionOnlyPendulumEasy-v0": ({"episode_length": 40}, 40),
    "stpn/PositionOnlyPendulumMedium-v0": ({"episode_length": 30}, 30),
    "stpn/PositionOnlyPendulumHard-v0": ({}, 100),
    "stpn/NoisyPositionOnlyPendulumEasy-v0": ({"episode_length": 40}, 40),
    "stpn/NoisyPositionOnlyPendulumMedium-v0": ({"episode_length": 30}, 30),
    "stpn/NoisyPositionOnlyPendulumHard-v0": ({"episode_length": 70}, 70),
    "stpn/MultiarmedBanditEasy-v0": ({"episode_length": 40}, 40),
    "stpn/MultiarmedBanditMedium-v0": ({"episode_length": 70}, 70),
    "stpn/MultiarmedBanditHard-v0": ({"episode_length": 50}, 50),
    "stpn/BattleshipEasy-v0": ({}, 64),
    "stpn/BattleshipMedium-v0": ({}, 100),
    "stpn/BattleshipHard-v0": ({"size": 5, "ship_sizes": [2, 3]}, 25),
    "stpn/ConcentrationEasy-v0": ({}, 104),
    "stpn/ConcentrationMedium-v0": ({"num_decks": 1}, 104),
    "stpn/ConcentrationHard-v0": ({}, 104),
    "stpn/MineSweeperEasy-v0": ({}, 14),
    "stpn/MineSweeperMedium-v0": ({}, 30),
    "stpn/MineSweeperHard-v0": ({"size": 5, "num_mines": 4}, 21),
    "stpn/Trials-v0": ({"env": "stpn/MazeSmall-v0", "size": 5, "episode_length": 9, "episodes": 4}, 36),
}
# answering the query is the end of that task, and the last pull of that
TERMINATES = ("Retrieval", "/Bandit", "Repeat", "Autoencode", "CountRecall", "HigherLower")
IS_ATARI = {"stpn/Atari-v0", "stpn/Pong-v0"}


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


def an_action(env, number):
    """Return a fixed action, of a number each."""
    return np.full(env.action_space.shape, number, env.action_space.dtype)


def in_fresh_process(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_ids_resolve_in_a_process_that_imported_nothing():
    found = in_fresh_process(
        "import gymnasium, json\n"
        "env = gymnasium.make('stpn_envs:stpn/Atari-v0')\n"
        "options = {'num_envs': 2, 'vectorization_mode': 'vector_entry_point'}\n"
        "vec = gymnasium.make_vec('stpn_envs:stpn/Maze-v0', **options)\n"
        "print(json.dumps([env.spec.id, vec.spec.id, env.reset()[0].shape, vec.reset()[0].shape]))"
    )
    assert found == ["stpn/Atari-v0", "stpn/Maze-v0", [84, 84, 1], [2, 17]]


def test_the_classes_describe_every_id():
    for env_id in stpn_envs.ENV_IDS:
        documentation = type(make(env_id).unwrapped).__doc__
        assert f"``{env_id}``" in documentation
        for heading in ("Observation space", "Action space", "Rewards", "End of an episode", "Arguments"):
            assert f"## {heading}" in documentation


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
        warnings.filterwarnings("ignore", ".*For Box action spaces, we recommend")  # torques are from -2 to 2
        # of Atari it would open a window
        check_env(make(env_id).unwrapped, skip_render_check=env_id in IS_ATARI)


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
            run.append(env.step(some_actions(env.action_space, rng, 1)[0]))
            if run[-1][2] or run[-1][3]:
                run.append(env.reset())
        runs.append(run)
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:] == other[1:]


def test_the_environment_itself_ends_at_its_limit(env_id, envs):
    env, (_, length) = envs[0], SHORT_EPISODES[env_id]
    assert env.spec.max_episode_steps is None
    end = (True, False) if any(name in env_id for name in TERMINATES) else (False, True)
    for _ in range(2):
        env.reset()
        if "MineSweeper" in env_id:
            while env.unwrapped.batch.mines[0, 0]:
                env.reset()
        swings = "CartPole" in env_id  # pushed to one side alone, the pole may fall before the limit
        ends = [env.step(an_action(env, step % 2 if swings else 0))[2:4] for step in range(length)]
        assert ends == [(False, False)] * (length - 1) + [end]


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP], ids=["same-step", "next-step"])
def test_vector_form_equals_scalar_form_step_for_step(env_id, envs, vec, mode):
    if mode is not AutoresetMode.SAME_STEP:
        if env_id == "stpn/Trials-v0":
            with pytest.raises(ValueError, match="autoreset_mode: got 'NextStep', allowed are 'SameStep', 'Disabled'"):
                make_vec(env_id, autoreset_mode=mode)
            return
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
                to_reset[i] = False
        actions = some_actions(vec.single_action_space, rng, 3)
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
                    assert env_id not in IS_ATARI or infos["final_obs"][i] is None
            np.testing.assert_array_equal(observations[i], observation)
            assert (rewards[i], terminations[i], truncations[i]) == tuple(expected)
            assert {key: infos[key][i] for key in info} == info
            assert all(infos[f"_{key}"][i] for key in info)
        assert ("final_obs" in infos) == (mode is AutoresetMode.SAME_STEP and (terminations | truncations).any())
    assert ended > 3


def test_returned_arrays_belong_to_the_caller(envs, vec):
    env = envs[0]
    kept = [vec.reset()[0], env.reset()[0]]
    copies = copy.deepcopy(kept)
    for _ in range(50):
        step = vec.step(an_action(vec, 1))
        kept.extend(step[:4])
        copies.extend(array.copy() for array in step[:4])
        observation, _, terminated, truncated, _ = env.step(an_action(env, 1))
        kept.append(observation)
        copies.append(observation.copy())
        if terminated or truncated:
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


def a_step(env):
    """What a step gives and, where it ends a scalar environment's episode, the reset behind it."""
    given = env.step(an_action(env, 1))
    ended = not isinstance(env, gymnasium.vector.VectorEnv) and (given[2] or given[3])
    return (*given, env.reset()) if ended else given


def test_a_copy_or_pickle_of_a_task_goes_on_where_it_is(env_id):
    if env_id in IS_ATARI:
        pytest.skip("an emulator's copy has to be reset")
    for env in (make(env_id).unwrapped, make_vec(env_id, num_envs=2)):
        env.reset(seed=3)
        a_step(env)
        for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
            original = copy.deepcopy(env)
            for _ in range(4):
                np.testing.assert_equal(a_step(original), a_step(twin))


def test_render_returns_colour_images_or_text(env_id, capsys):
    for mode in type(make(env_id).unwrapped).metadata["render_modes"]:
        if mode == "human" and env_id in IS_ATARI:
            continue  # a window
        env = make(env_id, render_mode=mode)
        env.reset(seed=0)
        pictures = [env.render(), env.step(an_action(env, 1)) and env.render()]
        if mode == "rgb_array":
            assert all(image.dtype == np.uint8 and image.shape[2:] == (3,) for image in pictures)
            assert pictures[0].max() > 0
        elif mode == "ansi":
            assert all(isinstance(text, str) for text in pictures)
            assert pictures[0] != pictures[1]
            texts = "\n".join([*pictures, ""])
        else:
            assert capsys.readouterr().out == texts


def test_an_unknown_render_mode_is_named(env_id):
    with pytest.raises(ValueError, match=r"render_mode: got 'no_such', allowed are None, '(rgb_array|ansi)'"):
        type(make(env_id).unwrapped)(render_mode="no_such")


def test_an_unknown_argument_is_named(env_id):
    for construct in (make, make_vec):
        with pytest.raises(ValueError, match="got the unknown argument 'no_such'"):
            construct(env_id, no_such=1)


def test_actions_outside_the_space_are_refused(envs, vec):
    env = envs[0]
    env.reset()
    vec.reset()
    if not isinstance(env.action_space, gymnasium.spaces.Discrete):
        for environment, wrong in [(env.unwrapped, np.zeros(3)), (vec, np.zeros((3, 3)))]:
            with pytest.raises(ValueError, match="actions?: got "):
                environment.step(wrong)
        return
    for action in (-1, env.action_space.n, 0.5, "up", None):
        with pytest.raises(ValueError, match="action: got "):
            env.unwrapped.step(action)
    for actions, message in [
        ([0, -1, 0], "action of environment 1: got -1"),
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
    for unstarted in (env, vec):
        with pytest.raises(gymnasium.error.ResetNeeded):
            unstarted.step(an_action(unstarted, 0))
    with pytest.raises(gymnasium.error.ResetNeeded):
        vec.reset(options={"reset_mask": np.array([True, False])})
    env.reset()
    while not any(env.step(an_action(env, 0))[2:4]):
        pass
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(an_action(env, 0))
    for closed in (env, vec):
        closed.close()
        closed.close()
        with pytest.raises(gymnasium.error.ClosedEnvironmentError):
            closed.reset()


def test_a_mask_resets_only_the_chosen_environments(envs, vec):
    vec.reset()
    for _ in range(10):
        before, *_ = vec.step(an_action(vec, 1))
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
