"""How a module acts on whole arrays: observations become tensors, pass through it, and
give the distribution that actions are drawn from.

The batched env runner and a loaded agent act through these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import tree
from ray.rllib.core.columns import Columns
from ray.rllib.utils.torch_utils import convert_to_torch_tensor

from rllib_stpn.models.lean_distributions import lean_distribution

_NEED_NO_CAST = (np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.int64))


def to_tensors(values: Any, device: Any = "cpu") -> Any:
    """Arrays ``[B, ...]``, in dicts and tuples, as tensors on a device.

    On the CPU they share the memory of writeable arrays of float32, uint8 and int64. float64 becomes float32.
    """
    on_cpu = torch.device(device).type == "cpu"
    if on_cpu and isinstance(values, np.ndarray) and values.flags.writeable and values.dtype in _NEED_NO_CAST:
        return torch.from_numpy(values)
    return convert_to_torch_tensor(values, device=device)


def to_arrays(values: Any) -> Any:
    """Tensors, in dicts and tuples, as arrays; what is no tensor stays."""
    return map_leaves(lambda leaf: leaf.numpy(force=True) if isinstance(leaf, torch.Tensor) else leaf, values)


def forward_one_step(
    forward: Callable[[dict[str, Any]], dict[str, Any]], observations: Any, state: Any, device: Any = "cpu"
) -> dict[str, Any]:
    """Passes one observation of each of B environments through a module.

    Args:
        forward: A forward method of the module: a batch to its outputs.
        observations: Arrays ``[B, ...]``, as the connectors made them.
        state: Tensors ``[B, ...]``; None for a module without state, whose batches have no axis of time.
        device: The module's.

    Returns:
        The module's outputs, ``[B, ...]``, with ``state_out`` where there is state.
    """
    observations = to_tensors(observations, device)
    if state is None:
        return dict(forward({Columns.OBS: observations}))
    outputs = dict(forward({Columns.OBS: map_leaves(_with_time, observations), Columns.STATE_IN: state}))
    for name, value in outputs.items():
        if name != Columns.STATE_OUT:
            outputs[name] = map_leaves(_without_time, value)
    return outputs


def action_distribution(module: Any, outputs: dict[str, Any], explore: bool) -> Any:
    """The distribution from which actions ``[B, ...]`` are drawn; without ``explore`` always the most probable."""
    inputs = outputs[Columns.ACTION_DIST_INPUTS]
    if explore:
        return lean_distribution(module.get_exploration_action_dist_cls())(inputs)
    return module.get_inference_action_dist_cls().from_logits(inputs).to_deterministic()


def map_leaves(function: Callable, value: Any, *others: Any) -> Any:
    """``tree.map_structure``, with a short cut for the usual case, a single array."""
    if isinstance(value, np.ndarray | torch.Tensor):
        return function(value, *others)
    return tree.map_structure(function, value, *others)


def _with_time(leaf: torch.Tensor) -> torch.Tensor:
    return leaf.unsqueeze(1)


def _without_time(leaf: torch.Tensor) -> torch.Tensor:
    return leaf.squeeze(1)
