"""The errors that a user reads, and where in the user's own code one was raised."""

from __future__ import annotations

import difflib
import os
import sysconfig
import textwrap
import traceback
from collections.abc import Iterable
from pathlib import Path

_LIBRARY = tuple(os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib"))
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_FRAMEWORKS = tuple(
    f"{where}{name}{os.sep}"
    for where in _INSTALLED
    for name in ("ray", "gymnasium", "torch", "numpy", "tree", "numba", "rllib_stpn")
)
WHY_PROCESSES_DIE = "most often it had used up the memory, and the system killed it (dmesg tells)"
PROCESS_DIED = f"its process died: {WHY_PROCESSES_DIE}"
_OURS = os.path.realpath(Path(__file__).parent) + os.sep


class UsageError(ValueError):
    """A wrong input: the message names where it stands, what was given and what is allowed.

    The command line prints it as one line and exits with code 2; everything else is a bug and keeps its
    traceback.
    """


class StorageError(OSError):
    """The disk that an experiment is written to is full, read-only or gone; what was written before is whole."""


class RolloutError(RuntimeError):
    """What was raised while an env runner made its environments or sampled.

    The message is whole: type and message of what was raised, the environment, the step, and file and line of the
    user's own code. The cause is what was raised, or the text of its traceback where that was in another process.
    """


class NonFiniteError(RolloutError):
    """NaN or an infinity came up, such as in a reward or in what the module computes; the weights were next."""


class NonFiniteObservationError(NonFiniteError):
    """An environment returned an observation with NaN or an infinity."""


class RemoteTraceback(Exception):
    """The cause of an error that was raised in another process: the text of its traceback."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{textwrap.indent(self.text, '  ')}"


def one_of(where: str, given: object, allowed: Iterable[object]) -> UsageError:
    """Returns the error for a value that is not among the allowed ones.

    Args:
        where: What the value was given for, as the user wrote it, e.g. ``"stpn: normalize"``.
        given: The value.
        allowed: The values that would have been right.
    """
    allowed = list(allowed)
    return UsageError(f"{where}: got {given!r}, allowed are {_listed(allowed)}{did_you_mean(given, allowed)}")


def unknown(where: str, noun: str, given: object, allowed: Iterable[object], whose: str | None = None) -> UsageError:
    """Returns the error for a name that does not exist, such as that of a setting.

    Args:
        where: What holds it, e.g. ``"maze.yaml: config"``.
        noun: What it names, e.g. ``"key"``.
        given: The name.
        allowed: The names that exist.
        whose: Whose names these are, e.g. ``"RLlib"``, in place of a list that is too long to read.
    """
    allowed = list(allowed)
    those = f"those of {whose}" if whose else _listed(allowed)
    return UsageError(f"{where}: got the unknown {noun} {given!r}, allowed are {those}{did_you_mean(given, allowed)}")


def did_you_mean(given: object, allowed: Iterable[object], most: int = 3, likeness: float = 0.6) -> str:
    """The end of a message: ``"; did you mean X or Y?"`` with the names that the given one may stand for, or nothing.

    Args:
        given: The name as given; case does not count.
        allowed: The names that exist.
        most: How many are offered at most.
        likeness: From 0 to 1, how much of a name has to agree; a longer name that begins as the given one always does.
    """
    allowed = list(allowed)
    if None in allowed and isinstance(given, str) and given.lower() == "none":
        return "; did you mean null, as YAML spells None?"
    names = {name.lower(): name for name in allowed if isinstance(name, str)}
    if not isinstance(given, str) or given in names.values():
        return ""
    beginning = given.lower()
    close = [low for low in names if len(beginning) > 2 and low.startswith(beginning)]
    close = close or difflib.get_close_matches(beginning, names, n=most, cutoff=likeness)
    return f"; did you mean {' or '.join(names[low] for low in close[:most])}?" if close else ""


def _listed(values: Iterable[object]) -> str:
    return ", ".join(repr(value) for value in values)


def in_words(error: BaseException) -> str:
    """Type and message in one line, such as ``"ConnectionError: the simulator is gone"``."""
    message = in_one_line(str(error))
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def in_words_with_place(error: BaseException) -> str:
    """The same with the user's own file and line, such as ``"OSError: no licence (/home/me/env.py:33)"``."""
    place = place_of(error)
    return f"{in_words(error)}{f' ({place})' if place else ''}"


def in_one_line(text: str) -> str:
    """A message in one line, without RLlib's advice to leave its checks out."""
    return " ".join(text.split()).partition(" To suppress all validation errors")[0]


def place_of(error: BaseException) -> str | None:
    """File and line of the user's own code that raised an error, see :func:`users_place`."""
    return users_place((frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__))


def users_place(frames: Iterable[tuple[str, int]]) -> str | None:
    """``"file:line"`` of the innermost frame in the user's own code.

    That is code which is not installed; where there is none, an installed package that is none of the frameworks under
    the user's code. None where all frames are those of frameworks and of Python itself.

    Args:
        frames: File name and line of each frame, the innermost last.
    """
    frames = [(name, line) for name, line in frames if _is_users(name)]
    own = [frame for frame in frames if not any(part in frame[0] for part in _INSTALLED)]
    if not (own or frames):
        return None
    name, line = (own or frames)[-1]
    return f"{name}:{line}"


def _is_users(name: str) -> bool:
    if name.startswith("<"):
        return name.startswith(("<stdin>", "<ipython"))
    if name.endswith(".pyx"):  # Ray's own, by paths of the machine that built it
        return False
    path = os.path.realpath(name)
    if path.startswith(_OURS) or any(part in path for part in _FRAMEWORKS):
        return False
    return any(part in path for part in _INSTALLED) or not path.startswith(_LIBRARY)
