"""What one call of ``sample()`` brings back: T steps of B environments, with one state per sequence."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tree

from rllib_stpn.errors import UsageError

Span = slice  # the name of the built-in is taken by RLlib's method below


@dataclasses.dataclass
class Fragment:
    """T steps of B environments, as arrays ``[B, T, ...]``.

    It stands where RLlib expects a list of episodes: it answers ``len``, ``env_steps``, ``agent_steps`` and is cut
    by whole environments, so that every learner gets whole sequences.

    Attributes:
        mask: ``[B, T]`` bool, True at the steps to learn from. False are the steps in which an environment only
            resets (gymnasium's next-step autoreset) and, with complete episodes, the unfinished rest.
        is_first: ``[B, T]`` bool, True where an episode begins.
        columns: Arrays ``[B, T, ...]`` by RLlib's column names; empty in evaluation.
        state_in: State at the start of each sequence, leaves ``[B, S, ...]``; None without state.
        sequence_starts: ``[S]`` the steps at which the sequences begin.
        largest: The largest absolute value in an observation so far, and which one it was, in words.
        standardize_advantages: Whether the learner brings the advantages to mean 0 and deviation 1.
    """

    mask: np.ndarray
    is_first: np.ndarray
    columns: dict[str, Any] = dataclasses.field(default_factory=dict)
    state_in: Any = None
    sequence_starts: tuple[int, ...] = (0,)
    largest: tuple[float, str] = (0.0, "no environment")
    standardize_advantages: bool = False

    def env_steps(self) -> int:
        """Number of environment steps to learn from."""
        return int(self.mask.sum())

    def agent_steps(self) -> int:
        """The same as ``env_steps``: one agent per environment."""
        return self.env_steps()

    def __len__(self) -> int:
        return self.env_steps()

    def __getitem__(self, steps: Span) -> Fragment:
        """Returns the environments that fit into the first ``steps.stop`` steps; at least one, so that cutting ends."""
        rows = self._rows(steps.stop)
        return self._take(Span(0, rows))

    def slice(self, steps: Span, len_lookback_buffer: int | None = None) -> Fragment:
        """Returns what ``fragment[:steps.start]`` left. The look-back is for RLlib's signature only."""
        return self._take(Span(self._rows(steps.start), None))

    def _rows(self, steps: int) -> int:
        covered = np.cumsum(self.mask.sum(axis=1))
        return max(int(np.searchsorted(covered, steps, side="right")), 1)

    def _take(self, rows: Span) -> Fragment:
        return dataclasses.replace(
            self,
            mask=self.mask[rows],
            is_first=self.is_first[rows],
            columns={name: tree.map_structure(lambda a: a[rows], column) for name, column in self.columns.items()},
            state_in=None if self.state_in is None else tree.map_structure(lambda a: a[rows], self.state_in),
        )


def check_learners(config: Any) -> None:
    """Refuses more learners than an update has environments' fragments: one without any would keep the others waiting.

    Raises:
        UsageError: ``num_learners`` is too large.
    """
    environments = config.num_envs_per_env_runner * max(config.num_env_runners, 1)
    fragments = max(environments, config.total_train_batch_size // config.get_rollout_fragment_length())
    if config.num_learners > fragments:
        raise UsageError(
            f"num_learners: got {config.num_learners}, allowed are up to {fragments} here: each learner takes whole "
            "fragments of environments, and an update has no more (num_envs_per_env_runner makes more environments)"
        )
