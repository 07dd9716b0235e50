"""POPGym's games with cards: repeat, recite, count, guess the next. One (`...Env`) or a batch (`...VectorEnv`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from stpn_envs.arguments import choice, integer, refuse
from stpn_envs.popgym.base import PopgymEnv, PopgymVectorEnv

__all__ = [
    "AutoencodeEnv",
    "AutoencodeVectorEnv",
    "CountRecallEnv",
    "CountRecallVectorEnv",
    "HigherLowerEnv",
    "HigherLowerVectorEnv",
    "RepeatFirstEnv",
    "RepeatFirstVectorEnv",
    "RepeatPreviousEnv",
    "RepeatPreviousVectorEnv",
]

_DECK = 52
# cards of a deck in its order before it is shuffled: four of a rank behind each other, suits and colours in turn
_FEATURES = {"ranks": np.arange(_DECK) // 4, "suits": np.arange(_DECK) % 4, "colors": np.arange(_DECK) % 2}
CARD_KINDS = {"ranks": 13, "suits": 4, "colors": 2}


class CardsVectorEnv(PopgymVectorEnv):
    """A batch of games with shuffled decks of which one feature matters."""

    feature = "suits"
    observation_sizes: tuple[int, ...] = (4,)
    num_actions = 4

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_decks: int = 1,
        previous_action: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        action: spaces.Discrete = spaces.Discrete(self.num_actions)
        shown = spaces.MultiDiscrete(list(self.observation_sizes))
        super().__init__(num_envs, shown, action, previous_action, autoreset_mode)
        self._feature = np.tile(_FEATURES[self.feature], integer("num_decks", num_decks, minimum=1))
        self.num_cards = len(self._feature)
        self.cards = np.zeros((self.num_envs, self.num_cards), np.int64)

    def deal(self, rows: np.ndarray) -> None:
        """Shuffle, and show the first card."""
        self.cards[rows] = self.shuffled(rows)
        self.shown[rows, 0] = self.cards[rows, 0]

    def shuffled(self, rows: np.ndarray) -> np.ndarray:
        """Return the feature of shuffled cards in the order they are dealt: from the last one, ``[n, num_cards]``."""
        cards = np.empty((len(rows), self.num_cards), np.int64)
        cards[:] = np.arange(self.num_cards)
        for order, row in zip(cards, rows.tolist(), strict=True):
            self.generators[row].shuffle(order)
        return self._feature[cards[:, ::-1]]


class RepeatFirstEnv(PopgymEnv):
    """Say at every step which suit the first card had.

    ## Description

    A card is shown a step; only its suit matters. The right action is always the suit of the episode's first card.

    POPGym's RepeatFirst: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(0, 1, (n,), float32)``, one-hot each: the suit (4); with ``previous_action`` also the action of the step
    before (0 at first) and whether this is the first step (two entries), as POPGym's
    ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    ``Discrete(4)``: a suit.

    ## Rewards

    1 / (cards - 1) for the first card's suit, else as much less than 0: returns are -1 to 1.

    ## Start of an episode

    The first of the shuffled cards.

    ## End of an episode

    Terminated when the last card is shown, after cards - 1 steps. Stepping on without a reset raises
    `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``num_decks`` | 1 | decks of 52 cards that are shuffled together, 1 or more |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/RepeatFirstEasy-v0``: 1 deck
    - ``stpn/RepeatFirstMedium-v0``: 8 decks
    - ``stpn/RepeatFirstHard-v0``: 16 decks

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: RepeatFirstVectorEnv


class RepeatFirstVectorEnv(CardsVectorEnv):
    """A batch of `RepeatFirstEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `RepeatFirstEnv` with the same arguments sees
    after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1) and
    ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Judge the suit, and show the next card."""
        self.shown[:, 0] = self.cards[self.rows, np.minimum(self.steps, self.num_cards - 1)]
        rewards = np.where(actions == self.cards[:, 0], 1.0, -1.0) * (1 / (self.num_cards - 1))
        return rewards, self.steps == self.num_cards - 1


RepeatFirstEnv.vector = RepeatFirstVectorEnv


class RepeatPreviousEnv(PopgymEnv):
    """Say at every step which suit the card k - 1 steps before had.

    ## Description

    A card is shown a step; only its suit matters. The right action is the suit of the k-th last card shown, the one
    on show counted: with k = 1 that one itself.

    POPGym's RepeatPrevious: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(0, 1, (n,), float32)``, one-hot each: the suit (4); with ``previous_action`` also the action of the step
    before (0 at first) and whether this is the first step (two entries), as POPGym's
    ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    ``Discrete(4)``: a suit.

    ## Rewards

    0 until k cards were shown; then 1 / (cards - k) for the right suit, else as much less than 0.

    ## Start of an episode

    The first of the shuffled cards.

    ## End of an episode

    Terminated when the last card is shown, after cards - 1 steps. Stepping on without a reset raises
    `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``num_decks`` | 1 | decks of 52 cards that are shuffled together, 1 or more |
    | ``k`` | 4 | which card back, 1 to cards - 1 |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/RepeatPreviousEasy-v0``: 1 deck, k = 4
    - ``stpn/RepeatPreviousMedium-v0``: 2 decks, k = 32
    - ``stpn/RepeatPreviousHard-v0``: 3 decks, k = 64

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: RepeatPreviousVectorEnv


class RepeatPreviousVectorEnv(CardsVectorEnv):
    """A batch of `RepeatPreviousEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `RepeatPreviousEnv` with the same arguments sees
    after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1) and
    ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_decks: int = 1,
        k: int = 4,
        previous_action: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        super().__init__(num_envs, num_decks=num_decks, previous_action=previous_action, autoreset_mode=autoreset_mode)
        self._k = integer("k", k, minimum=1, maximum=self.num_cards - 1)

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Judge the suit, and show the next card."""
        back, last = self.steps - self._k, self.num_cards - 1
        right = actions == self.cards[self.rows, np.clip(back, 0, last)]
        rewards = np.where(right, 1.0, -1.0) * (back >= 0) * (1 / (self.num_cards - self._k))
        self.shown[:, 0] = self.cards[self.rows, np.minimum(self.steps, last)]
        return rewards, self.steps == last


RepeatPreviousEnv.vector = RepeatPreviousVectorEnv


class AutoencodeEnv(PopgymEnv):
    """Watch all cards, then recite their suits from the last to the first.

    ## Description

    First all cards are shown, one a step; only their suits matter, and actions do not. Then nothing is shown, and the
    right actions are the suits in reverse order.

    POPGym's Autoencode: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(0, 1, (n,), float32)``, one-hot each: 0 for reciting or 1 for watching (2), and the suit (4), the first one
    while reciting; with ``previous_action`` also the action of the step before (0 at first) and whether this is the
    first step (two entries), as POPGym's ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    ``Discrete(4)``: a suit.

    ## Rewards

    0 while watching; then 1 / cards for the right suit, else as much less than 0: returns are -1 to 1.

    ## Start of an episode

    The first of the shuffled cards.

    ## End of an episode

    Terminated with the last card recited, after 2 cards - 1 steps. Stepping on without a reset raises
    `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``num_decks`` | 1 | decks of 52 cards that are shuffled together, 1 or more |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/AutoencodeEasy-v0``: 1 deck
    - ``stpn/AutoencodeMedium-v0``: 2 decks
    - ``stpn/AutoencodeHard-v0``: 3 decks

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: AutoencodeVectorEnv


class AutoencodeVectorEnv(CardsVectorEnv):
    """A batch of `AutoencodeEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what an `AutoencodeEnv` with the same arguments sees
    after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1) and
    ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    observation_sizes = (2, 4)

    def deal(self, rows: np.ndarray) -> None:
        """Shuffle, and show the first card."""
        self.cards[rows] = self.shuffled(rows)
        self.shown[rows, 0] = 1
        self.shown[rows, 1] = self.cards[rows, 0]

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Show the next card or judge the suit."""
        count = self.num_cards
        recited = self.steps - count  # cards that were recited before this step, or less than 0
        reciting = recited >= 0
        right = actions == self.cards[self.rows, np.clip(count - 1 - recited, 0, count - 1)]
        rewards = np.where(right, 1.0, -1.0) * reciting * (1 / count)
        self.shown[:, 0] = self.steps < count - 1  # the last card is shown with the sign to recite
        self.shown[:, 1] = np.where(reciting, 0, self.cards[self.rows, np.minimum(self.steps, count - 1)])
        return rewards, self.steps == 2 * count - 1


AutoencodeEnv.vector = AutoencodeVectorEnv


class CountRecallEnv(PopgymEnv):
    """Say how often a card of the kind asked for was shown.

    ## Description

    At every step a card is shown, and a kind of card is asked for. The right action is how many cards of the kind were
    shown until then, the one on show counted.

    POPGym's CountRecall: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(0, 1, (n,), float32)``, one-hot each: the card's kind, and the kind asked for; with ``previous_action`` also
    the action of the step before (0 at first) and whether this is the first step (two entries), as POPGym's
    ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    ``Discrete(cards / kinds + 1)``: a count.

    ## Rewards

    1 / (cards - 1) for the right count, else as much less than 0: returns are -1 to 1.

    ## Start of an episode

    The first of the shuffled cards, and the first of a second shuffle, the kinds asked for.

    ## End of an episode

    Terminated when the last card is shown, after cards - 1 steps. Stepping on without a reset raises
    `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``num_decks`` | 1 | decks of 52 cards that are shuffled together, 1 or more |
    | ``deck_type`` | ``"colors"`` | kinds are ``"colors"`` (2), ``"suits"`` (4) or ``"ranks"`` (13) |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/CountRecallEasy-v0``: 1 deck, colors
    - ``stpn/CountRecallMedium-v0``: 2 decks, suits
    - ``stpn/CountRecallHard-v0``: 4 decks, ranks

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: CountRecallVectorEnv


class CountRecallVectorEnv(CardsVectorEnv):
    """A batch of `CountRecallEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `CountRecallEnv` with the same arguments sees
    after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1) and
    ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_decks: int = 1,
        deck_type: str = "colors",
        previous_action: bool = True,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        kinds = CARD_KINDS[choice("deck_type", deck_type, CARD_KINDS)]
        self.feature, self.observation_sizes = deck_type, (kinds, kinds)
        self.num_actions = _DECK * integer("num_decks", num_decks, minimum=1) // kinds + 1
        super().__init__(num_envs, num_decks=num_decks, previous_action=previous_action, autoreset_mode=autoreset_mode)
        self.queries = np.zeros_like(self.cards)
        self.counts = np.zeros((self.num_envs, kinds), np.int64)

    def deal(self, rows: np.ndarray) -> None:
        """Shuffle the cards and the kinds to ask for, and show the first of both."""
        self.cards[rows] = self.shuffled(rows)
        self.queries[rows] = self.shuffled(rows)
        self.counts[rows] = 0
        self._show_next(rows)

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Judge the count, and show the next card."""
        right = actions == self.counts[self.rows, self.shown[:, 1]]
        self._show_next(self.rows)
        return np.where(right, 1.0, -1.0) * (1 / (self.num_cards - 1)), self.steps == self.num_cards - 1

    def _show_next(self, rows: np.ndarray) -> None:
        steps = np.minimum(self.steps[rows], self.num_cards - 1)
        self.shown[rows, 0] = self.cards[rows, steps]
        self.shown[rows, 1] = self.queries[rows, steps]
        self.counts[rows, self.shown[rows, 0]] += 1


CountRecallEnv.vector = CountRecallVectorEnv


class HigherLowerEnv(PopgymEnv):
    """Guess whether the next card is higher or lower.

    ## Description

    A card is shown a step; only its rank matters. Who counts the cards that were shown guesses better.

    POPGym's HigherLower: with the same seed the same episodes, step for step.

    ## Observation space

    ``Box(0, 1, (n,), float32)``, one-hot each: the rank (13); with ``previous_action`` also the action of the step
    before (0 at first) and whether this is the first step (two entries), as POPGym's
    ``Flatten(Antialias(PreviousAction(env)))`` gives them.

    ## Action space

    | action | meaning |
    |---|---|
    | 0 | higher |
    | 1 | lower |

    ## Rewards

    1 / cards for a right guess, as much less than 0 for a wrong one, 0 where the rank is the same.

    ## Start of an episode

    The first of the shuffled cards.

    ## End of an episode

    Terminated when the last card is shown, after cards - 1 steps. Stepping on without a reset raises
    `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``num_decks`` | 1 | decks of 52 cards that are shuffled together, 1 or more |
    | ``previous_action`` | True | the previous action and a first-step flag are among the observations |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/HigherLowerEasy-v0``: 1 deck
    - ``stpn/HigherLowerMedium-v0``: 2 decks
    - ``stpn/HigherLowerHard-v0``: 3 decks

    ## Reference

    Morad, Kortvelesy, Bettini, Liwicki, Prorok: POPGym: Benchmarking Partially Observable Reinforcement Learning, ICLR
    2023.

    ## Version history

    - v0: first version.
    """

    batch: HigherLowerVectorEnv


class HigherLowerVectorEnv(CardsVectorEnv):
    """A batch of `HigherLowerEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `HigherLowerEnv` with the same arguments sees
    after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1) and
    ``autoreset_mode`` (``"SameStep"``, ``"NextStep"`` or ``"Disabled"``). Returned arrays belong to the caller.
    """

    feature = "ranks"
    observation_sizes = (13,)
    num_actions = 2

    def play(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Judge the guess, and show the next card."""
        drawn = self.cards[self.rows, np.minimum(self.steps, self.num_cards - 1)]
        rises = np.sign(drawn - self.shown[:, 0])
        self.shown[:, 0] = drawn
        return rises * np.where(actions == 0, 1.0, -1.0) * (1 / self.num_cards), self.steps == self.num_cards - 1


HigherLowerEnv.vector = HigherLowerVectorEnv
