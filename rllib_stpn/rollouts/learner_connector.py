"""The learner connector that turns fragments into the train batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import tree
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.utils.torch_utils import convert_to_torch_tensor

from rllib_stpn.errors import UsageError
from rllib_stpn.models.encoder import IS_FIRST
from rllib_stpn.rollouts.fragment import Fragment


class FragmentsToBatch(ConnectorV2):
    """Fragments -> ``{module_id: batch}`` of tensors, ready for the loss.

    For a module with state, each sequence is a row: columns ``[N, L, ...]``, ``state_in`` ``[N, ...]``, ``is_first``
    and, where some steps do not count, ``loss_mask`` ``[N, L]``. Without state the columns are ``[steps, ...]``.
    """

    def __call__(self, *, rl_module, batch: dict[str, Any], episodes: list[Fragment], shared_data=None, **kwargs):
        """Replaces RLlib's whole learner pipeline; ``episodes`` are fragments."""
        for fragment in episodes:
            len(fragment)  # raises what stopped a remote runner
        fragments = [fragment for fragment in episodes if len(fragment)]
        if not fragments:
            raise UsageError("num_learners: no steps were left for one of them: fewer learners, or more environments")
        self.largest = max(fragment.largest for fragment in fragments)  # for errors
        module = rl_module[DEFAULT_MODULE_ID].unwrapped()
        with_state = module.is_stateful()
        rows = [_sequences(fragment) if with_state else _steps(fragment) for fragment in fragments]
        columns = rows[0] if len(rows) == 1 else _concatenate(rows)
        if fragments[0].standardize_advantages:
            mask = columns.get(Columns.LOSS_MASK, slice(None))
            counted = columns["advantages"][mask]
            columns["advantages"] = (columns["advantages"] - counted.mean()) / max(1e-4, counted.std())
        if with_state:
            if columns[Columns.LOSS_MASK].all():
                del columns[Columns.LOSS_MASK]
            if shared_data is not None:
                shared_data[f"_zero_padded_for_mid={DEFAULT_MODULE_ID}"] = True
        device = next(module.parameters()).device
        batch[DEFAULT_MODULE_ID] = convert_to_torch_tensor(columns, device=device)
        return batch


def _steps(fragment: Fragment) -> dict[str, Any]:
    """The counted steps in a row, ``[steps, ...]``."""
    if fragment.mask.all():
        return _map_columns(lambda a: np.ascontiguousarray(a).reshape(-1, *a.shape[2:]), fragment.columns)
    return _map_columns(lambda a: a[fragment.mask], fragment.columns)


def _sequences(fragment: Fragment) -> dict[str, Any]:
    """One row a sequence, ``[B * S, L, ...]``, the environment outermost; shorter sequences end in zeros."""
    num_envs, steps = fragment.mask.shape
    bounds = (*fragment.sequence_starts, steps)
    length = max(stop - start for start, stop in zip(bounds, bounds[1:], strict=False))
    columns = {**fragment.columns, IS_FIRST: fragment.is_first, Columns.LOSS_MASK: fragment.mask}

    def cut(array: np.ndarray) -> np.ndarray:
        if len(bounds) == 2:
            return np.ascontiguousarray(array)
        rows = np.zeros((num_envs, len(bounds) - 1, length, *array.shape[2:]), dtype=array.dtype)
        for number, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
            rows[:, number, : stop - start] = array[:, start:stop]
        return rows.reshape(-1, *rows.shape[2:])

    sequences = _map_columns(cut, columns)
    sequences[Columns.STATE_IN] = tree.map_structure(lambda s: s.reshape(-1, *s.shape[2:]), fragment.state_in)
    sequences[Columns.SEQ_LENS] = sequences[Columns.LOSS_MASK].sum(axis=1, dtype=np.int32)  # the counted steps
    counted = sequences[Columns.SEQ_LENS] > 0
    return sequences if counted.all() else _map_columns(lambda a: a[counted], sequences)


def _concatenate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Joins the fragments' rows; sequences of different length are padded with zeros, which the mask leaves out."""
    if Columns.SEQ_LENS in rows[0]:
        length = max(row[IS_FIRST].shape[1] for row in rows)

        def pad(array: np.ndarray) -> np.ndarray:
            missing = length - array.shape[1]
            return np.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2)) if missing else array

        whole = (Columns.STATE_IN, Columns.SEQ_LENS)
        rows = [{k: v if k in whole else tree.map_structure(pad, v) for k, v in row.items()} for row in rows]
    return {key: tree.map_structure(lambda *parts: np.concatenate(parts), *[r[key] for r in rows]) for key in rows[0]}


def _map_columns(function, columns: dict[str, Any]) -> dict[str, Any]:
    return {name: tree.map_structure(function, column) for name, column in columns.items()}
