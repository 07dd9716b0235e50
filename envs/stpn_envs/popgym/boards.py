"""POPGym's games on a board: Battleship, MineSweeper, Concentration. One (`...Env`) or a batch (`...VectorEnv`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from stpn_envs.arguments import choice, integer, refuse
from stpn_envs.popgym.base import PopgymEnv, PopgymVectorEnv
from stpn_envs.popgym.cards import CARD_KINDS, CardsVectorEnv

__all__ = [
    "BattleshipEnv",
    "BattleshipVectorEnv",
    "ConcentrationEnv",
    "ConcentrationVectorEnv",
    "MineSweeperEnv",
    "MineSweeperVectorEnv",
]


class BattleshipEnv(PopgymEnv):
    """Find the ships on a board that is never seen.

    ## Description

    Ships lie in rows or columns and do not overlap. A shot hits or misses; which cells were shot at has to be
    remembered. A second shot at a cell is a miss.

    POPGym's Battleship: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(0, 1, (n,), float32)``, one-hot each: whether the last shot hit (2); with ``previous_action`` also the
    action of the step before (row and column, 0 at first) and whether this is the first step (two entries), as POPGym's
    ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    ``MultiDiscrete([size, size])``: row and column of a cell.

    ## Rewards

    1 / (cells with ships) for a hit, -1 / (cells without) for a miss: a return of 1 without a miss, 0 when every cell
    is shot at once.

    ## Start of an episode

    Ships at random places; nothing was hit.

    ## End of an episode

    Terminated when every cell with a ship is hit, truncated after as many steps as there are cells. Stepping on without
    a reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``size`` | 10 | cells of a row and of a column, 2 or more |
    | ``ship_sizes`` | (2, 3, 3, 4) | cells of each ship, 1 to ``size``; refused if one might not fit, or none is free |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/BattleshipEasy-v0``: 8 x 8 cells
    - ``stpn/BattleshipMedium-v0``: 10 x 10 cells
    - ``stpn/BattleshipHard-v0``: 12 x 12 cells

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: BattleshipVectorEnv


class BattleshipVectorEnv(PopgymVectorEnv):
    """A batch of `BattleshipEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `BattleshipEnv` with the same
    arguments sees after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1)
    and ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        size: int = 10,
        ship_sizes: Sequence[int] = (2, 3, 3, 4),
        previous_action: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        cells = integer("size", size, minimum=2) ** 2
        self._ship_sizes = _fitting(ship_sizes, size)
        self._ship_cells = sum(self._ship_sizes)
        board = spaces.MultiDiscrete([size, size])
        super().__init__(num_envs, spaces.Discrete(2), board, previous_action, autoreset_mode, cells)
        self.ships = np.zeros((self.num_envs, size, size), bool)
        self.shot_at = np.zeros_like(self.ships)
        self.hits = np.zeros(self.num_envs, np.int64)

    def deal(self, rows: np.ndarray) -> None:
        """Place the ships."""
        self.ships[rows] = False
        self.shot_at[rows] = False
        self.hits[rows] = 0
        self.shown[rows] = 0
        for row in rows.tolist():
            taken: set[tuple[int, int]] = set()
            for length in self._ship_sizes:
                taken.update(_place(length, self.ships.shape[1], taken, self.generators[row]))
            self.ships[row][tuple(zip(*taken, strict=True))] = True

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shoot."""
        cells = (self.rows, actions[:, 0], actions[:, 1])
        hit = self.ships[cells] & ~self.shot_at[cells]
        self.shot_at[cells] = True
        self.hits += hit
        self.shown[:, 0] = hit
        rewards = np.where(hit, 1 / self._ship_cells, -1 / (self.limit - self._ship_cells))
        return rewards, self.hits == self._ship_cells


BattleshipEnv.vector = BattleshipVectorEnv


def _place(
    length: int, size: int, taken: set[tuple[int, int]], generator: np.random.Generator
) -> list[tuple[int, int]]:
    """Draw one end of a ship and a direction until it lies on free cells, and return its cells."""
    while True:
        end = generator.integers(size, size=2).tolist()
        along, backwards = generator.integers(2, size=2).tolist()
        first = end[along] - (length - 1 if backwards else 0)
        if 0 <= first <= size - length:
            line = range(first, first + length)
            cells = [(end[0], place) if along else (place, end[1]) for place in line]
            if taken.isdisjoint(cells):
                return cells


def _fitting(ship_sizes: Sequence[int], size: int) -> list[int]:
    """Return the sizes of ships if there is a place for each wherever those before it lie, and one to miss them."""
    if not isinstance(ship_sizes, (list, tuple)) or not ship_sizes:
        raise ValueError(f"ship_sizes: got {ship_sizes!r}, allowed is a list of whole numbers")
    fitting: list[int] = []
    for i, ship in enumerate(ship_sizes):
        length = integer(f"ship_sizes[{i}]", ship, minimum=1, maximum=size)
        # of the 2 size (size - length + 1) places, a cell with a ship takes at most 2 length
        if sum(fitting) * length >= size * (size - length + 1):
            raise ValueError(f"ship_sizes: got {ship_sizes!r}, allowed are ships that always fit into size {size}")
        fitting.append(length)
    if sum(fitting) == size**2:  # a miss costs a share of the cells without
        raise ValueError(f"ship_sizes: got {ship_sizes!r}, allowed are ships that leave a cell of size {size} free")
    return fitting


class MineSweeperEnv(PopgymEnv):
    """Open the cells without a mine on a board that is never seen.

    ## Description

    An opened cell tells how many mines are on it and its neighbours. Which cells were opened, and what they told, has
    to be remembered.

    POPGym's MineSweeper: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(0, 1, (n,), float32)``, one-hot each: mines on and around the last cell (up to 9); with ``previous_action``
    also the action of the step before (row and column, 0 at first) and whether this is the first step (two entries), as
    POPGym's ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    ``MultiDiscrete([size, size])``: row and column of a cell.

    ## Rewards

    With n cells without a mine: 1 / n for one that was closed, -1 / (2 (n - 2)) for one that was open, -0.5 - 1 / n for
    a mine.

    ## Start of an episode

    Mines at random places; all cells are closed, and 0 is shown.

    ## End of an episode

    Terminated by a mine and when all cells without are open, truncated after n steps. Stepping on without a reset
    raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``size`` | 4 | cells of a row and of a column, 2 or more |
    | ``num_mines`` | 2 | mines, 1 or more; 3 cells at least have none |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/MineSweeperEasy-v0``: 4 x 4 cells, 2 mines
    - ``stpn/MineSweeperMedium-v0``: 6 x 6 cells, 6 mines
    - ``stpn/MineSweeperHard-v0``: 8 x 8 cells, 10 mines

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: MineSweeperVectorEnv


class MineSweeperVectorEnv(PopgymVectorEnv):
    """A batch of `MineSweeperEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `MineSweeperEnv` with the same
    arguments sees after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1)
    and ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        size: int = 4,
        num_mines: int = 2,
        previous_action: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        cells = integer("size", size, minimum=2) ** 2
        self._num_mines = integer("num_mines", num_mines, minimum=1, maximum=cells - 3)
        shown: spaces.Discrete = spaces.Discrete(min(num_mines, 9) + 1)
        board = spaces.MultiDiscrete([size, size])
        super().__init__(num_envs, shown, board, previous_action, autoreset_mode, cells - num_mines)
        self._side = size
        places = np.stack(np.divmod(np.arange(cells), size))
        self._near = (np.abs(places[:, :, None] - places[:, None]) <= 1).all(axis=0).astype(np.int64)
        self.mines = np.zeros((self.num_envs, cells), bool)
        self.opened = np.zeros_like(self.mines)
        self.counts = np.zeros((self.num_envs, cells), np.int64)

    def deal(self, rows: np.ndarray) -> None:
        """Lay the mines."""
        self.mines[rows] = False
        self.opened[rows] = False
        self.shown[rows] = 0
        for row in rows.tolist():
            self.mines[row, self.generators[row].choice(self.mines.shape[1], self._num_mines, replace=False)] = True
        self.counts[rows] = self.mines[rows] @ self._near

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Open the cells; what terminates an episode does not truncate it, too."""
        rewards, terminations, truncations = super().advance(actions)
        return rewards, terminations, truncations & ~terminations

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Open the cells."""
        cells = (self.rows, actions[:, 0] * self._side + actions[:, 1])
        mine, again = self.mines[cells], self.opened[cells]
        self.opened[cells] = ~mine
        self.shown[:, 0] = self.counts[cells]
        per_cell = 1 / self.limit
        rewards = np.select([mine, again], [-0.5 - per_cell, -0.5 / (self.limit - 2)], per_cell)
        return rewards, mine | np.all(self.opened | self.mines, axis=1)


MineSweeperEnv.vector = MineSweeperVectorEnv


class ConcentrationEnv(PopgymEnv):
    """Turn over pairs of cards of one kind that lie face down.

    ## Description

    All cards lie face down. One is turned over a step; when two are, they stay if they are of one kind, and else are
    turned back. Where which card lies has to be remembered.

    POPGym's Concentration: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(0, 1, (n,), float32)``, one-hot each: for every place, the kind of its card or, the last value, that it is
    face down; with ``previous_action`` also the action of the step before (0 at first) and whether this is the first
    step (two entries), as POPGym's ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    ``Discrete(cards)``: the place whose card is turned over.

    ## Rewards

    2 / cards for a pair. Where a turn makes none, -1 / (steps of an episode) for each of its cards, in its last step.
    Turning over a card that lies open ends the turn.

    ## Start of an episode

    Shuffled cards, face down.

    ## End of an episode

    Terminated when all cards lie open, truncated after 2 n - n / (2 n - 1) steps for n cards, rounded up. Stepping on
    without a reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``num_decks`` | 1 | decks of 52 cards that are shuffled together, 1 or more |
    | ``deck_type`` | ``"ranks"`` | kinds are ``"colors"`` (2) or ``"ranks"`` (13) |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/ConcentrationEasy-v0``: 1 deck, colors
    - ``stpn/ConcentrationMedium-v0``: 2 decks, colors
    - ``stpn/ConcentrationHard-v0``: 1 deck, ranks

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: ConcentrationVectorEnv


class ConcentrationVectorEnv(CardsVectorEnv):
    """A batch of `ConcentrationEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `ConcentrationEnv` with the same
    arguments sees after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1)
    and ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_decks: int = 1,
        deck_type: str = "ranks",
        previous_action: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        cards = 52 * integer("num_decks", num_decks, minimum=1)
        self.feature, self.num_actions = choice("deck_type", deck_type, ("colors", "ranks")), cards
        self._face_down = CARD_KINDS[deck_type]
        self.observation_sizes = (self._face_down + 1,) * cards
        super().__init__(num_envs, num_decks=num_decks, previous_action=previous_action, autoreset_mode=autoreset_mode)
        self.limit = math.ceil(2 * cards - cards / (2 * cards - 1))
        self.open = np.zeros((self.num_envs, cards), bool)
        self.first = np.full(self.num_envs, -1)  # the place of the turn's first card; -1: none yet

    def deal(self, rows: np.ndarray) -> None:
        """Lay out the cards."""
        self.cards[rows] = self.shuffled(rows)[:, ::-1]
        self.open[rows] = False
        self.first[rows] = -1
        self.shown[rows] = self._face_down

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn cards over."""
        kinds, first = self.cards[self.rows, actions], self.first.copy()
        first_kinds = self.cards[self.rows, first]
        second, was_open = first >= 0, self.open[self.rows, actions]
        pair = second & ~was_open & (kinds == first_kinds) & (actions != first)
        missed = was_open | (second & ~pair)
        self.shown[:] = np.where(self.open, self.cards, self._face_down)
        self.shown[self.rows[second], first[second]] = first_kinds[second]
        self.shown[self.rows, actions] = kinds
        self.open[self.rows[pair], first[pair]] = True
        self.open[self.rows[pair], actions[pair]] = True
        self.first = np.where(pair | missed, -1, actions)
        rewards = pair * (2 / self.num_cards) - missed * (1 + second) * (1 / self.limit)
        return rewards, np.all(self.open, axis=1)


ConcentrationEnv.vector = ConcentrationVectorEnv
