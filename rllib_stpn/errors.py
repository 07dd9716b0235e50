"""The errors that a user reads, and where in the user's own code one was raised."""

from __future__ import annotations

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
_OURS = os.path.realpath(Path(__file__).parent) + os.sep


class UsageError(ValueError):
    """A wrong input: the message names where it stands, what was given and what is allowed.

    The command line prints it as one line and exits with code 2; everything else is a bug and keeps its
    traceback.
    """


class StorageError(OSError):
    """The disk that an experiment is written to is full, read-only or gone; what was written whole before is there."""


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


def one_of(where: str, given: object, allowed) -> UsageError:
    """Returns the error for a value that is not among the allowed ones.

    Args:
        where: What the value was given for, as the user wrote it, e.g. ``"stpn: normalize"``.
        given: The value.
        allowed: The values that would have been right.
    """
    return UsageError(f"{where}: got {given!r}, allowed are {', '.join(repr(a) for a in allowed)}")


def in_words(error: BaseException) -> str:
    """Type and message in one line, such as ``"ConnectionError: the simulator is gone"``."""
    message = in_one_line(str(error))
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


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
