"""When a trial ends: its stop criteria, a signal, or its scheduler."""

import signal
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from ray.tune.schedulers import TrialScheduler

from rllib_stpn.experiments.interruption import Interruption
from rllib_stpn.experiments.results import metric


class StoppingScheduler(TrialScheduler):
    """Ends trials that meet a stop criterion, and all of them after an interruption; asks another scheduler otherwise.

    An interrupted trial ends with its next result, as one that reached its goal does: with a checkpoint.

    It is no Stopper of Tune's: a resumed run would get that of the run before, and stop at its goal.

    Args:
        scheduler: Decides between the trials.
        criteria: Metric path -> the value that ends a trial when it is reached or exceeded.
        interruption: Ends everything.
        given_up: Ids of the trials that the scheduler ended in the run before.

    Attributes:
        reasons: Trial id -> why the trial ended.
        given_up: Ids of the trials that the scheduler ended.
        settings: Trial id -> the settings that it began with, which Tune tells with a first result only.
        has_trials: Whether it has been given any; before a run begins, only a resumed one's have been.
    """

    def __init__(
        self,
        scheduler: TrialScheduler,
        criteria: Mapping[str, float],
        interruption: Interruption,
        given_up: Iterable[str] = (),
    ):
        super().__init__()
        self._scheduler = scheduler
        self._criteria = dict(criteria)
        self._interruption = interruption
        self.reasons: dict[str, str] = {}
        self.given_up = set(given_up)
        self.settings: dict[str, Mapping[str, Any]] = {}
        self.has_trials = False

    @property
    def interrupted(self) -> bool:
        """Whether a signal ends the run."""
        return self._interruption.signal is not None

    def note_end(self, trial_id: str) -> None:
        """Notes that a trial is over: where there is no other reason, the scheduler ended it."""
        if trial_id not in self.reasons and not self.interrupted:
            self._give_up(trial_id)

    @property
    def metric(self) -> str | None:
        """The metric that the scheduler goes by."""
        return self._scheduler.metric

    @property
    def supports_buffered_results(self) -> bool:
        """Whether the scheduler takes several results at once."""
        return self._scheduler.supports_buffered_results

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Hands on the metric that Tune was given."""
        return self._scheduler.set_search_properties(metric, mode, **spec)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Leaves out a trial of a resumed run that has nothing left to do: the scheduler never sees it."""
        self.has_trials = True
        self.settings[trial.trial_id] = trial.config
        if self._is_finished(trial.trial_id, trial.run_metadata.last_result):
            trial.set_status(trial.TERMINATED)
        else:
            self._scheduler.on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial ends with this result; :attr:`reasons` tells why."""
        if self._reached(trial.trial_id, result):
            return self.STOP
        if self._interruption.signal is not None:
            self.reasons[trial.trial_id] = signal.Signals(self._interruption.signal).name
            return self.STOP
        decision = self._scheduler.on_trial_result(tune_controller, trial, result)
        if decision == self.STOP:
            self._give_up(trial.trial_id)
        return decision

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The scheduler's choice; after an interruption none, and trials that wait end without a result."""
        if self._interruption.signal is None:
            return self._scheduler.choose_trial_to_run(tune_controller)
        for trial in tune_controller.get_trials():
            if trial.status in (trial.PENDING, trial.PAUSED):
                self.reasons[trial.trial_id] = signal.Signals(self._interruption.signal).name
                trial.init_local_path()  # It may have none yet, and Tune's results look for it.
                tune_controller.stop_trial(trial)
        return None

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Hands it on."""
        self._scheduler.on_trial_error(tune_controller, trial)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Hands it on."""
        self._scheduler.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Hands it on."""
        self._scheduler.on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        """The scheduler's own."""
        return self._scheduler.debug_string()

    def _give_up(self, trial_id: str) -> None:
        self.reasons[trial_id] = _BY_THE_SCHEDULER
        self.given_up.add(trial_id)

    def _is_finished(self, trial_id: str, last_result: Mapping[str, Any]) -> bool:
        if trial_id in self.given_up:
            self.reasons[trial_id] = _BY_THE_SCHEDULER
            return True
        return self._reached(trial_id, last_result)

    def _reached(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        for path, goal in self._criteria.items():
            value = metric(result, path)
            if isinstance(value, Real) and float(value) >= goal:
                self.reasons[trial_id] = f"{path} {float(value):,.6g} reached {goal:,.6g}"
                return True
        return False


_BY_THE_SCHEDULER = "by the scheduler"
