"""Associative retrieval: which digit stood behind this letter? One (`AssociativeRetrievalEnv`) or a batch."""

from __future__ import annotations

import functools
import string
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from stpn_envs.arguments import integer, refuse
from stpn_envs.sampling import Draw, distinct
from stpn_envs.task_env import TaskEnv, TaskVectorEnv

__all__ = ["VOCABULARY", "AssociativeRetrievalEnv", "AssociativeRetrievalVectorEnv", "decode", "sample_sequences"]

VOCABULARY = string.ascii_lowercase + string.digits + "?"
"""The 37 characters in the order of their tokens: a-z are 0-25, 0-9 are 26-35, ? is 36."""

_FIRST_DIGIT, _QUESTION = 26, 36


def decode(tokens: np.ndarray) -> str:
    """Return the text of the tokens of one sequence, e.g. ``"a1b2c3??b"``."""
    return "".join(VOCABULARY[token] for token in tokens)


def sample_sequences(rng: np.random.Generator, num_sequences: int, num_pairs: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Draw sequences such as ``a1b2c3??b`` and their answers, ``2`` there (Ba et al. 2016, arXiv:1610.06258).

    Letters are drawn without replacement, digits with, and the query is any of the letters.

    Args:
        rng: Source of the random numbers.
        num_sequences: Number of sequences, 0 or more.
        num_pairs: Pairs of letter and digit in a sequence, 1 to 26.

    Returns:
        The tokens (places in `VOCABULARY`), uint8 ``[num_sequences, 2 * num_pairs + 3]``, and the answers' tokens,
        uint8 ``[num_sequences]``.

    Raises:
        ValueError: A number out of range.
    """
    size = integer("num_sequences", num_sequences, minimum=0)
    return _sequences(lambda high: rng.integers(high, size=size), _num_pairs(num_pairs))


def _num_pairs(value: Any) -> int:
    return integer("num_pairs", value, minimum=1, maximum=_FIRST_DIGIT)


def _sequences(draw: Draw, num_pairs: int) -> tuple[np.ndarray, np.ndarray]:
    letters = distinct(draw, _FIRST_DIGIT, num_pairs)
    digits = np.stack([_FIRST_DIGIT + draw(10) for _ in range(num_pairs)], axis=-1)
    asked, rows = draw(num_pairs), np.arange(len(letters))
    tokens = np.empty((len(rows), 2 * num_pairs + 3), np.uint8)
    tokens[:, 0:-3:2] = letters
    tokens[:, 1:-3:2] = digits
    tokens[:, -3:-1] = _QUESTION
    tokens[:, -1] = letters[rows, asked]
    return tokens, digits[rows, asked].astype(np.uint8)


class AssociativeRetrievalEnv(TaskEnv):
    """Read pairs of a letter and a digit, then say which digit stood behind the letter that is asked for.

    ## Description

    One symbol a step: ``a 1 b 2 c 3 ? ? b``. At the last one, the query, the right action is the digit of that letter,
    here ``2``. Letters differ within a sequence, digits need not, and each letter is as likely to be asked for. Without
    memory of the pairs the best is a guess at a digit (0.1); one of the shown digits, unbound to its letter, is right
    with probability 0.4 for three pairs.

    The sequences are those of the supervised task: `sample_sequences` draws them by the same rule.

    ## Observation space

    ``Box(0, 1, (37,), float32)``: the symbol, one-hot.

    | index | meaning |
    |---|---|
    | 0-25 | a-z |
    | 26-35 | 0-9 |
    | 36 | ? |

    After the answer, at the end of the episode, it is all zeros.

    ## Action space

    ``Discrete(37)``: a symbol, numbered as in the observation. What is said before the query does not matter.

    ## Rewards

    1 if the action at the query is the digit, else 0; 0 at every other step.

    ## Start of an episode

    The first letter of a new random sequence.

    ## End of an episode

    Terminated with the answer to the query, after ``2 * num_pairs + 3`` steps: 9 for three pairs. Stepping on without a
    reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``num_pairs`` | 3 | pairs of letter and digit in a sequence, 1 to 26 |
    | ``render_mode`` | None | ``"ansi"``: `render` returns the symbols so far; ``"human"``: they are printed |

    ## Registered ids

    - ``stpn/AssociativeRetrieval-v0``: 3 pairs
    - ``stpn/AssociativeRetrievalSmall-v0``: 1 pair
    - ``stpn/AssociativeRetrievalLarge-v0``: 8 pairs

    ## Reference

    Ba, Hinton, Mnih, Leibo, Ionescu: Using Fast Weights to Attend to the Recent Past, NeurIPS 2016 (arXiv:1610.06258),
    with four pairs; Garcia Rodriguez, Guo, Moraitis: Short-Term Plasticity Neurons Learning to Learn and Forget, ICML
    2022 (arXiv:2206.14048), with three.

    ## Version history

    - v0: first version.
    """

    batch: AssociativeRetrievalVectorEnv

    def __init__(self, num_pairs: int = 3, *, render_mode: str | None = None, **unknown: Any):
        refuse(type(self), unknown)
        super().__init__(AssociativeRetrievalVectorEnv(1, num_pairs=num_pairs), render_mode)

    def text(self) -> str:
        """Return the symbols so far, and at the end the answer given and, if it was wrong, the right one."""
        tokens, answer = self.batch.tokens[0], int(self.batch.answers[0])
        shown = int(self.batch.steps[0]) + 1
        if shown <= len(tokens) or self.last_action is None:
            return decode(tokens[:shown])
        verdict = "right" if self.last_action == answer else f"wrong, it was {VOCABULARY[answer]}"
        return f"{decode(tokens)} {VOCABULARY[self.last_action]} ({verdict})"


class AssociativeRetrievalVectorEnv(TaskVectorEnv):
    """A batch of `AssociativeRetrievalEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what an `AssociativeRetrievalEnv` with the same
    arguments sees after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1)
    and ``autoreset_mode`` (``"SameStep"`` or ``"NextStep"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_pairs: int = 3,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        self._num_pairs = _num_pairs(num_pairs)
        space = spaces.Box(0.0, 1.0, (len(VOCABULARY),), np.float32)
        super().__init__(num_envs, space, action_space=spaces.Discrete(len(VOCABULARY)), autoreset_mode=autoreset_mode)
        self._length = 2 * self._num_pairs + 3
        self.tokens = np.zeros((self.num_envs, self._length), np.uint8)
        self.answers = np.zeros(self.num_envs, np.uint8)
        self.steps = np.zeros(self.num_envs, np.int64)
        # a row for each token, and one of zeros for the end
        self._one_hot = np.eye(len(VOCABULARY) + 1, len(VOCABULARY), dtype=np.float32)

    def begin(self, rows: np.ndarray) -> None:
        """Draw a sequence."""
        draw = functools.partial(self.streams.integers, rows)
        self.tokens[rows], self.answers[rows] = _sequences(draw, self._num_pairs)
        self.steps[rows] = 0

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Go to the next symbol; at the query, judge the answer."""
        self.steps += 1
        terminations = self.steps == self._length
        rewards = (terminations & (actions == self.answers)).astype(np.float64)
        return rewards, terminations, np.zeros(self.num_envs, bool)

    def observe(self, rows: np.ndarray) -> np.ndarray:
        """Return the symbols, one-hot; zeros behind the query."""
        steps = self.steps[rows]
        tokens = self.tokens[rows, np.minimum(steps, self._length - 1)]
        return self._one_hot[np.where(steps < self._length, tokens, len(VOCABULARY))]
