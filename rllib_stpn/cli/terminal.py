"""The output of commands: letters that a terminal does not have are spelled, its reader may go away, and notes."""

import codecs
import contextlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

#: The exit code of a command whose output nobody reads any more, as shells count: 128 and the number of SIGPIPE.
READER_GONE = 128 + getattr(signal, "SIGPIPE", 13)

_SPELLED = {"±": "+-", "²": "^2", "Σ": "sum ", "→": "->", "×": "x", "–": "-", "…": "...", "’": "'"}


class Output:
    """A stream whose reader may go away, as with ``| head``: what is printed after that is dropped.

    Args:
        stream: Standard output or standard error.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream
        #: Called when the reader is gone, in place of ending the process.
        self.when_gone: Callable[[], None] | None = None

    def write(self, text: str) -> int:
        """Writes, or drops, a text."""
        self._do(self._stream.write, text)
        return len(text)

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
        with contextlib.redirect_stdout(Output(sys.stdout)), contextlib.redirect_stderr(Output(sys.stderr)):
            try:
                yield
            finally:
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
