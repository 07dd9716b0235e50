"""Energy of a module's layers, measured while it acts."""

from __future__ import annotations

import contextlib
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
        recurrent: The part of it that recurrent synapses spent, ``[N, T, units]``; None unless asked for.
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


@contextlib.contextmanager
def energies_of(
    layers: Sequence[Layer], ignore_inputs: Sequence[int] = (), recurrent: bool = False
) -> Iterator[list[Spent]]:
    """Collects what the layers' calls within spend; callers of the layers see no difference.

    Args:
        layers: Layers of any module.
        ignore_inputs: Inputs whose synapses are left out of the sums. Costs another pass of the layer.
        recurrent: Whether to tell the part of recurrent synapses, too. Costs another pass of the layer.
    """
    spent: list[Spent] = []
    parts: list[torch.Tensor | None] = []

    def ask(layer, arguments, keywords):
        inputs, state = (*arguments, None)[:2]
        parts.append(layer.energy_without(inputs, state) if recurrent else None)
        if ignore_inputs:
            spent.append(Spent(layer.energy_without(inputs, state, ignore_inputs), parts.pop()))
            return None
        return arguments, {**keywords, "return_energy": True}

    def take(layer, arguments, returned):
        if ignore_inputs:
            return returned
        outputs, state, energy = returned
        spent.append(Spent(energy, parts.pop()))
        return outputs, state

    handles = [layer.register_forward_pre_hook(ask, with_kwargs=True) for layer in layers]
    handles += [layer.register_forward_hook(take) for layer in layers]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()
