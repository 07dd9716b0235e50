"""Ctrl-C and its like: the run ends after the current iteration, or at once."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from rllib_stpn.cli import terminal
from rllib_stpn.experiments.interruption import Interruption

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NO_MORE = 0  # the number of no signal


class Signals(Interruption):
    """Whether the user asked the run to end, by Ctrl-C (SIGINT) or SIGTERM, or reads its output no more (SIGPIPE).

    A thread acts on them. A handler of Python's would wait until Ray's calls return to the main thread, and what it
    raises there gets lost in places, or becomes a traceback.
    """

    def __init__(self) -> None:
        super().__init__()
        self._orderly = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within it a signal ends the process and all processes below it at once, with the status of the signal."""
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        told, tells = socket.socketpair()
        tells.setblocking(False)
        fd_before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
        self.keep_listening()
        thread = threading.Thread(target=self._listen, args=(told,), name="signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(fd_before)
            tells.send(bytes([_NO_MORE]))  # Closing it would not do: a process that was forked has it open, too.
            thread.join()
            tells.close()
            told.close()

    def keep_listening(self) -> None:
        """Takes the signals back from who has taken them: Ray has a handler of its own for SIGTERM when it starts."""
        for number in _SIGNALS:
            signal.signal(number, _left_to_the_thread)

    @contextlib.contextmanager
    def ending_orderly(self) -> Iterator[None]:
        """Within it the first signal only sets :attr:`signal`, and the second one ends the process."""
        self._orderly = True
        try:
            with terminal.when_nobody_reads(self._unread):
                yield
        finally:
            self._orderly = False

    def _listen(self, told: socket.socket) -> None:
        while (number := told.recv(1)[0]) != _NO_MORE:
            if number in _SIGNALS:
                self._receive(number)

    def _receive(self, number: int) -> None:
        if not self._orderly:
            _end(128 + number, "rllib: interrupted")
        if self.signal is not None:
            _end(self.exit_code, "rllib: aborted; checkpoints written before are whole")
        self.signal = number
        print(
            f"\n{signal.Signals(number).name}: stopping after this iteration, with a checkpoint "
            "(once more: at once, without)",
            file=sys.stderr,
            flush=True,
        )

    def _unread(self) -> None:
        if self.signal is None:
            self.signal = terminal.READER_GONE - 128
            print("nobody reads the output: stopping after this iteration, with a checkpoint", file=sys.stderr)


def _left_to_the_thread(number: int, frame: FrameType | None) -> None:
    """Python tells the thread only of signals that have a handler."""


def _forget() -> None:
    """In a process that was forked: its signals are its own."""
    if signal.getsignal(signal.SIGINT) is _left_to_the_thread:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _end(code: int, told: str) -> NoReturn:
    """Ends this process and all below it at once."""
    with contextlib.suppress(SystemExit):  # Nobody may read it.
        print(told, file=sys.stderr, flush=True)
    with contextlib.suppress(ImportError):  # It comes with Ray: before that is loaded, there are none.
        import psutil

        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
    with contextlib.suppress(SystemExit):
        sys.stdout.flush()
    os._exit(code)
