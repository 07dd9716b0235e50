"""What trials ask for that is not there: told at once where it cannot come, and now and then where it may."""

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune import Callback

from rllib_stpn.cli.progress import duration
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import searches
from rllib_stpn.experiments.folding import Room
from rllib_stpn.experiments.loading import Experiment

_FIRST = 5.0  # seconds, for a machine under load is slow to place what fits
_LONGEST = 300.0
_OF_ANY_MACHINE = ("memory", "object_store_memory")
_MOST_POINTS = 64


def refuse_what_never_comes(experiment: Experiment, room: Room) -> None:
    """Raises a UsageError where a trial would wait for ever: Ray, started on this machine alone, gets no more of it.

    Args:
        experiment: Fitted to the machine.
        room: What the machine has.
    """
    from rllib_stpn.experiments.trial import trial_class

    trainable = trial_class(experiment.run, experiment.base)
    have = {"CPU": sum(room.cpus), "GPU": sum(room.gpus)}
    for point in itertools.islice(searches.points(experiment.config), _MOST_POINTS):
        factory = trainable.default_resource_request(point)
        asked = _total(factory.bundles) if factory is not None else {}
        for name, amount in asked.items():
            there = have.get(name, 0)
            if amount <= there or name.startswith(("node:", "accelerator_type:")) or name in _OF_ANY_MACHINE:
                continue
            by = ", ".join(_asking(name, point))
            raise UsageError(
                f"{experiment.where}: a trial asks for {in_words({name: amount})}{f' ({by})' if by else ''}, there are "
                f"{there:g}; a cluster that has it is joined with --ray-address"
            )


def _asking(name: str, settings: Mapping[str, Any]) -> list[str]:
    """The settings that ask for a resource."""
    kind = {"CPU": "num_cpus", "GPU": "num_gpus"}.get(name, "custom_resources")
    asking = {key: value for key, value in settings.items() if key.startswith(kind) and value}
    return [f"{key} {value}" for key, value in asking.items() if not isinstance(value, dict) or name in value]


class Waiting(Callback):
    """Prints what trials wait for, while none runs: after 5 seconds, and then in growing intervals.

    Args:
        first: Seconds until the first line.
    """

    def __init__(self, first: float = _FIRST):
        self._first = first
        self._since: float | None = None
        self._next = 0.0

    def on_step_begin(self, iteration: int, trials: Sequence, **info) -> None:
        """Looks, if it is time to."""
        now = time.monotonic()
        pending = [trial for trial in trials if trial.status == trial.PENDING]
        if not pending or any(trial.status == trial.RUNNING for trial in trials):
            self._since = None
            return
        if self._since is None:
            self._since, self._next = now, now + self._first
        if now < self._next:
            return
        waited = now - self._since
        self._next = now + self._first
        asked = _total(pending[0].placement_group_factory.bundles)
        if not _unplaced(asked):  # It only starts.
            return
        import ray

        self._next = now + min(max(waited, self._first), _LONGEST)
        have, free = ray.cluster_resources(), ray.available_resources()
        there = ", ".join(f"{in_words({name: have.get(name, 0)})} ({free.get(name, 0):g} free)" for name in asked)
        print(f"waiting {duration(waited)}: a trial asks for {in_words(asked)}; Ray has {there}", flush=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_since": None}  # Tune keeps it for another day.


def _total(bundles: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for bundle in bundles:
        total.update(bundle)  # type: ignore[arg-type]
    return {name: amount for name, amount in total.items() if amount}


def _unplaced(asked: Mapping[str, float]) -> bool:
    """Whether Ray has found no place for processes that ask for this, all together."""
    from ray.util import placement_group_table

    return any(
        group["state"] in ("PENDING", "INFEASIBLE") and _total(list(group["bundles"].values())) == asked
        for group in placement_group_table().values()
    )


def in_words(resources: Mapping[str, float]) -> str:
    """Such as ``"2 CPUs, 1 GPU, 1 license"``."""

    def one(name: str, amount: float) -> str:
        return f"{amount:g} {name}{'s' if name in ('CPU', 'GPU') and amount != 1 else ''}"

    return ", ".join(one(name, amount) for name, amount in resources.items()) or "nothing"
