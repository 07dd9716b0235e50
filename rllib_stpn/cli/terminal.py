"""The output of commands: letters that a terminal does not have are spelled, its reader may go away, and notes."""

import codecs
import contextlib
import io
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

#: The exit code of a command whose output nobody reads any more, as shells count: 128 and the number of SIGPIPE.
READER_GONE = 128 + getattr(signal, "SIGPIPE", 13)

_TAKE_BACK = "\r\x1b[K"  # to the beginning of the line, and erase it
_SPELLED = {"±": "+-", "²": "^2", "Σ": "sum ", "→": "->", "×": "x", "–": "-", "…": "...", "’": "'"}


class Output:
    """A stream whose reader may go away, as with ``| head``: what is printed after that is dropped.

    On a terminal it also has a live line, which stands below all that is printed, until the next one replaces it.

    Args:
        stream: Standard output or standard error.
        other: The other of the two: what is printed here goes above its live line.
    """

    def __init__(self, stream: TextIO, other: "Output | None" = None):
        self._stream = stream
        self._other = other
        self._live = ""
        #: Called when the reader is gone, in place of ending the process.
        self.when_gone: Callable[[], None] | None = None

    def write(self, text: str) -> int:
        """Writes, or drops, a text."""
        if self._other is not None:
            self._other.clear()
        self.clear()
        self._do(self._stream.write, text)
        return len(text)

    def live(self, text: str) -> bool:
        """Shows a live line. False where this is no terminal, or one that cannot take a line back."""
        if not self.isatty() or os.environ.get("TERM", "dumb") == "dumb":
            return False
        text = text[: shutil.get_terminal_size().columns - 1]  # A line that is broken in two cannot be taken back.
        if text == self._live:
            return True
        self._do(self._stream.write, f"{_TAKE_BACK}{text}")
        self._do(self._stream.flush)
        self._live = text
        return True

    def clear(self) -> None:
        """Takes the live line back."""
        if self._live:
            self._live = ""
            self._do(self._stream.write, _TAKE_BACK)
            self._do(self._stream.flush)

    def flush(self) -> None:
        """Hands on what was written."""
        self._do(self._stream.flush)

    def _do(self, action: Callable, *arguments: str) -> None:
        try:
            action(*arguments)
        except BrokenPipeError:
            # What the stream still holds goes there, too, when Python flushes it at its end.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if self.when_gone is None:
                sys.exit(READER_GONE)
            self.when_gone()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Within, letters that the terminal does not have are spelled otherwise, and the reader of the output may go away.

    Raises:
        SystemExit: With :data:`READER_GONE`.
    """
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    errors = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="rllib_stpn.spelled")
    try:
        out = Output(sys.stdout)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(Output(sys.stderr, out)):
            try:
                yield
            finally:
                out.clear()
                sys.stdout.flush()
    finally:
        for stream, before in zip(streams, errors, strict=True):
            stream.reconfigure(errors=before)


@contextlib.contextmanager
def when_nobody_reads(act: Callable[[], None]) -> Iterator[None]:
    """Within, ``act`` is called when the reader of the output goes away, and the process goes on."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, Output)]
    for stream in streams:
        stream.when_gone = act
    try:
        yield
    finally:
        for stream in streams:
            stream.when_gone = None


def live(text: str) -> bool:
    """Shows a line that the next one, or what is printed next, replaces; False where that is not possible."""
    return isinstance(sys.stdout, Output) and sys.stdout.live(text)


def tell(notes: Iterable[object], kind: str = "note") -> None:
    """Prints notes, one a line."""
    for note in notes:
        print(f"{kind}: {note}", flush=True)


def tell_where_kernels_are() -> None:
    """Prints a note with the directory of compiled kernels, where the usual ones cannot be written to."""
    from rllib_stpn.kernels import disk_cache

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        disk_cache.directory()
    tell(each.message for each in told)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Spells letters that a terminal does not have: by the usual replacement, or by their number."""
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    spelled = (_SPELLED.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in letters)
    return "".join(spelled), error.end


codecs.register_error("rllib_stpn.spelled", _spelled)
