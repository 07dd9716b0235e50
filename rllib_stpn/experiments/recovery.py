"""From which files an experiment goes on, after its run was killed or its disk was full, at any moment.

Tune goes on from its last snapshot of the experiment, which may be seconds older than the checkpoints, or cut short.
So a new snapshot is made first. It has the trials of the last snapshot and of ``rllib_trials.jsonl``, each with the
newest whole checkpoint in its directory.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.train._internal.checkpoint_manager import _CheckpointManager
from ray.train._internal.session import _TrainingResult
from ray.tune.experiment import Trial

from rllib_stpn.agents.checkpoints import checkpoints_of, newest_whole
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments import result_files
from rllib_stpn.experiments.experiment import Experiment
from rllib_stpn.experiments.results import paths_of
from rllib_stpn.whole_checkpoints import RESULT, UNFINISHED

_SNAPSHOT = "experiment_state-{}.json"
#: The state of the searcher and of callbacks, which Tune reads, too; it goes on without them.
_BESIDE = ("basic-variant-state-*.json", "callback-states-*.pkl")
_ITERATION = result_files.ITERATION


class TrialLog:
    """The trials of an experiment, noted as they begin, in a file of the experiment's directory.

    A line for each event; a line that is cut short spoils no other.

    Args:
        directory: The experiment's.
    """

    def __init__(self, directory: Path):
        self._file = directory / "rllib_trials.jsonl"

    def clear(self) -> None:
        """Forgets the trials of a run before."""
        self._file.unlink(missing_ok=True)

    def begun(self, trial: Trial) -> None:
        """Notes a trial that begins."""
        self._add({"trial": trial.trial_id, "state": trial.get_json_state()[0]})

    def given_up(self, trial: Trial) -> None:
        """Notes a trial that the scheduler has ended."""
        self._add({"trial": trial.trial_id, "given_up": True})

    def states(self) -> dict[str, str]:
        """What Tune needs to know of each trial, by its id."""
        return {line["trial"]: line["state"] for line in self._lines() if "state" in line}

    def all_given_up(self) -> set[str]:
        """The ids of the trials that a scheduler has ended."""
        return {line["trial"] for line in self._lines() if line.get("given_up")}

    def _add(self, line: dict[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line))
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> Iterator[dict[str, Any]]:
        text = self._file.read_text(encoding="utf-8", errors="replace") if self._file.is_file() else ""
        for line in text.split("\n"):
            with contextlib.suppress(ValueError):
                found = json.loads(line)
                if isinstance(found, dict) and "trial" in found:
                    yield found


def something_there(directory: Path) -> bool:
    """Whether a run has left anything in an experiment's directory that it could go on with."""
    names = (_SNAPSHOT.format("*"), "rllib_trials.jsonl", "*/checkpoint_*")
    return any(True for name in names for _ in directory.glob(name))


def recover(experiment: Experiment) -> list[str]:
    """Makes the snapshot that Tune goes on from, and fits the files of each trial to its checkpoint.

    Args:
        experiment: One with something there, see :func:`something_there`, in a directory of this machine.

    Returns:
        What was broken, and what is used in its place.

    Raises:
        UsageError: Nothing tells what trials there were, or a trial has checkpoints and none of them is whole.
        OSError: The disk is full, or cannot be written to.
    """
    directory = Path(experiment.storage_path) / experiment.name
    trials, notes = _known_trials(directory)
    if not trials:
        raise UsageError(
            f"--resume: nothing in {directory} tells what trials there were; allowed are --restore CHECKPOINT and "
            "another --experiment-name, or a run without --resume"
        )
    config = tune.CheckpointConfig(**{"checkpoint_at_end": True, **experiment.checkpoint})
    for trial in trials:
        trial.storage.storage_fs_path, trial.storage.experiment_dir_name = experiment.storage_path, experiment.name
        notes += _set_to_newest(trial, config)
    for pattern in _BESIDE:
        notes += _set_aside(sorted(directory.glob(pattern)), _unpickles)
    if len(trials) < experiment.num_trials and not any(directory.glob(_BESIDE[0])):
        notes.append(f"{len(trials)} of {experiment.num_trials} trials go on; which others were to come is lost")
    _write_snapshot(directory, trials)
    return notes


def _known_trials(directory: Path) -> tuple[list[Trial], list[str]]:
    """The trials of the last snapshot that can be read, and those begun since."""
    trials: dict[str, Trial] = {}
    snapshots = sorted(directory.glob(_SNAPSHOT.format("*")))
    broken: list[Path] = []
    for snapshot in reversed(snapshots):
        try:
            for state, metadata in json.loads(snapshot.read_text(encoding="utf-8"))["trial_data"]:
                trial = Trial.from_json_state(state, stub=True)
                trial.restore_run_metadata(metadata)
                trials[trial.trial_id] = trial
            break
        except Exception:  # It holds pickles, too.
            trials = {}
            broken.append(snapshot)
    for trial_id, state in TrialLog(directory).states().items():
        if trial_id not in trials:
            with contextlib.suppress(Exception):
                trials[trial_id] = Trial.from_json_state(state, stub=True)
    notes = _set_aside(broken, lambda file: False) if trials else []
    return list(trials.values()), notes


def _set_aside(files: list[Path], can_be_read: Any) -> list[str]:
    """Renames the newest files as long as they cannot be read: Tune reads the newest alone."""
    notes = []
    for file in reversed(files):
        if can_be_read(file):
            break
        os.replace(file, file.with_name(f"{file.name}.broken"))
        notes.append(f"{file}: cannot be read: gone on without it, and renamed to {file.name}.broken")
    return notes


def _unpickles(file: Path) -> bool:
    try:
        return bool(cloudpickle.loads(file.read_bytes()))
    except Exception:  # whatever a garbled one makes of it
        return False


def _set_to_newest(trial: Trial, config: tune.CheckpointConfig) -> list[str]:
    """Lets a trial go on from the newest whole checkpoint in its directory."""
    directory = Path(trial.storage.trial_fs_path)
    shutil.rmtree(directory / UNFINISHED, ignore_errors=True)
    there = checkpoints_of(directory)
    newest, broken = newest_whole(directory)
    trial.storage.current_checkpoint_index = max([_index(each) for each in there], default=-1)
    if newest is None:
        if broken:
            raise UsageError(f"--resume: none of the checkpoints in {directory} is whole; {_name(broken[0])}")
        return _without_checkpoint(trial, directory, config)
    before = trial.run_metadata.checkpoint_manager.latest_checkpoint_result
    ended = trial.status == Trial.TERMINATED and before is not None
    ended = ended and Path(before.checkpoint.path).name == newest.name
    metrics = _metrics(trial, there[: there.index(newest) + 1])
    if newest not in metrics:
        raise UsageError(f"--resume: {newest}: its iteration is not known; --restore {newest} begins with it")
    manager = _CheckpointManager(_without_limit(config))
    for path, of_checkpoint in metrics.items():
        found = tune.Checkpoint(path=str(path), filesystem=trial.storage.storage_filesystem)
        manager.register_checkpoint(_TrainingResult(checkpoint=found, metrics=of_checkpoint))
    manager._checkpoint_config = config
    trial.run_metadata.checkpoint_manager = manager
    if not ended:  # else it may have had results behind its last checkpoint
        trial.run_metadata.last_result = {"config": trial.config, "trial_id": trial.trial_id, **metrics[newest]}
        trial.set_status(Trial.PENDING)
    trial.invalidate_json_state()
    notes = [f"{_name(each)}: gone on from {newest.name}" for each in broken]
    return notes + result_files.fit(directory, trial.run_metadata.last_result[_ITERATION])


def _without_limit(config: tune.CheckpointConfig) -> tune.CheckpointConfig:
    """A copy that deletes nothing."""
    return tune.CheckpointConfig(
        checkpoint_score_attribute=config.checkpoint_score_attribute,
        checkpoint_score_order=config.checkpoint_score_order,
    )


def _without_checkpoint(trial: Trial, directory: Path, config: tune.CheckpointConfig) -> list[str]:
    """A trial has nothing to go on from; where it ended as asked, its last result stands."""
    if trial.status == Trial.TERMINATED:
        return []
    if (had := trial.run_metadata.checkpoint_manager.latest_checkpoint_result) is not None:
        raise UsageError(
            f"--resume: {directory}: its checkpoints are gone, the last was {Path(had.checkpoint.path).name}; "
            "allowed are the --storage-path that they were moved to, or another name without --resume"
        )
    trial.run_metadata.checkpoint_manager = _CheckpointManager(config)
    if not directory.exists():
        return []
    trial.run_metadata.last_result = {}
    return [f"{directory}: it has no checkpoint: it begins with its first iteration"]


def _name(broken: tuple[Path, str]) -> str:
    return f"{broken[0]}: broken: {broken[1]}"


def _index(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("_")[2]
    return int(number) if number.isdigit() else -1


def _metrics(trial: Trial, checkpoints: list[Path]) -> dict[Path, dict[str, Any]]:
    """The result that each checkpoint was written with; a checkpoint whose result is not known is left out."""
    manager = trial.run_metadata.checkpoint_manager
    known = {Path(each.checkpoint.path).name: each.metrics for each in manager._checkpoint_results}
    if manager.latest_checkpoint_result is not None:
        latest = manager.latest_checkpoint_result
        known.setdefault(Path(latest.checkpoint.path).name, latest.metrics)
    results: dict[int, dict[str, Any]] | None = None
    found = {}
    for path in checkpoints:
        result: Any = None
        with contextlib.suppress(OSError, ValueError):
            result = json.loads((path / RESULT).read_text(encoding="utf-8"))
        if not isinstance(result, dict) or _ITERATION not in result:
            result = known.get(path.name)
        if result is None:  # of a version that did not write it
            if results is None:
                results = result_files.results(Path(trial.storage.trial_fs_path))
            result = results.get(_iteration_in(path))
        if result is not None and _ITERATION in result:
            found[path] = {**result, **paths_of(result)}
    return found


def _iteration_in(checkpoint: Path) -> int:
    """The iteration that RLlib's own state tells; 0 where it tells none."""
    with contextlib.suppress(Exception):
        return int(cloudpickle.loads((checkpoint / "algorithm_state.pkl").read_bytes())["training_iteration"])
    return 0


def _write_snapshot(directory: Path, trials: list[Trial]) -> None:
    now = time.time()
    session = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now))
    data = []
    for trial in trials:
        state, metadata = trial.get_json_state()
        data.append([json.dumps({**json.loads(state), "stub": False}), metadata])
    snapshot = {
        "trial_data": data,
        "runner_data": {"_session_str": session, "_start_time": now},
        "stats": {"start_time": now},
    }
    newest = max([_SNAPSHOT.format(session), *(each.name for each in directory.glob(_SNAPSHOT.format("*")))])
    written = directory / f"{newest}.new"
    written.write_text(json.dumps(snapshot), encoding="utf-8")
    os.replace(written, directory / newest)
