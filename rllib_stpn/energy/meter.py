"""The energy of single forward passes of a module that acts."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from rllib_stpn import checks
from rllib_stpn.energy.spent import acting_layers, energies_of, rows_of
from rllib_stpn.errors import UsageError
from rllib_stpn.kernels.synaptic_energy import only_sums
from rllib_stpn.layers import Layer, Stack

_SHARE_STEPS, _SHARE_PARTS = 8, 4
"""What recurrent synapses spend is measured at one of ``_SHARE_STEPS`` steps (at every measured step, where fewer are
measured), in one of ``_SHARE_PARTS`` parts of the environments: it takes another pass of the layers."""


class Reading(NamedTuple):
    """What one forward pass spent.

    Attributes:
        names: Of the layers.
        layers: ``[layers, B]``, summed over units.
        share: ``[2, B]``, of all layers: what recurrent synapses spent, and what all synapses did; zeros for
            environments in which this was not measured, None if it was not measured at all.
    """

    names: list[str]
    layers: np.ndarray
    share: np.ndarray | None


class _OneOf:
    """True at one of each ``calls`` calls, drawn at random.

    At a fixed one, episodes of equal length would always be measured at the same steps.
    """

    def __init__(self, calls: int, drawn: random.Random) -> None:
        self._calls, self._random, self._left = calls, drawn, 0

    def __call__(self) -> bool:
        if not self._left:
            self._left, self._chosen = self._calls, self._random.randint(1, self._calls)
        self._left -= 1
        return self._left == self._chosen - 1


class Meter:
    """Measures one of ``every_n_steps`` forward passes.

    Attributes:
        ignore_inputs: Inputs of the first layer whose synapses are left out.
        every_n_steps: One of so many passes is measured.
        reading: Of the last pass; None if it was not measured.

    Raises:
        UsageError: A wrong option.
    """

    def __init__(self, ignore_inputs: Sequence[int], every_n_steps: int) -> None:
        if not isinstance(ignore_inputs, (list, tuple)):
            raise UsageError(f"energy: ignore_inputs: got {ignore_inputs!r}, allowed is a list of indices")
        self.ignore_inputs = [checks.integer("energy: ignore_inputs", index, at_least=0) for index in ignore_inputs]
        self.every_n_steps = checks.integer("energy: every_n_steps", every_n_steps, at_least=1)
        self.reading: Reading | None = None
        self._module: Any = None
        self._random = random.Random(0)  # its own generator: measuring must not change what is sampled
        self._measures = _OneOf(every_n_steps, self._random)
        self._tells_apart = _OneOf(max(1, _SHARE_STEPS // every_n_steps), self._random)

    @contextlib.contextmanager
    def measuring(self, module: Any) -> Iterator[None]:
        """Measures one forward pass of a module, which is made within, and leaves the result in ``reading``.

        Raises:
            UsageError: A module without layers of this package, or inputs to ignore that it does not have.
        """
        self.reading = None
        if not self._measures():
            yield
            return
        if module is not self._module:
            self._module, self._layers = module, acting_layers(module)
            self._names = _names(self._layers)
            self._check_ignored(module, self._layers[0])
        layers = self._layers
        part = (self._random.randrange(_SHARE_PARTS), _SHARE_PARTS) if self._tells_apart() else None
        with energies_of(layers, self.ignore_inputs, part) as energies, only_sums():
            yield
        widths = [layer.energy_widths if isinstance(layer, Stack) else () for layer in layers]
        spent = np.concatenate([_sums(energy.total, own) for energy, own in zip(energies, widths, strict=True)])
        share = None
        if part is not None:
            share = np.zeros((2, spent.shape[1]))
            rows = rows_of(spent.shape[1], part)
            recurrent = [_sums(energy.recurrent) for energy in energies if energy.recurrent is not None]
            share[0, rows] = np.sum(recurrent, axis=(0, 1))
            share[1, rows] = spent[:, rows].sum(0)
        self.reading = Reading(self._names, spent, share)

    def _check_ignored(self, module: Any, layer: Layer) -> None:
        if not self.ignore_inputs:
            return
        if any(
            getattr(part, name, None) is not None for part in module.modules() for name in ("tokenizer", "projection")
        ):
            raise UsageError(
                "energy: ignore_inputs: got a model whose layer reads the features of an encoder, allowed are models "
                "whose layer reads the observation itself (fcnet_hiddens: [])"
            )
        if max(self.ignore_inputs) >= layer.input_size:
            raise UsageError(
                f"energy: ignore_inputs: got {max(self.ignore_inputs)}, allowed are 0 to {layer.input_size - 1}, the "
                f"inputs of {layer.name}"
            )


def _names(layers: Sequence[Layer]) -> list[str]:
    """The layers' names, numbered where there are several."""
    names = [layer.name for layer in layers for _ in range(layer.num_layers if isinstance(layer, Stack) else 1)]
    return names if len(names) == 1 else [f"{name}_{index}" for index, name in enumerate(names)]


def _sums(energy: torch.Tensor, widths: Sequence[int] = ()) -> np.ndarray:
    """Over steps and units, ``[N, T, units]`` to ``[layers, N]``; without ``widths`` all units are of one layer."""
    if energy.stride(-1) == 0:  # all units have the mean, under only_sums
        sums = energy[..., 0].numpy(force=True).sum(1)[None] * energy.shape[-1]
    else:
        parts = energy.split(list(widths), -1) if len(widths) > 1 else [energy]
        sums = np.stack([part.sum((1, 2)).numpy(force=True) for part in parts])
    return sums.astype(np.float64)
