"""Recurrent states in RLlib's own episodes: only those that training reads are kept.

RLlib's env runners keep the state after every step, 680 KB for STPN on Pong. Its learners read one in ``max_seq_len``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tree
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from rllib_stpn.errors import UsageError


def thin_states(env=None, spaces=None) -> ThinStates:
    """Builds :class:`ThinStates`, as RLlib asks for it.

    ::

        config.env_runners(module_to_env_connector=thin_states)
    """
    return ThinStates()


class ThinStates(ConnectorV2):
    """Connector that drops from RLlib's episodes the recurrent states that training does not read.

    It keeps the states at which a learner's sequences begin, one in ``max_seq_len``, and the current one. Training is
    the same. It works for any stateful module, single- and multi-agent, with at most one learner: several learners cut
    episodes at any step, whose state is then missing (a ``UsageError``).
    """

    def __call__(self, *, rl_module, batch: dict[str, Any], episodes, **kwargs) -> dict[str, Any]:
        """Puts a thinning buffer in place of each new buffer of states; ``batch`` is not changed."""
        for episode in self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False):
            states = episode.extra_model_outputs.get(Columns.STATE_OUT)
            if states is not None and not isinstance(states, ThinnedStates):
                module = rl_module if episode.module_id is None else rl_module[episode.module_id]
                thinned = ThinnedStates(states, module.model_config["max_seq_len"])
                episode.extra_model_outputs[Columns.STATE_OUT] = thinned
        return batch


class ThinnedStates(InfiniteLookbackBuffer):
    """RLlib's buffer of an episode's states, holding those in front of every ``spacing``-th step and the last one."""

    data: Any
    finalized: bool

    def __init__(self, states: InfiniteLookbackBuffer, spacing: int) -> None:
        super().__init__()
        self.spacing = spacing
        self.lookback = states.lookback
        self.data = states.data

    def append(self, item: Any) -> None:
        """Adds the newest state, and drops the one before it unless a sequence begins with that."""
        if self.data and not self.finalized:
            begins_a_sequence = len(self) % self.spacing == 0
            self.data[-1] = tree.map_structure(_own, self.data[-1]) if begins_a_sequence else None
        super().append(item)

    def finalize(self) -> None:
        """From a list of states to arrays over time, as RLlib's, but with gaps."""
        if self.finalized:
            return
        flat = [None if state is None else tree.flatten(state) for state in self.data]
        leaves = [
            RowsWithGaps([None if state is None else _own(state[i]) for state in flat])
            for i in range(len(tree.flatten(self.data[-1])))
        ]
        self.data = tree.unflatten_as(self.data[-1], leaves)
        self.finalized = True


class RowsWithGaps:
    """An array ``[T, ...]`` of which some rows are unknown: indexed, sliced and concatenated like a numpy array.

    A slice without unknown rows is a numpy array.

    Raises:
        UsageError: An unknown row is asked for.
    """

    def __init__(self, rows: list[np.ndarray | None]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            rows = self.rows[index]
            known = [row for row in rows if row is not None]
            return np.stack(known) if known and len(known) == len(rows) else RowsWithGaps(rows)
        row = self.rows[index]
        if row is None:
            raise UsageError(
                f"thin_states: state after step {index} of an episode was not kept, allowed are learners that read one "
                "in max_seq_len: num_learners 0 or 1"
            )
        return row

    def __array_function__(self, function, types, args, kwargs) -> RowsWithGaps:
        if function is not np.concatenate:
            return NotImplemented
        (parts,) = args
        return RowsWithGaps(
            [row for part in parts for row in (part.rows if isinstance(part, RowsWithGaps) else list(part))]
        )


def _own(array: Any) -> np.ndarray:
    """The array itself, or a copy where it is a view, which would keep all environments' states alive."""
    array = np.asarray(array)
    return array if array.base is None else array.copy()
