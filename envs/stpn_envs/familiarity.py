"""Continual familiarity: has this pattern been seen before? One (`FamiliarityEnv`) or a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from stpn_envs.arguments import integer, refuse
from stpn_envs.task_env import TaskEnv, TaskVectorEnv

__all__ = ["FamiliarityEnv", "FamiliarityVectorEnv", "sample_sequences"]


def sample_sequences(
    rng: np.random.Generator, num_sequences: int, length: int, dim: int = 100, delay: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Draw sequences of patterns of which some repeat the one `delay` steps before (Tyulmankov et al. 2022).

    From step `delay` on, a pattern repeats that of `delay` steps before with probability 1/2, unless that one was a
    repeat itself; otherwise it is new. In the long run a third of the patterns are repeats.

    Args:
        rng: Source of the random numbers.
        num_sequences: Number of sequences, 0 or more.
        length: Patterns in a sequence, 1 or more.
        dim: Size of a pattern, 1 or more.
        delay: Steps from a pattern to its repeat, 1 or more.

    Returns:
        The patterns, int8 of -1 and 1 ``[num_sequences, length, dim]``, and which of them are repeats, bool
        ``[num_sequences, length]``.

    Raises:
        ValueError: A number out of range.
    """
    shape = (integer("num_sequences", num_sequences, minimum=0), integer("length", length, minimum=1))
    patterns = rng.integers(2, size=(*shape, integer("dim", dim, minimum=1)), dtype=np.int8)
    patterns *= 2
    patterns -= 1
    coins = rng.integers(2, size=shape, dtype=np.uint8).astype(bool)
    return _repeated(patterns, coins, integer("delay", delay, minimum=1))


def _repeated(patterns: np.ndarray, coins: np.ndarray, delay: int) -> tuple[np.ndarray, np.ndarray]:
    """Put repeats into new patterns ``[n, length, ...]`` where coins ``[n, length]`` ask for one and it is allowed."""
    repeats = coins.copy()
    repeats[:, :delay] = False
    for block in range(delay, repeats.shape[1], delay):  # these `delay` steps look back at the `delay` before them
        now = repeats[:, block : block + delay]
        now &= ~repeats[:, block - delay : block][:, : now.shape[1]]
    rows, steps = repeats.nonzero()
    patterns[rows, steps] = patterns[rows, steps - delay]  # never a repeat itself, so the order does not matter
    return patterns, repeats


class FamiliarityEnv(TaskEnv):
    """Say of each pattern of an endless stream whether it was there before.

    ## Description

    A random pattern a step. From step ``delay`` on, a pattern repeats the one of ``delay`` steps before with
    probability 1/2, unless that one was a repeat itself; otherwise it is new. In the long run a third of the patterns
    are repeats, so who always says "new" is right two times out of three (a bit more often in short episodes, which
    begin with ``delay`` new ones). Nothing else tells a repeat from a new pattern: what helps is a memory of the last
    ``delay`` patterns.

    The sequences are those of the supervised task: `sample_sequences` draws them by the same rule.

    ## Observation space

    ``Box(-1, 1, (dim,), float32)``: the pattern, each entry -1 or 1.

    ## Action space

    | action | meaning |
    |---|---|
    | 0 | new |
    | 1 | seen before |

    ## Rewards

    1 for a right answer, 0 for a wrong one, at every step. So return over length is the accuracy.

    ## Start of an episode

    The first of a new sequence of patterns.

    ## End of an episode

    Truncated after ``episode_length`` answers; the last observation is the stream's next pattern. Stepping on without a
    reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``delay`` | 3 | steps from a pattern to its repeat (R in the paper), 1 or more |
    | ``dim`` | 100 | size of a pattern, 1 or more; small ones repeat by chance, which is not counted as a repeat |
    | ``episode_length`` | 200 | answers until truncation, 1 or more |
    | ``render_mode`` | None | ``"ansi"``: `render` returns pattern and last answer as a text; ``"human"``: printed |

    ## Registered ids

    - ``stpn/Familiarity-v0``: delay 3, 100 entries, 200 steps
    - ``stpn/FamiliaritySmall-v0``: delay 1, 25 entries, 50 steps
    - ``stpn/FamiliarityLarge-v0``: delay 10, 100 entries, 500 steps

    ## Reference

    Tyulmankov, Yang, Abbott: Meta-learning synaptic plasticity and memory addressing for continual familiarity
    detection, Neuron 2022.

    ## Version history

    - v0: first version.
    """

    batch: FamiliarityVectorEnv

    def __init__(
        self,
        delay: int = 3,
        *,
        dim: int = 100,
        episode_length: int = 200,
        render_mode: str | None = None,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        super().__init__(FamiliarityVectorEnv(1, delay=delay, dim=dim, episode_length=episode_length), render_mode)

    def text(self) -> str:
        """Return the pattern as plus and minus signs, and how the one before it was judged."""
        step = int(self.batch.steps[0])
        pattern = "".join("+" if entry > 0 else "-" for entry in self.batch.observe(self.batch.rows)[0])
        if self.last_action is None:
            return f"step {step}: {pattern}"
        was = "seen before" if self.batch.repeats[0, step - 1] else "new"
        return f"step {step - 1} was {was}, answer {'right' if self.last_reward else 'wrong'}\nstep {step}: {pattern}"


class FamiliarityVectorEnv(TaskVectorEnv):
    """A batch of `FamiliarityEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `FamiliarityEnv` with the same arguments sees
    after ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1) and
    ``autoreset_mode`` (``"SameStep"`` or ``"NextStep"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        delay: int = 3,
        dim: int = 100,
        episode_length: int = 200,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        self._delay = integer("delay", delay, minimum=1)
        self._dim = integer("dim", dim, minimum=1)
        self._length = integer("episode_length", episode_length, minimum=1)
        space = spaces.Box(-1.0, 1.0, (self._dim,), np.float32)
        super().__init__(num_envs, space, action_space=spaces.Discrete(2), autoreset_mode=autoreset_mode)
        # an episode is drawn when it begins, one bit an entry; little-endian, as unpackbits will read the bytes
        self._words = np.zeros((self.num_envs, self._length + 1, -(-self._dim // 64)), "<u8")
        self.repeats = np.zeros(self._words.shape[:2], bool)
        self.steps = np.zeros(self.num_envs, np.int64)

    def begin(self, rows: np.ndarray) -> None:
        """Draw all patterns of an episode."""
        patterns, words = self._words.shape[1:]
        bits = self.streams.bits(rows, patterns * (words + 1)).reshape(len(rows), patterns, words + 1)
        coins = bits[..., -1] >> np.uint64(63) == 1
        self._words[rows], self.repeats[rows] = _repeated(bits[..., :-1], coins, self._delay)
        self.steps[rows] = 0

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Judge the answers and go to the next pattern."""
        right = actions == self.repeats[self.rows, np.minimum(self.steps, self._length)]
        self.steps += 1
        return right.astype(np.float64), np.zeros(self.num_envs, bool), self.steps == self._length

    def observe(self, rows: np.ndarray) -> np.ndarray:
        """Return the patterns as -1 and 1."""
        packed = self._words[rows, self.steps[rows]].view(np.uint8)
        pattern = np.unpackbits(packed, axis=1, count=self._dim, bitorder="little").astype(np.float32)
        pattern *= 2
        pattern -= 1
        return pattern
