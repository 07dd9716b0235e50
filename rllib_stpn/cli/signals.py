"""Ctrl-C and its like: the run ends after the current iteration."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from rllib_stpn.cli import terminal
from rllib_stpn.experiments.stopping import Interruption


class Signals(Interruption):
    """Whether the user asked the run to end, by Ctrl-C (SIGINT) or SIGTERM, or reads its output no more (SIGPIPE)."""

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within it one signal sets :attr:`signal`, the next raises KeyboardInterrupt, a third kills."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._receive) for number in signals}
        try:
            with terminal.when_nobody_reads(self._unread):
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame) -> None:
        if self.signal is None:
            self.signal = number
            print(
                f"\n{signal.Signals(number).name}: stopping after this iteration, with a checkpoint "
                "(once more: at once, without)",
                file=sys.stderr,
                flush=True,
            )
            return
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    def _unread(self) -> None:
        if self.signal is None:
            self.signal = terminal.READER_GONE - 128
            print("nobody reads the output: stopping after this iteration, with a checkpoint", file=sys.stderr)


def abort(code: int) -> None:
    """Ends the process at once; Ray's processes end with it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
