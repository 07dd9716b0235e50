"""Trials as Tune leaves them on disk: ``result.json`` (or ``progress.csv``) and ``params.json``."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rllib_stpn.causes import root_error
from rllib_stpn.errors import UsageError

ITERATION = "training_iteration"
TIMESTAMP = "timestamp"
_FILES = ("result.json", "progress.csv", "params.json")


@dataclasses.dataclass
class Trial:
    """One training.

    Attributes:
        path: The trial's directory.
        settings: Its ``params.json``, and what only its results tell, such as the model of a Python file.
        metrics: Metric path, such as ``env_runners/episode_return_mean`` -> ``[iterations]``, NaN where a result has
            none.
    """

    path: Path
    settings: dict[str, Any]
    metrics: dict[str, np.ndarray]

    @property
    def experiment(self) -> str:
        """Name of the experiment, which is that of the directory around the trial's."""
        return self.path.parent.name

    @property
    def algorithm(self) -> str:
        """Name of the algorithm, with which Tune lets the directory's name begin."""
        return self.path.name.split("_")[0]

    @property
    def subject(self) -> str:
        """The environment or the task."""
        return str(self.settings.get("env") or self.settings.get("task") or "unknown environment")

    @property
    def bare_subject(self) -> str:
        """The subject without the module that Gymnasium imports for it, as in ``stpn_envs:stpn/Maze-v0``."""
        return re.sub(r"^\w[\w.]*:(?=.*-v\d+$)", "", self.subject)

    @property
    def layer(self) -> str:
        """The layer that ``custom_model`` or ``recurrent_spec`` names; otherwise what RLlib's own model is."""
        model = self.settings.get("model")
        model = model if isinstance(model, dict) else {}
        if model.get("custom_model"):
            return model["custom_model"]
        if spec := self.settings.get("_rl_module_spec"):  # of a training from Python, as text
            of_rllib = re.search(r"'custom_model': '([^']+)'", str(spec))
            named = of_rllib or re.fullmatch(r"(?:\w+=.* )?(\w[\w.]*)", str(spec))  # the text of `recurrent_spec`'s
            return named[1] if named else "unknown layer"
        return f"RLlib {'LSTM' if model.get('use_lstm') else 'default'}"

    def column(self, *paths: str) -> np.ndarray:
        """The first of these metrics that has a finite value, ``[iterations]``; otherwise NaNs."""
        for path in paths:
            if np.isfinite(self.metrics[path]).any():
                return self.metrics[path]
        return self.metrics[paths[0]]


def read_trials(directories: Sequence[Path], metrics: Iterable[str]) -> tuple[list[Trial], list[str]]:
    """Reads every trial in and below some directories.

    Args:
        directories: Of trials, of experiments or above them. Links to directories are followed.
        metrics: Paths of the metrics to keep.

    Returns:
        The trials with at least one result, in the order of the directories and then by name, and a line on each file
        that is missing or broken, and on each trial that ended with an error.

    Raises:
        UsageError: A directory that does not exist, or no trial in any of them.
    """
    wanted = sorted({*metrics, ITERATION, TIMESTAMP})
    trials: dict[Path, Trial | None] = {}
    notes: list[str] = []
    for directory in directories:
        if not directory.is_dir():
            raise UsageError(f"report: {directory}: no such directory")
        found = set(_with_files(directory))
        if not found:
            notes.append(f"{directory}: no results of Tune in or below it: skipped")
        for path in sorted(found - trials.keys()):
            trials[path] = _read_trial(path, wanted, notes)
    if not trials:
        raise UsageError(
            f"report: {', '.join(map(str, directories))}: no results of Tune; allowed are directories with a trial's "
            "result.json in or below them"
        )
    return [trial for trial in trials.values() if trial is not None], notes


def _with_files(top: Path) -> Iterator[Path]:
    """The directories in and below this one that hold a file of Tune, each once, however many links lead there."""
    seen = set()
    for directory, below, files in os.walk(top, followlinks=True):
        path = Path(directory).resolve()
        if path in seen:  # a link may lead back up
            below.clear()
            continue
        seen.add(path)
        if not set(_FILES).isdisjoint(files):
            yield path


def at(result: Any, path: str) -> Any:
    """The entry of a result at ``env_runners/episode_return_mean``, nested as in JSON or flat as in CSV, or None."""
    if isinstance(result, dict) and path in result:
        return result[path]
    for key in path.split("/"):
        result = result.get(key) if isinstance(result, dict) else None
    return result


def _read_trial(path: Path, metrics: Sequence[str], notes: list[str]) -> Trial | None:
    rows: dict[float, list[float]] = {}
    of_results: Any = None
    is_done = False
    for file, read in ((path / "result.json", json_rows), (path / "progress.csv", _csv_rows)):
        if rows or not file.is_file():
            continue
        for number, row in read(file):
            iteration = _number(at(row, ITERATION))
            if np.isnan(iteration):
                notes.append(f"{file}: line {number} is cut off or broken: skipped")
                continue
            # A restored trial repeats the iterations behind its checkpoint; those it did last count.
            rows[iteration] = [_number(at(row, metric)) for metric in metrics]
            of_results = row.get("config", of_results)
            is_done = row.get("done") in (True, "True")
    if not rows:
        notes.append(f"{path}: no results (no whole line in result.json or progress.csv): skipped")
        return None
    error_file = path / "error.txt"
    if error_file.is_file() and not is_done:  # Tune leaves the file where another attempt went well
        said = root_error(error_file.read_text(encoding="utf-8", errors="replace"))
        notes.append(f"{path.parent.name}/{path.name} ended with an error, after the results shown: {said}")
    try:
        settings = json.loads((path / "params.json").read_text(encoding="utf-8"))
        if isinstance(settings, dict) and isinstance(of_results, dict):
            settings |= {key: of_results[key] for key in ("env", "model") if key in of_results}
    except (OSError, ValueError) as error:
        settings = of_results
        reason = "missing" if isinstance(error, FileNotFoundError) else "broken"
        known = isinstance(settings, dict)
        notes.append(
            f"{path / 'params.json'}: {reason}: {'the settings in its results stand in' if known else 'skipped'}"
        )
    if not isinstance(settings, dict):
        return None
    table = np.array([rows[iteration] for iteration in sorted(rows)])  # [iterations, metrics]
    return Trial(path, settings, dict(zip(metrics, table.T, strict=True)))


def json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered lines; a broken one is ``{}``."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError:
                row = {}
            yield number, row if isinstance(row, dict) else {}


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered lines below the heading; a broken one is ``{}``."""
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        reader = csv.DictReader(lines)
        for row in reader:
            whole = None not in row.values() and None not in row
            yield reader.line_num, row if whole else {}


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return np.nan
    return number if np.isfinite(number) else np.nan
