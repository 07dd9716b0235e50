"""Tasks whose sequences are drawn at random."""

from collections.abc import Iterator

import numpy as np
import torch

from rllib_stpn import checks
from rllib_stpn.supervised.task import SPLITS, Task


class SampledTask(Task):
    """A task whose splits are independent draws of one distribution, from disjoint random streams.

    Args:
        train_size: Training sequences of an epoch.
        validation_size: Sequences for validation.
        test_size: Sequences for the test.

    Attributes:
        fresh: Whether every epoch has new training sequences; otherwise all have the same, in another order.
    """

    fresh = False

    def __init__(self, train_size: int, validation_size: int, test_size: int):
        self.sizes = dict(zip(SPLITS, (train_size, validation_size, test_size), strict=True))
        for split, size in self.sizes.items():
            checks.integer(f"{self.name}: {split}_size", size, at_least=1, at_most=10**8)

    def sample(self, rng: np.random.Generator, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draws inputs ``[number, T, ...]`` and targets ``[number, ...]``."""
        raise NotImplementedError

    def make_data(self, seed: int) -> None:
        """Draws all splits."""
        streams = np.random.SeedSequence(seed).spawn(len(SPLITS))
        self._data = {
            split: self.sample(np.random.default_rng(stream), self.sizes[split])
            for split, stream in zip(SPLITS, streams, strict=True)
        }

    def batches(
        self, split: str, batch_size: int, rng: np.random.Generator | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields inputs ``[B, T, ...]`` and targets ``[B, ...]``."""
        inputs, targets = self._data[split]
        if rng is not None and self.fresh:
            inputs, targets = self.sample(rng, self.sizes[split])
        elif rng is not None:
            order = torch.from_numpy(rng.permutation(len(inputs)))
            inputs, targets = inputs[order], targets[order]
        return zip(inputs.split(batch_size), targets.split(batch_size), strict=True)

    def num_batches(self, split: str, batch_size: int) -> int:
        """How many batches a pass has; the last may be smaller than the others."""
        return -(-self.sizes[split] // batch_size)
