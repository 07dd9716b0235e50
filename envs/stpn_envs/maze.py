"""A maze with an invisible reward: find it, remember the way, come back. One (`MazeEnv`) or a batch."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from stpn_envs.arguments import integer, number, refuse
from stpn_envs.task_env import TaskEnv, TaskVectorEnv

__all__ = ["MazeEnv", "MazeVectorEnv"]

_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right as (row, column)
_TIME, _REWARD, _ACTION = 11, 12, 13  # where these stand in an observation
_INPUTS = _ACTION + len(_MOVES)

_PIXELS = 24  # a cell's side
_WALL, _FLOOR, _VIEW = (45, 52, 68), (240, 237, 229), (255, 247, 214)
_PATH, _AGENT, _GOAL = (118, 160, 212), (34, 92, 168), (226, 146, 32)
_FADE_OVER = 60  # steps after which the path walked has its faintest colour


class MazeEnv(TaskEnv):
    """Find an invisible reward in a maze of pillars, again and again from random places.

    ## Description

    A grid of ``size`` x ``size`` cells with a wall around it and a pillar where row and column are both even; the
    centre is always free. With the default size of 13 that leaves 97 free cells. One of them holds the reward, which
    cannot be seen and stays where it is for the episode. Stepping on it pays and moves the agent to a random cell, from
    where the reward has to be found again: an agent that remembers where it is, and works out where itself is from the
    few walls it sees, collects many times what a wanderer does.

    A perfectly informed agent walks 5.79 steps to the first reward and 7.58 to each further one on average; with the
    default arguments its return is 269.6.

    ## Observation space

    ``Box(low, high, (17,), float32)``, 0 to 1 but for the reward:

    | index | meaning |
    |---|---|
    | 0-8 | the 3x3 cells around the agent, row by row: 1 wall, 0 free |
    | 9 | 0 |
    | 10 | 1 (bias) |
    | 11 | steps since the start of the episode / ``episode_length`` |
    | 12 | reward of the step before, 0 at first |
    | 13-16 | action of the step before, one-hot; action 0 at first |

    ## Action space

    | action | 0 | 1 | 2 | 3 |
    |---|---|---|---|---|
    | meaning | up | down | left | right |

    Into a wall, the agent stays where it is.

    ## Rewards

    ``reward`` for stepping on the reward's cell; ``-wall_penalty`` for walking into a wall; otherwise 0.

    ## Start of an episode

    The agent is at the centre. The reward's cell is drawn uniformly from the free cells other than the centre. After a
    reward the agent's new cell is drawn uniformly from the free cells other than the reward's, and the observation is
    the one from there.

    ## End of an episode

    Truncated after ``episode_length`` steps. Stepping on without a reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``size`` | 13 | cells along a side, walls included; odd, 5 or more |
    | ``episode_length`` | 200 | steps until truncation, 1 or more |
    | ``reward`` | 10.0 | for reaching the reward's cell, 0 or more |
    | ``wall_penalty`` | 0.0 | taken off for walking into a wall, 0 or more |
    | ``render_mode`` | None | ``"rgb_array"``: `render` returns a picture; ``"ansi"``: a text; ``"human"``: prints it |

    Pictures show the walls, the cells in view, the path walked (fading, broken where the agent was moved), the agent
    (blue) and the reward (orange); texts the same as ``#``, ``.``, ``@`` and ``$``.

    ## Registered ids

    - ``stpn/Maze-v0``: size 13, 200 steps
    - ``stpn/MazeSmall-v0``: size 9, 100 steps
    - ``stpn/MazeLarge-v0``: size 21, 500 steps

    ## Reference

    Miconi, Rawal, Clune, Stanley: Backpropamine: training self-modifying neural networks with differentiable
    neuromodulated plasticity, ICLR 2019 (arXiv:2002.10585), task 2; Garcia Rodriguez, Guo, Moraitis: Short-Term
    Plasticity Neurons Learning to Learn and Forget, ICML 2022 (arXiv:2206.14048), with the settings that are the
    defaults here.

    ## Version history

    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi", "human"], "render_fps": 10}
    batch: MazeVectorEnv

    def __init__(
        self,
        size: int = 13,
        *,
        episode_length: int = 200,
        reward: float = 10.0,
        wall_penalty: float = 0.0,
        render_mode: str | None = None,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        batch = MazeVectorEnv(1, size=size, episode_length=episode_length, reward=reward, wall_penalty=wall_penalty)
        super().__init__(batch, render_mode)
        self._walks: list[list[int]] = []  # cells walked since the start, a new list after each reward

    def render(self) -> Any:
        """Return the state of the episode: uint8 ``[24 size, 24 size, 3]`` in mode "rgb_array", a text in "ansi".

        None in mode "human", which prints the text after every step, and without a render mode (with a warning).

        Raises:
            gymnasium.error.ResetNeeded: There was no reset yet.
        """
        if self.render_mode == "rgb_array" and self.batch.started:
            return self._picture()
        return super().render()

    def text(self) -> str:
        """Return the maze, a character a cell."""
        layout = self.batch.layout
        characters = np.where(layout.walls, "#", " ")
        for cell in [cell for walk in self._walks for cell in walk]:
            characters[tuple(layout.cells[cell])] = "."
        characters[tuple(layout.cells[self.batch.goals[0]])] = "$"
        characters[tuple(layout.cells[self.batch.positions[0]])] = "@"
        return "\n".join("".join(row) for row in characters)

    def _show(self, action: np.ndarray | None, reward: float) -> None:
        if self.render_mode is not None:
            position, goal = int(self.batch.positions[0]), int(self.batch.goals[0])
            if action is None:
                self._walks = [[position]]
            elif reward > 0:
                self._walks[-1].append(goal)
                self._walks.append([position])
            else:
                self._walks[-1].append(position)
        super()._show(action, reward)

    def _picture(self) -> np.ndarray:
        layout = self.batch.layout
        row, column = layout.cells[self.batch.positions[0]]
        colours = np.where(layout.walls[..., None], _WALL, _FLOOR)
        view = colours[row - 1 : row + 2, column - 1 : column + 2]
        view[~layout.walls[row - 1 : row + 2, column - 1 : column + 2]] = _VIEW
        image = colours.repeat(_PIXELS, axis=0).repeat(_PIXELS, axis=1).astype(float)

        path, age = np.zeros((*image.shape[:2], 1)), sum(map(len, self._walks))
        for walk in self._walks:
            for start, end in zip(walk, walk[1:], strict=False):
                age -= 1
                _draw(path, 0.25 + 0.75 * max(0.0, 1 - age / _FADE_OVER), layout.cells[start], layout.cells[end], 0.11)
            age -= 1
        image += path * (np.array(_PATH) - image)
        goal, agent = layout.cells[self.batch.goals[0]], layout.cells[self.batch.positions[0]]
        discs = [(goal, 0.34, _GOAL), (goal, 0.2, _FLOOR), (goal, 0.1, _GOAL), (agent, 0.32, _AGENT)]
        for centre, radius, colour in discs:
            disc = _draw(np.zeros_like(path), 1.0, centre, centre, radius)
            image += disc * (np.array(colour) - image)
        return image.round().astype(np.uint8)


def _draw(canvas: np.ndarray, opacity: float, start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
    """Raise `canvas` ``[height, width, 1]`` to `opacity` near the line between two cells' centres, with smooth edges.

    The line goes along an axis; a point is a disc. `radius` is in cells. Returns `canvas`.
    """
    first, last = np.minimum(start, end), np.maximum(start, end)
    window = tuple(slice(a * _PIXELS, (b + 1) * _PIXELS) for a, b in zip(first, last, strict=True))
    offsets = []
    for axis in (0, 1):
        place = (np.arange(window[axis].start, window[axis].stop) + 0.5) / _PIXELS - 0.5
        offsets.append(place - np.clip(place, first[axis], last[axis]))
    distance = np.hypot(offsets[0][:, None], offsets[1][None, :])
    inside = np.clip((radius - distance) * _PIXELS + 0.5, 0, 1)[..., None]
    canvas[window] = np.maximum(canvas[window], opacity * inside)
    return canvas


class MazeVectorEnv(TaskVectorEnv):
    """A batch of `MazeEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `MazeEnv` with the same arguments sees after
    ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1) and
    ``autoreset_mode`` (``"SameStep"`` or ``"NextStep"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        size: int = 13,
        episode_length: int = 200,
        reward: float = 10.0,
        wall_penalty: float = 0.0,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        if integer("size", size, minimum=5) % 2 == 0:
            raise ValueError(f"size: got {size!r}, allowed is an odd number, so that there is a centre")
        self._length = integer("episode_length", episode_length, minimum=1)
        self._reward = number("reward", reward, minimum=0)
        self._wall_penalty = number("wall_penalty", wall_penalty, minimum=0)
        low, high = np.zeros(_INPUTS, np.float32), np.ones(_INPUTS, np.float32)
        low[_REWARD], high[_REWARD] = -self._wall_penalty, self._reward
        space = spaces.Box(low, high, dtype=np.float32)
        super().__init__(num_envs, space, action_space=spaces.Discrete(len(_MOVES)), autoreset_mode=autoreset_mode)
        self.layout = _layout(int(size))
        self.positions = np.zeros(self.num_envs, np.int64)  # free cells, numbered as in the layout
        self.goals = np.zeros(self.num_envs, np.int64)
        self.steps = np.zeros(self.num_envs, np.int64)
        self._actions = np.zeros(self.num_envs, np.int64)
        self._rewards = np.zeros(self.num_envs)

    def new_task(self, rows: np.ndarray) -> None:
        """Put the reward anywhere but at the centre."""
        self.goals[rows] = self._random_cells(rows, other_than=self.layout.centre)

    def begin(self, rows: np.ndarray) -> None:
        """Put the agent at the centre."""
        self.positions[rows] = self.layout.centre
        self.steps[rows] = 0
        self._actions[rows] = 0
        self._rewards[rows] = 0

    def _random_cells(self, rows: np.ndarray, other_than: int | np.ndarray) -> np.ndarray:
        cells = self.streams.integers(rows, len(self.layout.cells) - 1)
        return cells + (cells >= other_than)

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Move the agents, and those that found the reward once more."""
        positions = self.layout.next_cells[self.positions, actions]
        found = positions == self.goals
        rewards = found * self._reward
        if self._wall_penalty:
            rewards -= (positions == self.positions) * self._wall_penalty
        if found.any():
            rows = np.flatnonzero(found)
            positions[rows] = self._random_cells(rows, other_than=self.goals[rows])
        self.positions = positions
        self.steps += 1
        self._actions[:] = actions
        self._rewards[:] = rewards
        return rewards, np.zeros(self.num_envs, bool), self.steps == self._length

    def observe(self, rows: np.ndarray) -> np.ndarray:
        """Return what is seen from where the agents are."""
        observations = self.layout.observations[self.positions[rows], self._actions[rows]]
        observations[:, _TIME] = self.steps[rows] / self._length
        observations[:, _REWARD] = self._rewards[rows]
        return observations


class _Layout(NamedTuple):
    """The maze of one size; its free cells are numbered row by row."""

    walls: np.ndarray  # [size, size] bool
    cells: np.ndarray  # [cells, 2] row and column of each free cell
    centre: int
    next_cells: np.ndarray  # [cells, 4] where each action leads
    observations: np.ndarray  # [cells, 4, 17] float32: what is seen there after each action, time and reward left out


@functools.cache
def _layout(size: int) -> _Layout:
    walls = np.zeros((size, size), bool)
    walls[[0, -1], :] = walls[:, [0, -1]] = True
    walls[::2, ::2] = True
    walls[size // 2, size // 2] = False
    cells = np.argwhere(~walls)
    number = np.full(walls.shape, -1)
    number[tuple(cells.T)] = np.arange(len(cells))

    targets = cells[:, None] + np.array(_MOVES)  # [cells, 4, 2]
    next_cells = number[targets[..., 0], targets[..., 1]]
    next_cells = np.where(next_cells < 0, np.arange(len(cells))[:, None], next_cells)

    observations = np.zeros((len(cells), len(_MOVES), _INPUTS), np.float32)
    for cell, (row, column) in enumerate(cells):
        observations[cell, :, :9] = walls[row - 1 : row + 2, column - 1 : column + 2].ravel()
    observations[..., 10] = 1
    observations[..., _ACTION:] = np.eye(len(_MOVES))
    for table in (walls, cells, next_cells, observations):
        table.flags.writeable = False  # shared by all mazes of this size
    return _Layout(walls, cells, int(number[size // 2, size // 2]), next_cells, observations)
