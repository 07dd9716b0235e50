"""Going on with an experiment whose run was interrupted or killed, or whose goal has been moved."""

import csv
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from ray import cloudpickle
from ray.tune import Callback

from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.stopping import StoppingScheduler

_E = TypeVar("_E", bound=Experiment)
_FILE = "rllib_experiment.pkl"
_ITERATION = "training_iteration"


def remember(experiment: Experiment) -> None:
    """Leaves the experiment in its directory, for :func:`recall`."""
    directory = Path(experiment.storage_path) / experiment.name
    directory.mkdir(parents=True, exist_ok=True)
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
    try:
        experiment = cloudpickle.loads(found[-1].read_bytes())
    except Exception as error:  # Unpickling imports what the experiment was made of.
        raise UsageError(f"--resume: {found[-1]} cannot be read: {type(error).__name__}: {error}") from error
    return dataclasses.replace(experiment, storage_path=str(storage), name=found[-1].parent.name, notes=())


def can_go_on(experiment: Experiment) -> bool:
    """Whether Tune has left anything of an experiment."""
    from ray.tune import Tuner

    directory = f"{experiment.storage_path}/{experiment.name}"
    if "://" in directory:
        return Tuner.can_restore(directory)
    return any(Path(directory).glob("experiment_state-*.json"))


def as_begun(experiment: _E) -> tuple[_E, list[str]]:
    """An experiment that goes on, which Tune does with the settings of its first run, and those it had otherwise.

    Raises:
        UsageError: It was begun with another algorithm.
    """
    try:
        first = recall(experiment.storage_path, experiment.name)
    except UsageError:  # What it was made of is gone, or was not written by us. Tune needs none of it.
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
    """Keeps what a resumed run needs: which trials the scheduler gave up, and files without what a trial repeats.

    Tune counts a trial that a signal ended as it counts one that reached its goal. So a resumed run is offered all its
    trials, and the scheduler leaves out those that have nothing left to do.

    Args:
        scheduler: The run's scheduler.
    """

    def __init__(self, scheduler: StoppingScheduler):
        self._scheduler = scheduler
        self._started: set[str] = set()

    def get_state(self) -> dict[str, Any]:
        """What the next run has to know."""
        return {"given_up": sorted(self._scheduler.given_up)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes it from the run before."""
        self._scheduler.given_up = set(state["given_up"])

    def on_trial_start(self, iteration: int, trials: Sequence, trial: Any, **info) -> None:
        """Expects the first result of a trial that starts, or starts again."""
        self._started.add(trial.trial_id)

    def on_trial_result(self, iteration: int, trials: Sequence, trial: Any, result: dict[str, Any], **info) -> None:
        """Takes out of the files what a trial reported after the checkpoint that it now goes on from."""
        if trial.trial_id in self._started:
            self._started.remove(trial.trial_id)
            forget_from(Path(trial.local_path), result[_ITERATION])


def forget_from(directory: Path, iteration: int) -> None:
    """Cuts ``result.json`` and ``progress.csv`` before their first line of this iteration, or a later one.

    In place: Tune's loggers have them open, and append.
    """
    file = directory / "result.json"
    if file.exists():
        with file.open("rb") as lines:
            kept = 0
            for line in lines:
                if not line.endswith(b"\n") or json.loads(line)[_ITERATION] >= iteration:
                    break
                kept += len(line)
        os.truncate(file, kept)
    file = directory / "progress.csv"
    if file.exists() and file.stat().st_size:
        with file.open(newline="", encoding="utf-8", errors="surrogateescape") as text:
            rows = csv.reader(text)
            column = next(rows).index(_ITERATION)
            kept = rows.line_num
            for row in rows:
                if len(row) <= column or int(row[column]) >= iteration:
                    break
                kept = rows.line_num
        with file.open("rb") as lines:
            size = sum(len(next(lines)) for _ in range(kept))
        os.truncate(file, size)
