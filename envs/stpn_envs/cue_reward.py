"""Cue-reward association: which cue is the one that counts? One (`CueRewardEnv`) or a batch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from stpn_envs.arguments import integer, refuse
from stpn_envs.sampling import distinct
from stpn_envs.task_env import TaskEnv, TaskVectorEnv

__all__ = ["CueRewardEnv", "CueRewardVectorEnv"]

_NO_ANSWER = -1


class CueRewardEnv(TaskEnv):
    """Find out by trial and error which of a few new cues is the target, and say when it was shown.

    ## Description

    Every episode has its own four random cues of 20 bits, one of which is the target; the agent is not told which. A
    trial shows two of them, then asks for an answer: was the target among them? The reward says whether the answer was
    right, so the target can be inferred within a few trials and has to be remembered, with its pattern, from then on.
    Without memory half of the answers are right.

    A trial takes 5 to 8 steps:

    | steps | shown |
    |---|---|
    | 1 | nothing |
    | 2-5 | two different cues (half of ``num_cues``) and 0 to 3 blanks (up to ``num_cues`` - 1), in random order |
    | 1 | the go signal: the action of this step is the answer |
    | 1 | nothing; the reward for the answer is among the inputs |

    The cues of a trial, the number of blanks and the order are uniform draws, so the target is shown in half of the
    trials. The next trial follows at once; the one under way when the episode ends is cut off.

    ## Observation space

    ``Box(-1, 1, (26,), float32)``, with c = ``cue_bits``:

    | index | in general | meaning |
    |---|---|---|
    | 0-19 | 0 .. c - 1 | the cue, -1 or 1 each; 0 without a cue |
    | 20 | c | 1 at the go signal, else 0 |
    | 21 | c + 1 | 1 (bias) |
    | 22 | c + 2 | steps since the start of the episode / ``episode_length`` |
    | 23 | c + 3 | reward of the step before, 0 at first |
    | 24-25 | c + 4, c + 5 | action of the step before, one-hot; zeros at first |

    ## Action space

    | action | meaning at the go signal |
    |---|---|
    | 0 | the target was not shown |
    | 1 | the target was shown |

    At other steps the action does not matter.

    ## Rewards

    1 for a right answer, -1 for a wrong one, at the go signal; 0 at every other step.

    ## Start of an episode

    New cues (different ones), a new target and the first blank of a trial.

    ## End of an episode

    Truncated after ``episode_length`` steps. Stepping on without a reset raises `gymnasium.error.ResetNeeded`.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | ``num_cues`` | 4 | cues of an episode, even, 2 or more |
    | ``cue_bits`` | 20 | size of a cue, 1 to 32, enough for ``num_cues`` different ones |
    | ``episode_length`` | 120 | steps until truncation, 1 or more |
    | ``render_mode`` | None | ``"ansi"``: `render` returns what is shown as a text; ``"human"``: it is printed |

    ## Registered ids

    - ``stpn/CueReward-v0``: 4 cues, 120 steps
    - ``stpn/CueRewardSmall-v0``: 2 cues, 60 steps
    - ``stpn/CueRewardLarge-v0``: 8 cues, 400 steps

    ## Reference

    Miconi, Rawal, Clune, Stanley: Backpropamine: training self-modifying neural networks with differentiable
    neuromodulated plasticity, ICLR 2019 (arXiv:2002.10585), task 1.

    ## Version history

    - v0: first version.
    """

    batch: CueRewardVectorEnv

    def __init__(
        self,
        num_cues: int = 4,
        *,
        cue_bits: int = 20,
        episode_length: int = 120,
        render_mode: str | None = None,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        batch = CueRewardVectorEnv(1, num_cues=num_cues, cue_bits=cue_bits, episode_length=episode_length)
        super().__init__(batch, render_mode)

    def text(self) -> str:
        """Return what is shown, the target among it marked, and the reward of the step before if there was one."""
        batch = self.batch
        step, target = int(batch.steps[0]), int(batch.targets[0])
        symbol = int(batch.symbols[0, step])
        shown = {batch.go: "go", batch.blank: "-"}.get(symbol, f"cue {symbol}" + " (target)" * (symbol == target))
        reward = f", reward {self.last_reward:+g}" if self.last_reward else ""
        return f"step {step}: {shown}{reward}"


class CueRewardVectorEnv(TaskVectorEnv):
    """A batch of `CueRewardEnv`, stepped as arrays.

    Sub-environment i of ``reset(seed=s)`` sees, step for step, what a `CueRewardEnv` with the same arguments sees after
    ``reset(seed=s + i)``. Beside its arguments (without ``render_mode``) it takes ``num_envs`` (1) and
    ``autoreset_mode`` (``"SameStep"`` or ``"NextStep"``). Returned arrays belong to the caller.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_cues: int = 4,
        cue_bits: int = 20,
        episode_length: int = 120,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **unknown: Any,
    ):
        refuse(type(self), unknown)
        self._num_cues = integer("num_cues", num_cues, minimum=2)
        if self._num_cues % 2:
            raise ValueError(f"num_cues: got {num_cues!r}, allowed is an even number: a trial shows half of the cues")
        # as many bits as tell the cues apart, and no more than a draw has
        self._bits = integer("cue_bits", cue_bits, minimum=(self._num_cues - 1).bit_length(), maximum=32)
        self._length = integer("episode_length", episode_length, minimum=1)
        space = spaces.Box(-1.0, 1.0, (self._bits + 6,), np.float32)
        super().__init__(num_envs, space, action_space=spaces.Discrete(2), autoreset_mode=autoreset_mode)
        self.go, self.blank = self._num_cues, self._num_cues + 1  # symbols that follow those of the cues
        shape = (self.num_envs, self._length + 1)
        self.targets = np.zeros(self.num_envs, np.int64)
        self.symbols = np.zeros(shape, np.int64)
        self._answers = np.zeros(shape, np.int8)  # the right action at a go signal, else _NO_ANSWER
        self._patterns = np.zeros((self.num_envs, self._num_cues + 2, self._bits + 1), np.float32)
        self._patterns[:, self.go, -1] = 1
        self.steps = np.zeros(self.num_envs, np.int64)
        self._rewards = np.zeros(self.num_envs)
        self._actions = np.zeros((self.num_envs, 2), np.float32)  # one-hot

    def new_task(self, rows: np.ndarray) -> None:
        """Draw cues and a target."""
        draw = functools.partial(self.streams.integers, rows)
        codes = distinct(draw, 2**self._bits, self._num_cues)
        bits = codes[..., None] >> np.arange(self._bits) & 1
        self._patterns[rows, : self._num_cues, : self._bits] = 2 * bits - 1
        self.targets[rows] = draw(self._num_cues)

    def begin(self, rows: np.ndarray) -> None:
        """Draw all trials of an episode."""
        self.symbols[rows], self._answers[rows] = self._trials(rows)
        self.steps[rows] = 0
        self._rewards[rows] = 0
        self._actions[rows] = 0

    def _trials(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw the trials of an episode: symbols and answers, both ``[n, episode_length + 1]``."""
        shown, steps = self._num_cues // 2, self._length + 1
        most = -(-steps // (shown + 3))
        draw = functools.partial(self.streams.integers, rows, size=(most,))
        blanks = draw(self._num_cues)  # [n, trials]
        cues = distinct(draw, self._num_cues, shown)  # [n, trials, shown]
        places = distinct(draw, shown + blanks, shown)  # [n, trials, shown]
        ends = np.cumsum(shown + blanks + 3, axis=1)
        starts = ends - (shown + blanks + 3)

        n = np.arange(len(rows))[:, None]
        symbols = np.full((len(rows), int(ends.max())), self.blank)
        symbols[n[..., None], starts[..., None] + 1 + places] = cues
        symbols[n, ends - 2] = self.go
        answers = np.full(symbols.shape, _NO_ANSWER, np.int8)
        answers[n, ends - 2] = (cues == self.targets[rows][:, None, None]).any(axis=-1)
        return symbols[:, :steps], answers[:, :steps]

    def advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Judge the answers at go signals and go to the next step."""
        answers = self._answers[self.rows, np.minimum(self.steps, self._length)]
        rewards = np.where(answers == actions, 1.0, -1.0) * (answers != _NO_ANSWER)
        self.steps += 1
        self._rewards[:] = rewards
        self._actions[:] = actions[:, None] == [0, 1]
        return rewards, np.zeros(self.num_envs, bool), self.steps == self._length

    def observe(self, rows: np.ndarray) -> np.ndarray:
        """Return what is shown, and the inputs beside it."""
        steps, bits = self.steps[rows], self._bits
        observations = np.empty((len(rows), bits + 6), np.float32)
        observations[:, : bits + 1] = self._patterns[rows, self.symbols[rows, steps]]
        observations[:, bits + 1] = 1
        observations[:, bits + 2] = steps / self._length
        observations[:, bits + 3] = self._rewards[rows]
        observations[:, bits + 4 :] = self._actions[rows]
        return observations
