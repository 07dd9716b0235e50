"""What a supervised task defines, and how it is evaluated."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from rllib_stpn.layers import Layer
from rllib_stpn.supervised.sequence_module import SequenceModule

SPLITS = ("train", "validation", "test")


class Task:
    """Data made from a seed, the module around a layer, a loss and its metrics.

    A task names and describes its options in the constructor, which only checks them; ``make_data`` makes the data.
    Splits come from disjoint random streams, children of one ``numpy.random.SeedSequence``.

    Attributes:
        name: What configuration files call it.
        metric: The metric that tells how good a module is, and which epoch was the best.
        carries_state: Whether a batch goes on from the state at the end of the one before.
        files: Option -> absolute path, of the options that name files.
        vocabulary: Word -> id, of a task of words; ``make_data`` makes it, unless it was set before. Parameters mean
            nothing without it, so checkpoints keep it.
    """

    name: ClassVar[str]
    metric: ClassVar[str] = "accuracy"
    carries_state: ClassVar[bool] = False
    files: Mapping[str, Path] = MappingProxyType({})
    vocabulary: Mapping[str, int] = MappingProxyType({})

    @property
    def input_size(self) -> int:
        """Features per step of the layer's inputs."""
        raise NotImplementedError

    def make_data(self, seed: int) -> None:
        """Makes or reads the data of all splits; the same for the same seed."""
        raise NotImplementedError

    def make_module(self, layer: Layer) -> SequenceModule:
        """The module around a layer of this task's ``input_size``; with data only."""
        raise NotImplementedError

    def batches(
        self, split: str, batch_size: int, rng: np.random.Generator | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields inputs ``[B, T, ...]`` and targets of one pass over a split.

        Args:
            split: One of ``SPLITS``.
            batch_size: Sequences per batch; the last one may have fewer.
            rng: For training: of this epoch's order, or of its fresh sequences. None keeps the order.
        """
        raise NotImplementedError

    def num_batches(self, split: str, batch_size: int) -> int:
        """How many batches a pass has."""
        raise NotImplementedError

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss per target; cross-entropy over the last axis unless the task has another."""
        return functional.cross_entropy(logits.flatten(0, -2), targets.flatten())

    def correct(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """How many targets were hit."""
        return (logits.argmax(-1) == targets).sum()

    def metrics(self, split: str, loss: float, accuracy: float) -> dict[str, float]:
        """What is reported of a pass over a split."""
        return {f"{split}_loss": loss, f"{split}_accuracy": accuracy}

    def better(self, score: float, best: float | None) -> bool:
        """Whether a value of ``metric`` is better than the best so far."""
        return best is None or score > best


class Totals:
    """Sums over the batches of a pass, kept as tensors so that nothing waits for them."""

    def __init__(self, task: Task):
        self._task = task
        self._loss = torch.zeros((), dtype=torch.float64)
        self._correct = torch.zeros((), dtype=torch.int64)
        self._targets = 0
        self.sequences = 0

    def add(self, loss: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Counts a batch."""
        count = targets.numel()
        self._loss.add_(loss.detach(), alpha=count)
        self._correct += self._task.correct(logits.detach(), targets)
        self._targets += count
        self.sequences += len(targets)

    def metrics(self, split: str) -> dict[str, float]:
        """The task's metrics of the pass."""
        return self._task.metrics(split, self._loss.item() / self._targets, self._correct.item() / self._targets)


@torch.no_grad()
def evaluate(
    task: Task, module: SequenceModule, split: str, batch_size: int, measure_energy: bool = False
) -> dict[str, Any]:
    """One pass over a split.

    Args:
        task: With data.
        module: Its module.
        split: "validation" or "test"; also "train".
        batch_size: Sequences per batch.
        measure_energy: Whether to add ``energy_per_sequence``, the layer's energy summed over steps and units and
            averaged over the split's sequences.

    Returns:
        The task's metrics, their names beginning with the split's.
    """
    totals, energy, state = Totals(task), torch.zeros((), dtype=torch.float64), None
    for inputs, targets in task.batches(split, batch_size):
        logits, after, *spent = module(inputs, state, return_energy=measure_energy)
        state = after if task.carries_state else None
        totals.add(task.loss(logits, targets), logits, targets)
        if measure_energy:
            energy += spent[0].sum(dtype=torch.float64)
    metrics = totals.metrics(split)
    return metrics | ({"energy_per_sequence": energy.item() / totals.sequences} if measure_energy else {})
