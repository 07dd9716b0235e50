"""When a trial ends: its stop criteria, or a signal."""

import signal
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune import Callback, Stopper

from rllib_stpn.experiments.results import metric


class Interruption:
    """Whether somebody asked the run to end: ``signal`` is the number of SIGINT, SIGTERM or SIGPIPE, else None."""

    def __init__(self):
        self.signal: int | None = None

    @property
    def exit_code(self) -> int:
        """As shells count: 128 and the signal's number."""
        return 128 + (self.signal or 0)

    def __reduce__(self):
        return Interruption, ()  # Tune pickles what it runs with; a signal is not for another day.


class StopWhen(Stopper):
    """Ends a trial when a metric reaches its value, and every trial when the user interrupts.

    An interrupted trial ends with its next result, as one that reached its goal does: with a checkpoint.

    Args:
        criteria: Metric path -> the value that ends the trial when it is reached or exceeded.
        interruption: Ends everything.
    """

    _of_this_run: "StopWhen | None" = None

    def __init__(self, criteria: Mapping[str, float], interruption: Interruption):
        self._criteria = dict(criteria)
        self._interruption = interruption
        self._running: set[str] = set()
        self.reasons: dict[str, str] = {}
        StopWhen._of_this_run = self

    def __reduce__(self):
        return _restored, (self._criteria,)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial ends with this result; :attr:`reasons` tells why."""
        if self.reached(trial_id, result):
            return True
        if self._interruption.signal is not None:
            self.reasons[trial_id] = f"{signal.Signals(self._interruption.signal).name}"
            return True
        return False

    def reached(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether the result meets a criterion; :attr:`reasons` tells which."""
        for path, goal in self._criteria.items():
            value = metric(result, path)
            if isinstance(value, (int, float)) and value >= goal:
                self.reasons[trial_id] = f"{path} {value:,.6g} reached {goal:,.6g}"
                return True
        return False

    def stop_all(self) -> bool:
        """Whether what remains may be dropped: after an interruption, once no trial is at work."""
        return self._interruption.signal is not None and not self._running

    def watch(self) -> Callback:
        """The Tune callback that keeps this stopper informed of which trials are at work."""
        return _Watch(self._running)


def _restored(criteria: Mapping[str, float]) -> StopWhen:
    """The stopper of this run, where there is one: Tune puts that of the run before in its place when it resumes."""
    return StopWhen._of_this_run or StopWhen(criteria, Interruption())


class _Watch(Callback):
    def __init__(self, running: set[str]):
        self._running = running

    def on_trial_start(self, iteration: int, trials: Sequence, trial, **info) -> None:
        self._running.add(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: Sequence, trial, **info) -> None:
        self._running.discard(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: Sequence, trial, **info) -> None:
        self._running.discard(trial.trial_id)
