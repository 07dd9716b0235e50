"""The maze: its rules by hand, its layout and ceiling, where things are put, its pictures."""

from collections import Counter, deque

import gymnasium
import numpy as np
import pytest
import stpn_envs  # noqa: F401  (registers the ids)
from stpn_envs.maze import MazeEnv, MazeVectorEnv

from tests.chances import is_uniform

UP, DOWN, LEFT, RIGHT = range(4)


def place(env, position, goal):
    """Put the agent and the reward at cells given as (row, column)."""
    cells = env.batch.layout.cells.tolist()
    env.batch.positions[0] = cells.index(list(position))
    env.batch.goals[0] = cells.index(list(goal))


def position(env):
    return tuple(env.batch.layout.cells[env.batch.positions[0]].tolist())


def distances(layout, goal):
    """Steps from every free cell to `goal`, by breadth-first search."""
    steps, queue = {goal: 0}, deque([goal])
    while queue:
        cell = queue.popleft()
        for neighbour in layout.next_cells[cell].tolist():
            if neighbour not in steps:
                steps[neighbour] = steps[cell] + 1
                queue.append(neighbour)
    return np.array([steps[cell] for cell in range(len(layout.cells))])


def test_five_steps_worked_out_by_hand():
    """On 7x7, from the cell above the pillar left of the centre, into the wall, to the reward and away.

        0123456
    0   #######
    1   #  $  #     reward at (1, 3)
    2   # # # #     pillars at (2, 2), (2, 4), (4, 2), (4, 4)
    3   #  @  #     start at the centre (3, 3)
    4   # # # #
    5   #     #
    6   #######
    """
    env = MazeEnv(7, episode_length=5, reward=4.0, wall_penalty=0.25)
    first, _ = env.reset(seed=0)
    assert position(env) == (3, 3)
    place(env, (3, 3), goal=(1, 3))
    corners = [1, 0, 1, 0, 0, 0, 1, 0, 1]  # at the centre: four pillars
    beside = [0, 1, 0, 0, 0, 0, 0, 1, 0]  # at (3, 2): one above, one below
    at_the_wall = [1, 0, 1, 1, 0, 0, 1, 0, 1]  # at (3, 1): the wall left, pillars at (2, 2) and (4, 2)
    # view, 0, 1, time, reward, action
    np.testing.assert_array_equal(first, np.float32([*corners, 0, 1, 0.0, 0, 1, 0, 0, 0]))

    expected = [
        (LEFT, (3, 2), beside, 0.0),
        (LEFT, (3, 1), at_the_wall, 0.0),
        (LEFT, (3, 1), at_the_wall, -0.25),
    ]
    for step, (action, where, view, paid) in enumerate(expected, start=1):
        observation, reward, terminated, truncated, _ = env.step(action)
        one_hot = [int(action == a) for a in range(4)]
        assert (position(env), reward, terminated, truncated) == (where, paid, False, False)
        np.testing.assert_array_equal(observation, np.float32([*view, 0, 1, step / 5, paid, *one_hot]))

    place(env, (1, 2), goal=(1, 3))
    observation, reward, terminated, truncated, _ = env.step(RIGHT)
    assert (reward, terminated, truncated) == (4.0, False, False)
    row, column = position(env)
    assert (row, column) != (1, 3)
    walls = env.batch.layout.walls[row - 1 : row + 2, column - 1 : column + 2].ravel()
    np.testing.assert_array_equal(observation, np.float32([*walls, 0, 1, 4 / 5, 4, 0, 0, 0, 1]))

    place(env, (5, 1), goal=(1, 3))
    observation, reward, terminated, truncated, _ = env.step(UP)
    assert (position(env), reward, terminated, truncated) == ((4, 1), 0.0, False, True)
    np.testing.assert_array_equal(observation, np.float32([1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 1, 1.0, 0, 1, 0, 0, 0]))


@pytest.mark.parametrize(("size", "free"), [(5, 9), (7, 21), (9, 41), (13, 97), (21, 281)])
def test_the_layout_has_a_wall_around_and_pillars_but_not_at_the_centre(size, free):
    layout = MazeEnv(size).batch.layout
    expected = [
        "".join(
            "#"
            if 0 in (row, column)
            or size - 1 in (row, column)
            or (row % 2 == column % 2 == 0 and {row, column} != {size // 2})
            else " "
            for column in range(size)
        )
        for row in range(size)
    ]
    assert ["".join(" #"[int(wall)] for wall in row) for row in layout.walls] == expected
    assert len(layout.cells) == free


def test_the_ceiling_of_the_default_maze():
    layout = MazeEnv().batch.layout
    assert len(layout.cells) == 97
    table = np.stack([distances(layout, goal) for goal in range(97)])  # [goal, start]
    np.testing.assert_array_equal(table, table.T)
    goals = [goal for goal in range(97) if goal != layout.centre]
    from_centre = table[goals, layout.centre].mean()
    from_anywhere = table[goals].sum(axis=1).mean() / 96  # 96 starts: all but the goal itself
    assert (round(from_anywhere, 2), round(from_centre, 2)) == (7.58, 5.79)

    returns = []
    for goal in goals:
        paths = np.delete(table[goal], goal)
        rewards = np.zeros(201)  # expected number within so many steps, from a random start
        for steps in range(201):
            within = paths[paths <= steps]
            rewards[steps] = (1 + rewards[steps - within]).sum() / 96
        returns.append(10 * (1 + rewards[200 - table[goal, layout.centre]]))
    assert round(np.mean(returns), 1) == 269.6


def test_rewards_and_new_places_are_uniform_and_never_where_they_must_not_be():
    vec = MazeVectorEnv(2000, size=7, episode_length=12)
    vec.reset(seed=1)
    layout = vec.layout
    goals, landings = Counter(), Counter()
    for step in range(480):
        if step % 12 == 0:
            assert (vec.positions == layout.centre).all()
            goals.update(vec.goals.tolist())
        before = vec.goals.copy()
        # one step from the reward, for as many as can be: the cell beside it, and back
        side = layout.next_cells[before]  # [n, 4]
        action = np.argmax(side != before[:, None], axis=1)
        vec.positions = side[np.arange(2000), action]
        _, rewards, _, truncated, _ = vec.step(action ^ 1)  # up and down, left and right are neighbours
        assert (rewards == 10).all()
        if not truncated.any():
            assert (vec.positions != vec.goals).all()
            landings.update(((vec.positions - vec.goals) % len(layout.cells)).tolist())
    assert set(goals) == set(range(21)) - {layout.centre}
    assert set(landings) == set(range(1, 21))
    for counts in (goals, landings):
        assert is_uniform(list(counts.values()))


def test_the_reward_stays_for_the_episode():
    vec = MazeVectorEnv(64, size=5, episode_length=50)
    vec.reset(seed=0)
    rng, goals, found = np.random.default_rng(0), vec.goals.copy(), 0
    for _ in range(49):
        _, rewards, *_ = vec.step(rng.integers(4, size=64))
        found += (rewards > 0).sum()
        np.testing.assert_array_equal(vec.goals, goals)
    assert found > 100
    vec.step(np.zeros(64, int))
    assert (vec.goals != goals).any()


def test_pictures_show_walls_path_agent_and_reward():
    env = MazeEnv(7, render_mode="rgb_array")
    env.reset(seed=0)
    place(env, (3, 3), goal=(1, 1))
    env.step(LEFT)
    image = env.render()
    assert image.shape == (7 * 24, 7 * 24, 3)

    def colour(row, column):
        return tuple(image[row * 24 + 12, column * 24 + 12].tolist())

    assert colour(0, 3) == colour(2, 2) == (45, 52, 68)
    assert colour(3, 2) == (34, 92, 168)
    assert colour(1, 1) == (226, 146, 32)
    red, _, blue = colour(3, 3)  # the path, from the centre
    assert blue - red > 60
    assert colour(5, 5) == (240, 237, 229)
    assert env.text().splitlines() == [
        "#######",
        "#$    #",
        "# # # #",
        "# @.  #",
        "# # # #",
        "#     #",
        "#######",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 12}, r"size: got 12, allowed is an odd number"),
        ({"size": 3}, r"size: got 3, allowed is a whole number of at least 5"),
        ({"size": "13"}, r"size: got '13', allowed is a whole number"),
        ({"episode_length": 0}, r"episode_length: got 0, allowed is a whole number of at least 1"),
        ({"reward": -1}, r"reward: got -1, allowed is a finite number of at least 0"),
        ({"wall_penalty": float("nan")}, r"wall_penalty: got nan, allowed is a finite number of at least 0"),
        ({"sise": 9}, r"got the unknown argument 'sise', allowed are .*; did you mean size\?"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused_in_both_forms(arguments, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make("stpn/Maze-v0", **arguments)
    with pytest.raises(ValueError, match=message):
        gymnasium.make_vec("stpn/Maze-v0", 2, vectorization_mode="vector_entry_point", **arguments)
