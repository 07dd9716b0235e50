"""Why a trial, or a whole run, failed, in a line."""

import contextlib
import errno
import re
import traceback as tracebacks
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ray.tune import Callback

from rllib_stpn.errors import in_one_line, users_place

_FRAME = re.compile(r'^ +File "(?P<file>[^"]+)", line (?P<line>\d+)')
_ERROR_LINE = re.compile(r"^(?:(?:\w+|<locals>)\.)*(?P<type>[A-Za-z_]\w*)(?:\([\w.]*\))?(?:: (?P<message>.*))?$")
_LIKE_AN_ERROR = re.compile(r"(?:Error|Exception|NotFound|Interrupt|Exit)$")
_WRAPPERS = ("RayTaskError", "RayActorError", "ActorDiedError", "RemoteTraceback")
_NOT_MESSAGE = ("Traceback", "During handling", "The above exception", "ray::", "\x1b[36mray::", "Failure # ")
_CAUSED = "The above exception was the direct cause"
_DIED = re.compile(
    r"^(?:[\w.]*ActorDiedError: )?The actor died unexpectedly before finishing this task\."
    r".*?class_name: (?:\S+\.)?(?P<name>\w+).*?pid: (?P<pid>\d+)"
    r"(?:.*?ip: (?P<ip>[\w.:]+))?",
    re.MULTILINE | re.DOTALL,
)
#: Whose process it was, by how the class of Ray's actor ends; all others are trials.
_OWNERS = {
    "_WrappedExecutable": "a learner's process",
    "AggregatorActor": "the process of an aggregator of batches",
    "EnvRunner": "an env runner's process",
    "RolloutWorker": "an env runner's process",
}
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
#: Their messages are whole: they have the type of what was raised, and its place.
WHOLE = ("UsageError", "RolloutError", "NonFiniteError", "NonFiniteObservationError", "ProcessDied", "StorageError")


class Cause(NamedTuple):
    """An error of a traceback.

    Attributes:
        kind: The name of its class.
        message: Its message in one line, empty without one.
        place: File and line of the user's own code, see :func:`rllib_stpn.errors.users_place`.
    """

    kind: str
    message: str
    place: str | None = None

    def __str__(self) -> str:
        if self.kind in WHOLE:
            return self.message
        told = f"{self.kind}: {self.message}" if self.message else self.kind
        return f"{told} ({self.place})" if self.place else told


def root_error(traceback: str) -> Cause:
    """The error that a user wants to know of a trial's chained tracebacks.

    Ray hands an error in an actor's constructor on as text only, so text is what is read.

    Args:
        traceback: The text of Tune's ``error.txt``.

    Returns:
        The last error whose message is whole, such as a UsageError; else the last one, or, where that has no message
        and was raised from another one, as RLlib does, the one that caused it.
    """
    errors = list(_errors(traceback.strip().splitlines()))
    for cause, _ in reversed(errors):
        if cause.kind in WHOLE:
            return cause
    if died := list(_DIED.finditer(traceback)):
        where = f" on {died[-1]['ip']}" if died[-1]["ip"] else ""
        whose = next((owner for end, owner in _OWNERS.items() if died[-1]["name"].endswith(end)), "the trial's process")
        return Cause(
            "ProcessDied",
            f"{whose} ({died[-1]['name']}, pid {died[-1]['pid']}{where}) died without an error of its own: "
            "most often it had used up the memory, and the system killed it (dmesg tells)",
        )
    while len(errors) > 1 and not errors[-1][0].message and errors[-1][1]:
        errors.pop()
    if errors:
        return errors[-1][0]
    return Cause("Error", _end_of(" ".join(traceback.split())) or "unknown")


def _end_of(text: str, most: int = 300) -> str:
    """The end of a text, from the beginning of a word on."""
    return text if len(text) <= most else f"... {text[-most:].partition(' ')[2]}"


def _errors(lines: Sequence[str]) -> Iterator[tuple[Cause, bool]]:
    """Yields the error at the end of each traceback, in the order of the text, and whether the one before caused it."""
    frames: list[tuple[str, int]] = []
    caused = False
    for number, line in enumerate(lines):
        if frame := _FRAME.match(line):
            frames.append((frame["file"], int(frame["line"])))
        elif line.startswith(_CAUSED):
            caused = True
        elif line.startswith(_NOT_MESSAGE):
            continue
        elif (match := _ERROR_LINE.match(line)) and (frames or _LIKE_AN_ERROR.search(match["type"])):
            if not match["type"].startswith(_WRAPPERS):
                message = [match["message"] or ""]
                for following in lines[number + 1 :]:  # A message may have several lines.
                    if following.startswith(_NOT_MESSAGE) or _FRAME.match(following):
                        break
                    message.append(following)
                yield Cause(match["type"], in_one_line(" ".join(message)), users_place(frames)), caused
                caused = False
            frames = []


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
