"""A trial's ``result.json`` and ``progress.csv``: written to their final place, and cut to fit its checkpoint."""

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
from ray.tune.utils import flatten_dict

RESULTS, TABLE = "result.json", "progress.csv"
ITERATION = "training_iteration"


def directory_of(trial: Any) -> Path:
    """The directory in which the files of a trial are written."""
    return Path(trial.path if trial.storage.storage_filesystem.type_name == "local" else trial.local_path)


def files_in_place() -> list[Callback]:
    """Tune's loggers, which write into a storage on this machine at once.

    Tune itself copies the files there, up to ten seconds later. Without this copy they have every result up to the last
    checkpoint, whenever the process is killed.
    """
    return [_Results(), _Table()]


class _InPlace:
    """A trial as the loggers see it: they write into the storage at once, and find their files there."""

    checkpoint = None  # So they fetch nothing.

    def __init__(self, trial: Any):
        self._trial = trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _InPlace) and self._trial is other._trial

    def __hash__(self) -> int:
        return hash(self._trial)

    @property
    def local_path(self) -> str:
        return self._trial.path

    def init_local_path(self) -> None:
        self._trial.init_local_path()
        os.makedirs(self._trial.path, exist_ok=True)


class _Results(JsonLoggerCallback):
    def log_trial_start(self, trial: Any) -> None:
        super().log_trial_start(_InPlace(trial))  # type: ignore[arg-type]

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        super().log_trial_result(iteration, _InPlace(trial), result)  # type: ignore[arg-type]

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        super().log_trial_end(_InPlace(trial), failed)  # type: ignore[arg-type]


class _Table(CSVLoggerCallback):
    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        here: Any = _InPlace(trial)
        if here not in self._trial_files:
            self._setup_trial(here)
            with (directory_of(trial) / TABLE).open(newline="", encoding="utf-8", errors="replace") as file:
                if head := next(csv.reader(file), None):  # A run that goes on may begin with other columns.
                    self._trial_csv[here] = csv.DictWriter(self._trial_files[here], head)
        if self._trial_csv[here] is not None:
            self._widen(here, flatten_dict({k: v for k, v in result.items() if k != "config"}, delimiter="/"))
        super().log_trial_result(iteration, here, result)

    def _widen(self, trial: Any, columns: Iterable[str]) -> None:
        """Gives the table the columns that it has not: Tune leaves out what the first result is without.

        That is the return, for one, where no episode has ended yet.
        """
        head = dict.fromkeys(self._trial_csv[trial].fieldnames)
        more = [name for name in columns if name not in head]
        if not more:
            return
        table = Path(trial.local_path) / TABLE
        self._trial_files[trial].close()
        widen(table, more)
        self._trial_files[trial] = table.open("at")
        self._trial_csv[trial] = csv.DictWriter(self._trial_files[trial], [*head, *more])

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        super().log_trial_end(_InPlace(trial), failed)  # type: ignore[arg-type]


def widen(table: Path, columns: Sequence[str]) -> None:
    """Adds empty columns to a table, last. Lines that cannot be read stay as they are."""
    named = io.StringIO()
    csv.writer(named, lineterminator="").writerow(columns)
    names = b"," + named.getvalue().encode()
    empty = b"," * len(columns)
    written = table.with_suffix(".new")
    with written.open("wb") as file:
        for line, found in _table_lines(table):
            whole = line.rstrip(b"\r\n")
            added = b"" if found is None else names if found == _HEAD else empty
            file.write(whole + added + line[len(whole) :])
    os.replace(written, table)


def forget_from(directory: Path, iteration: int) -> None:
    """Cuts ``result.json`` and ``progress.csv`` before their first line of this iteration, or a later one.

    In place: Tune's loggers have them open, and append. Lines that cannot be read stay.
    """
    for name, lines in ((RESULTS, _result_lines), (TABLE, _table_lines)):
        file = directory / name
        if not file.exists():
            continue
        kept = 0
        for line, found in lines(file):
            if (found is not None and found >= iteration) or not line.endswith(b"\n"):
                break
            kept += len(line)
        os.truncate(file, kept)


def fit(directory: Path, iteration: int) -> list[str]:
    """Leaves in ``result.json`` and ``progress.csv`` the whole lines up to an iteration, each once.

    Args:
        directory: The trial's.
        iteration: The last one to keep: that of the checkpoint that the trial goes on from.

    Returns:
        What was garbled or is missing, for the user.

    Raises:
        OSError: The disk is full, or cannot be written to.
    """
    notes = []
    for name, lines in ((RESULTS, _result_lines), (TABLE, _table_lines)):
        file = directory / name
        if not file.exists():
            continue
        kept: list[bytes] = []
        seen: set[int] = set()
        garbled = size = 0
        for line, found in lines(file):
            size += len(line)
            if found == _HEAD or (found is not None and found <= iteration and found not in seen):
                kept.append(line)
                seen.add(found)
            # A killed process leaves half a line at the end; its iteration is done again.
            garbled += found is None and line.strip() != b"" and line.endswith(b"\n")
        if sum(map(len, kept)) != size:
            written = file.with_suffix(".new")
            written.write_bytes(b"".join(kept))
            os.replace(written, file)
        told = [f"{garbled} garbled {'line' if garbled == 1 else 'lines'} left out"] if garbled else []
        if gaps := _in_words(sorted(set(range(1, iteration + 1)) - seen)):
            told.append(f"it has no iteration {gaps}")
        if told:
            notes.append(f"{file}: {', '.join(told)}")
    return notes


_HEAD = 0


def results(directory: Path) -> dict[int, dict[str, Any]]:
    """The results in ``result.json`` that can be read, by their iteration."""
    file = directory / RESULTS
    lines = _result_lines(file) if file.exists() else ()
    return {found: json.loads(line) for line, found in lines if found is not None}


def _result_lines(file: Path) -> Iterator[tuple[bytes, int | None]]:
    """Each line with its iteration, None for a line that cannot be read."""
    with file.open("rb") as lines:
        for line in lines:
            try:
                yield line, int(json.loads(line)[ITERATION]) if line.endswith(b"\n") else None
            except (ValueError, KeyError, TypeError):
                yield line, None


def _table_lines(file: Path) -> Iterator[tuple[bytes, int | None]]:
    """Each row, which may have several lines, with its iteration: 0 for the head, None for what cannot be read."""
    with file.open("rb") as opened:
        lines = list(opened)
    column, at = None, 0
    while at < len(lines):
        rows = csv.reader(lines[i].decode("utf-8", errors="surrogateescape") for i in range(at, len(lines)))
        found = None
        with contextlib.suppress(csv.Error):
            row = next(rows)
            if column is None and ITERATION in row:
                column, found = row.index(ITERATION), _HEAD
            elif column is not None and len(row) > column and row[column].isdigit():
                found = int(row[column])
        after = at + (max(rows.line_num, 1) if found is not None else 1)  # A lost quote takes no other rows with it.
        whole = lines[after - 1].endswith(b"\n")
        yield b"".join(lines[at:after]), found if whole else None
        at = after


def _in_words(numbers: list[int]) -> str:
    """Such as ``"3, 5 to 8"``; empty for none."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
