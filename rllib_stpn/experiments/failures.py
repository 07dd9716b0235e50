"""Why a trial, or a whole run, failed, in a line."""

import contextlib
import errno
import re
import traceback as tracebacks
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback

from rllib_stpn.causes import Cause, root_error

#: What is wrong with a disk wherever it is said, and what may be where it is said of a run's own files.
_OF_A_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EIO: "the disk has a fault",
    errno.ESTALE: "the disk of another machine is gone",
}
_OF_A_PATH = {
    errno.ENOENT: "it is not there any more",
    errno.ENOTDIR: "it is not there any more",
    errno.EACCES: "it cannot be written to",
    errno.EPERM: "it cannot be written to",
}
_NUMBER = re.compile(r"\[Errno (\d+)\]", re.IGNORECASE)


def of_storage(cause: Cause, directory: str) -> str | None:
    """What is wrong with the disk that an experiment is written to, where that is why it failed.

    Args:
        cause: What was raised.
        directory: The experiment's.
    """
    number = int(found[1]) if (found := _NUMBER.search(cause.message)) else None
    if number in _OF_A_DISK:
        return f"{directory}: {_OF_A_DISK[number]}: {cause.message}"
    if number in _OF_A_PATH and directory in cause.message:
        return f"{directory}: {_OF_A_PATH[number]}: {cause.message}"
    return None


def broken_off(error: Exception, directory: str) -> str | None:
    """The same of an error that ended a run, which Tune hands on as text; None where it is another one."""
    return of_storage(root_error("".join(tracebacks.format_exception(error))), directory)


class Failures(Callback):
    """Keeps why trials failed: where the disk is at fault, the files that Tune looks it up in are not to be had."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def on_trial_error(self, iteration: int, trials: Sequence, trial: Any, **info: Any) -> None:
        """Keeps the text of its tracebacks."""
        text = ""
        with contextlib.suppress(OSError):
            text = Path(trial.local_path, "error.txt").read_text(encoding="utf-8", errors="replace")
        self._texts[trial.trial_id] = text or "unknown: Tune could not write it down"
        self.on_trial_recover(iteration, trials, trial)

    def on_trial_recover(self, iteration: int, trials: Sequence, trial: Any, **info: Any) -> None:
        """Keeps Tune from reading its own files of the error, which may be cut short."""
        trial.run_metadata.error_filename = trial.run_metadata.pickled_error_filename = None

    def text(self, trial_id: str) -> str | None:
        """The tracebacks of a trial that failed, None of another."""
        return self._texts.get(trial_id)
