"""POPGym's environments on arrays: with the same seeds the same episodes as in the popgym package."""

import gymnasium
import numpy as np
import pytest
import stpn_envs

popgym_envs = pytest.importorskip("popgym.envs", reason="the package popgym is not installed (extra 'dev')")
from popgym.wrappers import Antialias, Flatten, PreviousAction  # noqa: E402

from tests.envs.some_actions import some_actions  # noqa: E402

IDS = [env_id for env_id in stpn_envs.ENV_IDS if hasattr(popgym_envs, env_id[len("stpn/") : -len("-v0")])]


def flat(env):
    return Flatten(Antialias(PreviousAction(env)))


def assert_equal(env, observation, expected):
    # numbers up to rounding: sine and cosine of a whole array may differ in the last place from those of one number
    np.testing.assert_allclose(observation, gymnasium.spaces.flatten(env.observation_space, expected), atol=1e-6)


def test_all_three_difficulties_are_compared():
    assert len(IDS) % 3 == 0
    assert len(IDS) == 39


@pytest.mark.parametrize(
    ("env_id", "previous_action"),
    [(env_id, True) for env_id in IDS] + [(env_id, False) for env_id in IDS if "Easy" in env_id],
)
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
            assert_equal(env, observations[i], expected[i])
        if step == 7:  # also out of the middle of an episode
            vec.reset(options={"reset_mask": np.array([True, False])})
            envs[0].reset()
        actions = some_actions(vec.single_action_space, rng, 2)
        observations, rewards, terminations, truncations, info = vec.step(actions)
        for i, env in enumerate(envs):
            expected[i], *outcome, _ = env.step(actions[i])
            assert (rewards[i], terminations[i], truncations[i]) == (pytest.approx(outcome[0]), *outcome[1:])
            if outcome[1] or outcome[2]:
                ended += 1
                assert_equal(env, info["final_obs"][i], expected[i])
                expected[i], _ = env.reset()
        if ended >= 3:
            break
    assert ended >= 3


def cells(board):
    return np.argwhere(board).tolist()


def pairs(batch):
    """Turn over the cards of each kind in turn, the first of all after every other pair again."""
    order = np.argsort(batch.cards[0], kind="stable").tolist()
    return [*order[:2], order[0], *order[2:4], order[4], order[0], *order[4:]]


def mines(batch):
    return batch.mines[0].reshape(4, 4)


# who knows the boards plays to the end, which at random happens too rarely
KNOWING = {
    "Battleship-no-miss": ("BattleshipEasy", lambda batch: cells(batch.ships[0])),
    "Battleship-last-step": ("BattleshipEasy", lambda batch: cells(~batch.ships[0]) + cells(batch.ships[0])),
    "Battleship-too-late": ("BattleshipEasy", lambda batch: cells(~batch.ships[0]) + cells(batch.ships[0])[:1] * 12),
    "MineSweeper-won": ("MineSweeperEasy", lambda batch: cells(~mines(batch))),
    "MineSweeper-lost-last": ("MineSweeperEasy", lambda batch: cells(~mines(batch))[:-1] + cells(mines(batch))[:1]),
    "MineSweeper-too-late": ("MineSweeperEasy", lambda batch: cells(~mines(batch))[:-1] + cells(~mines(batch))[:1]),
    "Concentration": ("ConcentrationEasy", pairs),
}


@pytest.mark.parametrize(("name", "moves"), KNOWING.values(), ids=KNOWING)
def test_games_end_as_those_of_popgym(name, moves):
    env = gymnasium.make(f"stpn/{name}-v0", previous_action=False)
    original = getattr(popgym_envs, name)()
    env.reset(seed=3)
    original.reset(seed=3)
    actions = moves(env.unwrapped.batch)
    for step, action in enumerate(actions):
        observation, reward, *ends, _ = env.step(np.array(action))
        expected, its_reward, *its_ends, _ = original.step(np.array(action))
        assert_equal(original, observation, expected)
        assert (reward, *ends) == (pytest.approx(its_reward), *its_ends)
        assert any(ends) == (step == len(actions) - 1)


@pytest.mark.parametrize(
    ("env_id", "arguments", "message"),
    [
        ("stpn/BattleshipEasy-v0", {"ship_sizes": [1, 1, 1, 8]}, "allowed are ships that always fit into size 8"),
        ("stpn/BattleshipEasy-v0", {"size": 2, "ship_sizes": [1] * 4}, "allowed are ships that leave a cell of size 2"),
        ("stpn/BattleshipEasy-v0", {"size": 1, "ship_sizes": [1]}, "size: got 1, allowed is a whole number of at"),
        ("stpn/BattleshipEasy-v0", {"ship_sizes": [9]}, "got 9, allowed is a whole number from 1 to 8"),
        ("stpn/BattleshipEasy-v0", {"ship_sizes": 3}, "ship_sizes: got 3, allowed is a list"),
        ("stpn/MineSweeperEasy-v0", {"num_mines": 14}, "num_mines: got 14, allowed is a whole number from 1 to 13"),
        ("stpn/ConcentrationEasy-v0", {"deck_type": "suits"}, "deck_type: got 'suits', allowed are 'colors', 'ranks'"),
        ("stpn/NoisyPositionOnlyPendulumEasy-v0", {"noise_sigma": -1}, "noise_sigma: got -1, allowed is a finite"),
        ("stpn/PositionOnlyCartPoleEasy-v0", {"noise_sigma": 0.1}, "unknown argument 'noise_sigma'"),
    ],
)
def test_arguments_that_make_no_game_are_refused(env_id, arguments, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make(env_id, **arguments)


def test_a_torque_outside_its_bounds_counts_and_is_shown_as_the_nearest_inside():
    vec = gymnasium.make_vec("stpn/PositionOnlyPendulumEasy-v0", 2, vectorization_mode="vector_entry_point")
    vec.reset(seed=[5, 5])
    observations, rewards, *_ = vec.step(np.array([[2.0], [50.0]], np.float32))
    np.testing.assert_array_equal(observations[0], observations[1])
    assert observations[0, 2] == 2
    assert rewards[0] == rewards[1]
