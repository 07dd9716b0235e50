"""Energy of a module's layers, measured while it acts."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from ray.rllib.core.models.base import CRITIC
from torch import nn

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import Layer


class Spent(NamedTuple):
    """What one call of a layer spent.

    Attributes:
        total: ``[N, T, units]``.
        recurrent: What recurrent synapses spent of it, ``[rows, T, units]``, in one part of the batch, or None.
    """

    total: torch.Tensor
    recurrent: torch.Tensor | None


def acting_layers(module: nn.Module) -> list[Layer]:
    """The layers that lead to the action: not those of a value function's own encoder, nor those inside a layer.

    Raises:
        UsageError: There is none.
    """
    layers: dict[str, Layer] = {}
    for name, part in module.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in layers)
        if isinstance(part, Layer) and CRITIC not in name and not inside:
            layers[name] = part
    if not layers:
        raise UsageError(
            f"energy: got {type(module).__name__} without layers of rllib_stpn, allowed are modules of "
            "recurrent_spec: energy is defined for their synapses"
        )
    return list(layers.values())


def check_told(module: nn.Module) -> None:
    """Raises a UsageError unless the layers that lead to the action tell their energy."""
    for layer in acting_layers(module):
        like = next(layer.parameters(), torch.empty(0))
        with torch.no_grad():
            layer(like.new_zeros(1, 1, layer.input_size), return_energy=True)


def rows_of(batch: int, part: tuple[int, int]) -> slice:
    """The rows of the k-th of n equal parts of a batch, ``(k, n)``."""
    k, n = part
    return slice(batch * k // n, batch * (k + 1) // n)


@contextlib.contextmanager
def energies_of(
    layers: Sequence[Layer], ignore_inputs: Sequence[int] = (), recurrent: tuple[int, int] | None = None
) -> Iterator[list[Spent]]:
    """Collects what the layers' calls within spend; callers of the layers see no difference.

    Args:
        layers: Layers of any module.
        ignore_inputs: Inputs whose synapses are left out of the sums. Costs another pass of the layer.
        recurrent: ``(k, n)`` also measures recurrent synapses alone, in the k-th of n parts of the batch
            (:func:`rows_of`). Costs another pass for these rows.
    """
    spent: list[Spent] = []

    def measured(layer, inputs, state, is_first):
        part = None
        if recurrent is not None:
            rows = rows_of(len(inputs), recurrent)
            own = state and {key: leaf[rows] for key, leaf in state.items()}
            part = layer.energy_without(inputs[rows], own) if rows.start < rows.stop else inputs.new_zeros(0, 1, 1)
        if ignore_inputs:
            energy = layer.energy_without(inputs, state, ignore_inputs)
            outputs, state, _ = layer.run(inputs, state, is_first, False)
        else:
            outputs, state, energy = layer.run_measured(inputs, state, is_first)
        spent.append(Spent(energy, part))
        return outputs, state

    for layer in layers:  # not by torch's hooks, which take longer to come and go than a small layer's step
        layer.measured_by = functools.partial(measured, layer)
    try:
        yield spent
    finally:
        for layer in layers:
            layer.measured_by = None
