"""Resuming an experiment that was interrupted or killed, or that has new stop criteria.

Which checkpoint a trial goes on from is decided in :mod:`recovery`.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from ray import cloudpickle
from ray.tune import Callback

from rllib_stpn.errors import UsageError, in_words
from rllib_stpn.experiments import recovery
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.recovery import TrialLog
from rllib_stpn.experiments.result_files import ITERATION, directory_of, forget_from
from rllib_stpn.experiments.stopping import StoppingScheduler

_E = TypeVar("_E", bound=Experiment)
_FILE = "rllib_experiment.pkl"


def remember(experiment: Experiment) -> None:
    """Saves the experiment for :func:`recall`. A new run replaces an earlier one of the same name."""
    directory = Path(experiment.storage_path) / experiment.name
    directory.mkdir(parents=True, exist_ok=True)
    if not experiment.resume:
        TrialLog(directory).clear()
    written = directory / f"{_FILE}.new"
    written.write_bytes(cloudpickle.dumps(experiment))
    os.replace(written, directory / _FILE)


def recall(storage_path: str, name: str | None) -> Experiment:
    """The experiment of this name, or the one last begun.

    Args:
        storage_path: The directory that holds its directory.
        name: Its name, None for the last.

    Raises:
        UsageError: There is none.
    """
    storage = Path(storage_path).expanduser().absolute()
    known = sorted(storage.glob(f"*/{_FILE}"), key=lambda file: file.stat().st_mtime)
    found = [file for file in known if name in (None, file.parent.name)]
    if not found:
        names = ", ".join(sorted(file.parent.name for file in known)[-5:]) or "none"
        raise UsageError(f"--resume: no experiment {name or 'of rllib train'} in {storage}; there are: {names}")
    without = "; rllib train -f FILE --resume goes on without it"
    try:
        experiment = cloudpickle.loads(found[-1].read_bytes())
    except Exception as error:  # Unpickling imports what the experiment was made of.
        raise UsageError(f"--resume: {found[-1]} cannot be read: {in_words(error)}{without}") from error
    if not {field.name for field in dataclasses.fields(Experiment)} <= set(vars(experiment)):
        raise UsageError(f"--resume: {found[-1]} is of another version of rllib-stpn{without}")
    return dataclasses.replace(experiment, storage_path=str(storage), name=found[-1].parent.name, notes=())


def can_go_on(experiment: Experiment) -> bool:
    """Whether a run has left anything of an experiment."""
    from ray.tune import Tuner

    directory = f"{experiment.storage_path}/{experiment.name}"
    if "://" in directory:
        return Tuner.can_restore(directory)
    return recovery.something_there(Path(directory))


def as_begun(experiment: _E) -> tuple[_E, list[str]]:
    """The experiment with the settings of its first run, which Tune resumes, and the names of those that differ now.

    Raises:
        UsageError: It was begun with another algorithm.
    """
    try:
        first = recall(experiment.storage_path, experiment.name)
    except UsageError:  # The file cannot be loaded, or we did not write it; Tune does not need it.
        return experiment, []
    if first.algorithm != experiment.algorithm:
        raise UsageError(
            f"--resume: {experiment.name} in {experiment.storage_path} was begun with {first.algorithm}, and this is "
            f"{experiment.algorithm}: allowed are another --experiment-name and no --resume"
        )
    if experiment.base is not None:  # The objects of a Python file are made anew.
        return experiment, []
    before, now = (
        {
            **each.config,
            **each.checkpoint,
            "num_samples": each.num_samples,
            "max_failures": each.max_failures,
        }
        for each in (first, experiment)
    )
    changed = [key for key in before | now if before.get(key) != now.get(key)]
    kept = ("config", "folded", "checkpoint", "num_samples", "max_failures")
    return dataclasses.replace(experiment, **{name: getattr(first, name) for name in kept}), changed


class Bookkeeping(Callback):
    """Keeps what a resumed run needs: which trials the scheduler stopped, and files without what a trial repeats.

    Tune counts a trial that a signal ended as it counts one that reached its goal. So a resumed run is offered all its
    trials, and the scheduler leaves out those that have nothing left to do.

    Args:
        scheduler: The run's scheduler.
        log: Where trials are noted, None for a storage that is no directory of this machine.
        goes_on: Whether there are trials to go on with, so that none may begin in their place.
    """

    def __init__(self, scheduler: StoppingScheduler, log: TrialLog | None = None, goes_on: bool = False):
        self._scheduler = scheduler
        self._log = log
        self._goes_on = goes_on
        self._noted: set[str] = set(log.states()) if log is not None else set()
        self._started: set[str] = set()

    def setup(self, *args: Any, **info: Any) -> None:
        """Makes sure that Tune resumes. Where it cannot, it would only log why, and start over.

        Raises:
            UsageError: Tune cannot resume.
        """
        if self._goes_on and not self._scheduler.has_trials:
            raise UsageError("--resume: Tune cannot go on with what is there, and nothing was begun; -v tells more")

    def get_state(self) -> dict[str, Any]:
        """What the next run has to know."""
        return {"given_up": sorted(self._scheduler.given_up)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes it from the run before."""
        self._scheduler.given_up |= set(state["given_up"])

    def on_trial_start(self, iteration: int, trials: Sequence, trial: Any, **info) -> None:
        """Expects the first result of a trial that starts, or starts again."""
        self._started.add(trial.trial_id)
        if self._log is not None and trial.trial_id not in self._noted:
            self._noted.add(trial.trial_id)
            self._log.begun(trial)

    def on_trial_result(self, iteration: int, trials: Sequence, trial: Any, result: dict[str, Any], **info) -> None:
        """Takes out of the files what a trial reported after the checkpoint that it now goes on from."""
        if trial.trial_id in self._started:
            self._started.remove(trial.trial_id)
            forget_from(directory_of(trial), result[ITERATION])

    def on_trial_complete(self, iteration: int, trials: Sequence, trial: Any, **info) -> None:
        """Notes a trial that only the scheduler can have ended."""
        self._scheduler.note_end(trial.trial_id)
        if trial.trial_id in self._scheduler.given_up and self._log is not None:
            self._log.given_up(trial)
