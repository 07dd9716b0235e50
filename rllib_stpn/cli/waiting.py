"""Lines on the terminal while trials wait for resources."""

import time
from collections.abc import Sequence
from typing import Any

from ray.tune import Callback

from rllib_stpn.cli.progress import duration
from rllib_stpn.experiments.resources import in_words, total, unplaced

_FIRST = 5.0  # seconds, for a machine under load is slow to place what fits
_LONGEST = 300.0


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
        asked = total(pending[0].placement_group_factory.bundles)
        if not unplaced(asked):  # It only starts.
            return
        import ray

        self._next = now + min(max(waited, self._first), _LONGEST)
        have, free = ray.cluster_resources(), ray.available_resources()
        there = ", ".join(f"{in_words({name: have.get(name, 0)})} ({free.get(name, 0):g} free)" for name in asked)
        print(f"waiting {duration(waited)}: a trial asks for {in_words(asked)}; Ray has {there}", flush=True)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_since": None}  # Tune keeps it for another day.
