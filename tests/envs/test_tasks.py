"""Associative retrieval, familiarity and cue-reward: their generators' statistics and their rules."""

import gymnasium
import numpy as np
import pytest
from stpn_envs import associative_retrieval, familiarity
from stpn_envs.associative_retrieval import VOCABULARY, AssociativeRetrievalEnv, AssociativeRetrievalVectorEnv, decode
from stpn_envs.cue_reward import CueRewardEnv, CueRewardVectorEnv
from stpn_envs.familiarity import FamiliarityEnv, FamiliarityVectorEnv

from tests.chances import STANDARD_ERRORS, is_close, is_uniform


def generated_retrieval():
    return associative_retrieval.sample_sequences(np.random.default_rng(0), 20_000, num_pairs=3)


def played_retrieval():
    vec = AssociativeRetrievalVectorEnv(20_000)
    observations, tokens = vec.reset(seed=0)[0], []
    for _ in range(9):
        tokens.append(observations.argmax(axis=1))
        assert (observations.sum(axis=1) == 1).all()
        answers = vec.answers.copy()
        observations, _, ended, _, info = vec.step(np.zeros(20_000, int))
    assert ended.all()
    assert not info["final_obs"].any()
    return np.stack(tokens, axis=1), answers


@pytest.mark.parametrize("source", [generated_retrieval, played_retrieval], ids=["generator", "environment"])
def test_retrieval_sequences(source):
    tokens, answers = source()
    letters, digits, query = tokens[:, 0:6:2], tokens[:, 1:6:2], tokens[:, 8]
    assert (tokens[:, 6:8] == 36).all()
    assert letters.max() <= 25
    assert digits.min() >= 26
    assert digits.max() <= 35
    assert all((letters[:, i] != letters[:, j]).all() for i, j in ((0, 1), (0, 2), (1, 2)))
    asked = letters == query[:, None]
    assert (asked.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(digits[asked], answers)
    # place of the query, letter and digit at each place; digits may repeat
    assert is_uniform(asked.sum(axis=0))
    for place in range(3):
        assert is_uniform(np.bincount(letters[:, place], minlength=26))
        assert is_uniform(np.bincount(digits[:, place] - 26, minlength=10))
    assert is_close((digits[:, 0] == digits[:, 1]).mean(), 0.1, 20_000)
    # who guesses one of the shown digits
    assert is_close((digits[:, 0] == answers).mean(), 0.4, 20_000)


def test_retrieval_sequences_have_types_names_and_limits():
    tokens, answers = associative_retrieval.sample_sequences(np.random.default_rng(3), 5, num_pairs=26)
    assert (tokens.shape, tokens.dtype, answers.shape, answers.dtype) == ((5, 55), np.uint8, (5,), np.uint8)
    assert VOCABULARY == "abcdefghijklmnopqrstuvwxyz0123456789?"
    assert sorted(decode(tokens[0])[0:52:2]) == list(VOCABULARY[:26])
    again, _ = associative_retrieval.sample_sequences(np.random.default_rng(3), 5, num_pairs=26)
    np.testing.assert_array_equal(tokens, again)
    assert decode(np.array([0, 27, 1, 28, 36, 36, 1])) == "a1b2??b"
    with pytest.raises(ValueError, match="num_pairs: got 27, allowed is a whole number from 1 to 26"):
        associative_retrieval.sample_sequences(np.random.default_rng(3), 5, num_pairs=27)


@pytest.mark.parametrize("right", [True, False])
def test_retrieval_rewards_the_digit_at_the_query_only(right):
    env = AssociativeRetrievalEnv(render_mode="ansi")
    env.reset(seed=1)
    answer = int(env.batch.answers[0])
    action = answer if right else 26 + (answer - 25) % 10
    outcomes = [env.step(action)[1:4] for _ in range(9)]
    assert outcomes == [(0.0, False, False)] * 8 + [(float(right), True, False)]
    verdict = "(right)" if right else f"(wrong, it was {VOCABULARY[answer]})"
    assert env.render() == f"{decode(env.batch.tokens[0])} {VOCABULARY[action]} {verdict}"


def generated_familiarity(length, delay):
    return familiarity.sample_sequences(np.random.default_rng(0), 300, length, dim=70, delay=delay)


def played_familiarity(length, delay):
    vec = FamiliarityVectorEnv(300, dim=70, delay=delay, episode_length=length)
    patterns, repeats = [vec.reset(seed=0)[0]], vec.repeats[:, :-1].copy()
    for step in range(length):
        observations, rewards, _, truncated, _ = vec.step(np.ones(300, int))
        np.testing.assert_array_equal(rewards, repeats[:, step])
        patterns.append(observations)
    assert truncated.all()
    return np.stack(patterns[:-1], axis=1), repeats


@pytest.mark.parametrize("source", [generated_familiarity, played_familiarity], ids=["generator", "environment"])
@pytest.mark.parametrize("delay", [1, 3, 7])
def test_familiarity_sequences(source, delay):
    patterns, repeats = source(length=100, delay=delay)
    assert patterns.shape == (300, 100, 70)
    assert set(np.unique(patterns)) == {-1, 1}
    assert not repeats[:, :delay].any()
    assert not (repeats[:, delay:] & repeats[:, :-delay]).any()  # a repeat is not repeated
    # with 70 bits a pattern comes back only where it is a repeat, and only from `delay` steps before
    for lag in range(1, 10):
        same = (patterns[:, lag:] == patterns[:, :-lag]).all(axis=2)
        np.testing.assert_array_equal(same, repeats[:, lag:] if lag == delay else np.zeros_like(same))
    # unless the one before was: with probability 1/2; so in the long run 1/3
    may = ~repeats[:, :-delay]
    assert is_close(repeats[:, delay:][may].mean(), 0.5, may.sum())
    assert is_close(repeats[:, 50:].mean(), 1 / 3, 300 * 50)
    new = patterns[~repeats]
    assert abs(new.mean(axis=0)).max() < STANDARD_ERRORS / np.sqrt(len(new))
    assert abs((new[:, 1:] * new[:, :-1]).mean(axis=0)).max() < STANDARD_ERRORS / np.sqrt(len(new))


def test_familiarity_sequences_have_types_and_limits():
    patterns, repeats = familiarity.sample_sequences(np.random.default_rng(0), 2, 5000)
    assert (patterns.shape, patterns.dtype) == ((2, 5000, 100), np.int8)
    assert (repeats.shape, repeats.dtype) == ((2, 5000), bool)
    assert not familiarity.sample_sequences(np.random.default_rng(0), 2, length=4, delay=9)[1].any()
    with pytest.raises(ValueError, match="delay: got 0, allowed is a whole number of at least 1"):
        familiarity.sample_sequences(np.random.default_rng(0), 2, 5000, delay=0)


def test_always_saying_new_is_right_two_times_out_of_three():
    vec = FamiliarityVectorEnv(500, episode_length=100, dim=5)
    vec.reset(seed=0)
    rewards = np.stack([vec.step(np.zeros(500, int))[1] for _ in range(100)])
    assert is_close(rewards[20:].mean(), 2 / 3, rewards[20:].size)


def test_familiarity_text_says_how_the_last_pattern_was_judged():
    env = FamiliarityEnv(1, dim=3, render_mode="ansi")
    env.reset(seed=0)
    repeats = env.batch.repeats[0]
    for step in range(20):
        observation, reward, *_ = env.step(1)
        assert reward == repeats[step]
        was, verdict = ("seen before", "right") if repeats[step] else ("new", "wrong")
        signs = "".join("+" if entry == 1 else "-" for entry in observation)
        assert env.render() == f"step {step} was {was}, answer {verdict}\nstep {step + 1}: {signs}"
    assert repeats[:20].any()


def trials(symbols, go):
    """Cut the symbols of an episode into its whole trials, each ending one step after its go signal."""
    ends = np.flatnonzero(symbols[:-1] == go) + 2
    return np.split(symbols, ends)[:-1]


@pytest.mark.parametrize(("num_cues", "shown"), [(2, 1), (4, 2), (8, 4)])
def test_cue_reward_trials(num_cues, shown):
    vec = CueRewardVectorEnv(400, num_cues=num_cues)
    vec.reset(seed=0)
    go, blank = num_cues, num_cues + 1
    lengths, cues, targets, first = [], [], [], []
    for target, symbols in zip(vec.targets, vec.symbols, strict=True):
        for trial in trials(symbols, go):
            assert trial[0] == trial[-1] == blank
            assert trial[-2] == go
            middle = trial[1:-2]
            present = middle[middle != blank]
            assert len(set(present)) == len(present) == shown
            lengths.append(len(trial))
            cues.extend(present)
            targets.append(target in present)
            first.append(middle[0] == blank)
    assert set(cues) == set(range(num_cues))
    counts = np.bincount(lengths)[shown + 3 :]  # 0 .. num_cues - 1 blanks beside the cues
    assert len(counts) == num_cues
    if num_cues == 4:  # long trials are cut off at the end a little more often, so this is no chi-square
        assert (min(lengths), max(lengths)) == (5, 8)
    assert counts / counts.sum() == pytest.approx(1 / num_cues, abs=0.04)  # six standard errors, and what is cut off
    assert is_uniform(np.bincount(cues))
    assert is_close(np.mean(targets), 0.5, len(targets))
    # the first place is a blank in k of shown + k cases, k uniform
    expected = np.mean([k / (shown + k) for k in range(num_cues)])
    assert np.mean(first) == pytest.approx(expected, abs=0.05)  # six standard errors, and what is cut off
    assert is_uniform(np.bincount(vec.targets, minlength=num_cues))


def test_cue_reward_observations_and_rewards():
    env = CueRewardEnv(episode_length=60, render_mode="ansi")
    rng, answered = np.random.default_rng(0), []
    observation, _ = env.reset(seed=5)
    symbols, target = env.batch.symbols[0], int(env.batch.targets[0])
    reward, previous, seen, in_trial = 0.0, [0, 0], {}, set()
    for step in range(60):
        symbol = int(symbols[step])
        np.testing.assert_array_equal(observation[20:], np.float32([symbol == 4, 1, step / 60, reward, *previous]))
        if symbol < 4:
            cue = tuple(observation[:20].tolist())
            assert set(cue) == {-1, 1}
            assert seen.setdefault(symbol, cue) == cue  # a cue looks the same all through the episode
            in_trial.add(symbol)
        else:
            assert not observation[:20].any()
        shown = {4: "go", 5: "-"}.get(symbol, f"cue {symbol}" + (" (target)" if symbol == target else ""))
        assert env.render() == f"step {step}: {shown}" + (f", reward {reward:+.0f}" if reward else "")

        action = int(rng.integers(2))
        observation, paid, terminated, truncated, _ = env.step(action)
        reward, previous = 0.0, [1 - action, action]
        if symbol == 4:
            reward = 1.0 if action == (target in in_trial) else -1.0
            answered.append(reward)
            in_trial = set()
        assert (paid, terminated, truncated) == (reward, False, step == 59)
    assert len(set(seen.values())) == 4
    assert set(answered) == {-1.0, 1.0}


def test_cues_of_an_episode_differ_and_are_new_in_the_next():
    vec = CueRewardVectorEnv(500, num_cues=4, cue_bits=2, episode_length=3)
    vec.reset(seed=0)
    cues = vec._patterns[:, :4, :2].copy()
    assert all(len({tuple(cue) for cue in episode}) == 4 for episode in cues.tolist())
    for _ in range(3):
        vec.step(np.zeros(500, int))
    assert is_close((vec._patterns[:, :4, :2] != cues).any(axis=(1, 2)).mean(), 23 / 24, 500)


@pytest.mark.parametrize(
    ("env_id", "arguments", "message"),
    [
        ("AssociativeRetrieval", {"num_pairs": 0}, "num_pairs: got 0, .* from 1 to 26"),
        ("Familiarity", {"delay": 1.5}, "delay: got 1.5, allowed is a whole number"),
        ("Familiarity", {"dim": 0}, "dim: got 0, allowed is a whole number of at least 1"),
        ("Familiarity", {"episode_length": True}, "episode_length: got True, allowed is a whole number"),
        ("CueReward", {"num_cues": 3}, "num_cues: got 3, allowed is an even number"),
        ("CueReward", {"num_cues": 0}, "num_cues: got 0, allowed is a whole number of at least 2"),
        ("CueReward", {"num_cues": 8, "cue_bits": 2}, "cue_bits: got 2, .* from 3 to 32"),
        ("CueReward", {"episode_length": 0}, "episode_length: got 0, allowed is a whole number of at least 1"),
    ],
)
def test_bad_arguments_are_refused_in_both_forms(env_id, arguments, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make(f"stpn/{env_id}-v0", **arguments)
    with pytest.raises(ValueError, match=message):
        gymnasium.make_vec(f"stpn/{env_id}-v0", 2, vectorization_mode="vector_entry_point", **arguments)
