"""The Atari environment beyond the contract: rewards, frames, the start and the end of games, rendering."""

import gymnasium
import numpy as np
import pytest
import stpn_envs  # noqa: F401  (registers the ids)


def make(game="pong", **kwargs):
    return gymnasium.make("stpn/Atari-v0", game=game, **kwargs)


def make_vec(game="pong", num_envs=2, **kwargs):
    return gymnasium.make_vec("stpn/Atari-v0", num_envs, vectorization_mode="vector_entry_point", game=game, **kwargs)


def play(env, actions, seed=0):
    """Return the observations and rewards of `actions`, the first observation included."""
    observations, rewards = [env.reset(seed=seed)[0]], []
    for action in actions:
        observation, reward, *_ = env.step(action)
        observations.append(observation)
        rewards.append(reward)
    return np.array(observations), np.array(rewards)


def area_resize(image, rows, columns):
    """Resize a gray image by averaging over areas."""

    def overlaps(size, to):
        edges = np.arange(to + 1) * size / to
        left, right = (
            np.maximum(edges[:-1, None], np.arange(size)),
            np.minimum(edges[1:, None], np.arange(size) + 1),
        )
        return np.clip(right - left, 0, None) * to / size

    return overlaps(image.shape[0], rows) @ image @ overlaps(image.shape[1], columns).T


def test_a_lost_game_of_pong_is_21_points_in_both_forms():
    env, vec = make(frame_skip=4, fire_on_reset=False), make_vec(frame_skip=4, fire_on_reset=False)
    env.reset(seed=1)
    vec.reset(seed=0)
    rewards, terminated = [], False
    while not terminated:
        observation, reward, terminated, truncated, _ = env.step(0)
        observations, vec_rewards, terminations, truncations, infos = vec.step(np.zeros(2, int))
        assert (vec_rewards[1], terminations[1], truncations[1]) == (reward, terminated, truncated)
        np.testing.assert_array_equal(infos["final_obs"][1] if terminated else observations[1], observation)
        rewards.append(reward)
    assert set(rewards) == {0.0, -1.0}
    assert sum(rewards) == -21
    assert not truncated
    np.testing.assert_array_equal(observations[1], env.reset()[0])


@pytest.mark.parametrize("clip", [False, True], ids=["raw", "clipped"])
def test_frame_skip_sums_the_rewards_of_its_frames(clip):
    actions = np.random.default_rng(0).integers(9, size=100)
    options = {"noop_max": 0, "clip_rewards": False, "max_frames": 3000}
    _, every_frame = play(make("ms_pacman", **options), np.repeat([0] * 100 + list(actions), 4))
    _, skipping = play(make("ms_pacman", **options | {"clip_rewards": clip}, frame_skip=4), [0] * 100 + list(actions))
    sums = every_frame.reshape(-1, 4).sum(1)
    assert sums.max() >= 10
    np.testing.assert_array_equal(skipping, np.clip(sums, -1, 1) if clip else sums)


def test_frame_skip_shows_the_maximum_of_the_last_two_frames():
    """Where a sprite flickers, the pooled frame is at least as bright as each of the two."""
    actions = np.random.default_rng(2).integers(4, size=60)
    options = {"noop_max": 0}
    frames, _ = play(make("breakout", **options), np.repeat(actions, 4))
    skipping, _ = play(make("breakout", **options, frame_skip=4), actions)
    last, before = frames[4::4].astype(int), frames[3::4].astype(int)
    assert (skipping[1:] >= np.maximum(last, before)).all()
    assert (skipping[1:] > last).any()
    same = (last == before).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(skipping[1:][same], last[same])


def test_the_frame_limit_counts_frames_not_steps():
    env = make(max_frames=10, frame_skip=4)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]


def test_the_last_observation_repeats_the_one_before_it():
    observations, _ = play(make(max_frames=100), [2] * 100)
    np.testing.assert_array_equal(observations[100], observations[99])
    assert (observations[99] != observations[98]).any()


@pytest.mark.parametrize(
    ("noop_max", "fire", "frames"),
    [(0, False, {0}), (0, True, {1}), (1, True, {1}), (4, True, {1, 2, 3}), (4, False, {0, 1, 2, 3})],
)
def test_no_ops_and_fire_at_the_start(noop_max, fire, frames):
    vec = make_vec(noop_max=noop_max, fire_on_reset=fire)
    vec.reset(seed=0)
    assert {int(n) for _ in range(20) for n in vec.reset()[1]["episode_frame_number"]} == frames


def test_environments_that_were_never_seeded_draw_their_own_no_ops():
    vec = make_vec()
    one, other = np.array([vec.reset()[1]["episode_frame_number"] for _ in range(8)]).T
    assert (one != other).any()


def test_episodic_life_ends_the_episode_and_starts_a_new_game():
    env = make("breakout", episodic_life=True, frame_skip=4)
    _, info = env.reset(seed=0)
    assert info["lives"] == 5
    terminated = False
    while not terminated:
        _, _, terminated, truncated, info = env.step(1)
    assert info["lives"] == 4
    assert not truncated
    assert env.reset()[1]["lives"] == 5


def test_action_spaces():
    env = make()
    assert env.unwrapped.get_action_meanings() == ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"]
    assert env.action_space.n == 6
    assert make(full_action_space=True).action_space.n == 18
    assert make_vec(full_action_space=True).single_action_space.n == 18


@pytest.mark.parametrize(
    "kwargs", [{}, {"repeat_action_probability": 0.25}, {"game": "carnival", "full_action_space": True}],
    ids=["plain", "sticky", "214-rows"],
)  # fmt: skip
def test_the_rendered_screen_is_the_observed_one(kwargs):
    env = make(**kwargs, max_frames=130, render_mode="rgb_array")
    rng = np.random.default_rng(0)
    for seed in (4, None, 5):
        observation, _ = env.reset(seed=seed)
        for t in range(129):
            if t % 16 == 0:
                gray = area_resize(env.render() @ [0.299, 0.587, 0.114], 84, 84)
                np.testing.assert_allclose(observation[:, :, 0], gray, atol=1.5)
            observation, *_ = env.step(rng.integers(env.action_space.n))


def test_rendering_needs_a_mode():
    env = make()
    env.reset()
    with pytest.warns(UserWarning, match="rgb_array"):
        assert env.unwrapped.render() is None
    with pytest.raises(ValueError, match="render_mode: got 'ansi'"):
        type(env.unwrapped)(render_mode="ansi")
    assert make().unwrapped.metadata["render_fps"] == 60
    assert make(frame_skip=4).unwrapped.metadata["render_fps"] == 15


@pytest.mark.parametrize(
    ("game", "message"),
    [
        ("Pong", "game: got 'Pong', allowed are .*; did you mean pong[?]$"),
        ("ALE/MsPacman-v5", "did you mean ms_pacman[?]$"),
        ("PongNoFrameskip-v4", "did you mean pong[?]$"),
        ("spaceinvaders", "did you mean space_invaders"),
        ("combat", "game: got 'combat', allowed are games that one agent can play"),
        (7, "game: got 7, allowed are those of ale_py"),
    ],
)  # fmt: skip
def test_an_unknown_game_is_named_with_what_may_have_been_meant(game, message):
    for construct in (make, make_vec):
        with pytest.raises(ValueError, match=message):
            construct(game)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"frame_skip": 0}, "frame_skip: got 0"),
        ({"frame_skip": 2.0}, "frame_skip: got 2.0"),
        ({"frame_skip": True}, "frame_skip: got True"),
        ({"max_frames": "many"}, "max_frames: got 'many'"),
        ({"noop_max": -1}, "noop_max: got -1"),
        ({"clip_rewards": 1}, "clip_rewards: got 1"),
        ({"repeat_action_probability": 1.5}, "number from 0 to 1"),
        ({"repeat_action_probability": "0.25"}, "number from 0 to 1"),
        ({"num_threads": -1}, "num_threads: got -1"),
        ({"frameskip": 4}, "did you mean frame_skip"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_with_their_value(kwargs, message):
    for construct in (make, make_vec):
        with pytest.raises(ValueError, match=message):
            construct(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_envs": 0}, "num_envs: got 0"),
        ({"autoreset_mode": "Disabled"}, "'SameStep', 'NextStep'"),
        ({"render_mode": "rgb_array"}, "got the unknown argument 'render_mode'"),
    ],
)  # fmt: skip
def test_bad_arguments_of_the_vector_form_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_vec(**kwargs)


def test_one_game_takes_the_threads_of_the_vector_form():
    game, plain = make(num_threads=3, render_mode="rgb_array"), make()
    np.testing.assert_array_equal(game.reset(seed=1)[0], plain.reset(seed=1)[0])
