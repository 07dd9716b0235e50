"""Why a trial failed, in a line."""

import re
from collections.abc import Iterator, Sequence

_ERROR_LINE = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*(?P<type>[A-Z]\w*(?:Error|Exception|NotFound|Interrupt|Exit))"
    r"(?:: (?P<message>.*))?$"
)
_WRAPPERS = ("RayTaskError", "RayActorError", "ActorDiedError")
_NOT_MESSAGE = ("Traceback", "During handling", "The above exception", "ray::", "\x1b[36mray::")


def root_error(traceback: str) -> tuple[str, str]:
    """The error that a user wants to know of a trial's chained tracebacks.

    Ray hands an error in an actor's constructor on as text only, so text is what is read.

    Args:
        traceback: The text of Tune's ``error.txt``.

    Returns:
        The name of the error's class and its message in one line: of the last UsageError in the chain, else
        of the last error that has a message.
    """
    errors = list(_errors(traceback.strip().splitlines()))
    for wanted in (lambda kind, _: kind == "UsageError", lambda _, message: message, lambda *_: True):
        for kind, message in reversed(errors):
            if wanted(kind, message):
                return kind, message
    return "Error", " ".join(traceback.split())[-300:] or "unknown"


def _errors(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields class and message of each traceback's last lines, in the order of the text."""
    for start, line in enumerate(lines):
        match = _ERROR_LINE.match(line)
        if match and not match["type"].startswith(_WRAPPERS):
            message = [match["message"] or ""]
            for following in lines[start + 1 :]:  # A message may have several lines.
                if following.startswith(_NOT_MESSAGE) or _ERROR_LINE.match(following):
                    break
                message.append(following)
            yield match["type"], " ".join(" ".join(message).split())
