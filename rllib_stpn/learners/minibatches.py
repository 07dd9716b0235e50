"""The minibatches of an update as plain dicts of tensors, in RLlib's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.utils.minibatch_utils import MiniBatchCyclicIterator, MiniBatchDummyIterator


class Minibatches(dict):
    """The train batch by module, ``{module_id: columns}``, and how an update goes through it.

    ``cut`` gives the same minibatches as RLlib's ``MiniBatchCyclicIterator``, for the same state of numpy's random
    generator. RLlib builds two ``SampleBatch`` objects for each; here a minibatch is a slice of columns that are
    shuffled once an epoch.

    Args:
        iterator: RLlib's, which holds the batch and how to go through it.

    Attributes:
        env_steps: Environment steps of the whole batch.
        steps: After ``cut``, the counted steps of each minibatch, by module.
        number: After ``cut``, the number of minibatches.
    """

    def __init__(self, iterator: MiniBatchCyclicIterator | MiniBatchDummyIterator) -> None:
        super().__init__(iterator._batch.policy_batches)
        self._iterator = iterator
        self.env_steps = iterator._batch.env_steps()
        self.steps: dict[str, list[int]] = {module_id: [] for module_id in self}
        self.number = 0

    @property
    def minibatch_steps(self) -> int:
        """Steps of a minibatch, as asked for."""
        return getattr(self._iterator, "_minibatch_size", self.env_steps)

    def cut(self) -> Iterator[tuple[dict[str, dict[str, Any]], bool]]:
        """Yields minibatches ``{module_id: columns}``, each with whether it is the last one."""
        how = self._iterator
        whole = isinstance(how, MiniBatchDummyIterator)  # one minibatch of everything
        size, shuffle = (None, False) if whole else (how._minibatch_size, how._shuffle_batch_per_epoch)
        modules = {module_id: _Rows(batch, size, shuffle) for module_id, batch in self.items()}
        last = False
        while not last:
            minibatch = {}
            for module_id, rows in modules.items():
                minibatch[module_id], steps = rows.next()
                self.steps[module_id].append(steps)
            self.number += 1
            if whole:
                last = True
            elif how._num_total_minibatches:
                last = self.number >= how._num_total_minibatches
            else:
                last = min(rows.epochs for rows in modules.values()) >= how._num_epochs
            yield minibatch, last


class _Rows:
    """The rows of one module's batch, taken in turn; steps, or sequences."""

    def __init__(self, batch: Any, minibatch_size: int | None, shuffle: bool) -> None:
        if not len(batch):
            raise ValueError("the train batch of a module is empty")
        self.columns = dict(batch)
        self.shuffle = shuffle
        lengths = self.columns.get(Columns.SEQ_LENS)
        self.lengths = None if lengths is None else np.asarray(lengths.cpu())
        self.number = len(batch) if lengths is None else len(lengths)  # rows
        if minibatch_size is None:
            self.size = self.number
        elif lengths is None:
            self.size = minibatch_size
        else:
            # At least one sequence, where a minibatch is shorter; RLlib would go on for ever.
            self.size = max(int(self.number * (minibatch_size / len(batch))), 1)
        self.order = np.arange(self.number)
        self.current: dict[str, Any] | None = self.columns  # in the order of ``order``; None until asked for
        self.start = self.epochs = 0

    def next(self) -> tuple[dict[str, Any], int]:
        """The next minibatch, and its counted steps."""
        parts, steps, wanted = [], 0, self.size
        while self.start + wanted >= self.number:
            parts.append(self._slice(self.start, self.number))
            steps += self.count(self.start, self.number)
            wanted -= self.number - self.start
            self.start, self.epochs = 0, self.epochs + 1
            if self.shuffle:
                self.order = self.order[np.random.permutation(self.number)]  # noqa: NPY002, RLlib draws here, too
                self.current = None
        if wanted:
            parts.append(self._slice(self.start, self.start + wanted))
            steps += self.count(self.start, self.start + wanted)
        self.start += wanted
        return parts[0] if len(parts) == 1 else _map(lambda *leaves: torch.cat(leaves), *parts), steps

    def count(self, begin: int, end: int) -> int:
        """Counted steps of some rows."""
        return end - begin if self.lengths is None else int(self.lengths[self.order[begin:end]].sum())

    def _slice(self, begin: int, end: int) -> dict[str, Any]:
        if self.current is None:
            order = torch.from_numpy(self.order)
            self.current = _map(lambda leaf: leaf.index_select(0, order.to(leaf.device)), self.columns)
        return _map(lambda leaf: leaf[begin:end], self.current)


def _map(function: Callable, value: Any, *others: Any) -> Any:
    """The function on every tensor of nested dicts, lists and tuples."""
    if isinstance(value, dict):
        return {key: _map(function, item, *(other[key] for other in others)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map(function, *items) for items in zip(value, *others, strict=True))
    return function(value, *others)
