"""The error that a user wants to know, from the text of tracebacks.

Ray hands an error in an actor's constructor on as text only, so text is what is read.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rllib_stpn.errors import WHY_PROCESSES_DIE, in_one_line, users_place

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
#: Their messages are whole: they have the type of what was raised, and its place.
_WHOLE = ("UsageError", "RolloutError", "NonFiniteError", "NonFiniteObservationError", "ProcessDied", "StorageError")


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
        if self.kind in _WHOLE:
            return self.message
        told = f"{self.kind}: {self.message}" if self.message else self.kind
        return f"{told} ({self.place})" if self.place else told


def root_error(traceback: str) -> Cause:
    """The error that a user wants to know of a trial's chained tracebacks.

    Args:
        traceback: The text of Tune's ``error.txt``.

    Returns:
        The last error whose message is whole, such as a UsageError; else the last one, or, where that has no message
        and was raised from another one, as RLlib does, the one that caused it.
    """
    errors = list(_errors(traceback.strip().splitlines()))
    for cause, _ in reversed(errors):
        if cause.kind in _WHOLE:
            return cause
    if died := list(_DIED.finditer(traceback)):
        where = f" on {died[-1]['ip']}" if died[-1]["ip"] else ""
        whose = next((owner for end, owner in _OWNERS.items() if died[-1]["name"].endswith(end)), "the trial's process")
        return Cause(
            "ProcessDied",
            f"{whose} ({died[-1]['name']}, pid {died[-1]['pid']}{where}) died without an error of its own: "
            + WHY_PROCESSES_DIE,
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
