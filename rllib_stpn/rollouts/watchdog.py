"""Notices that an environment hangs: an env runner that waits for it can say nothing."""

from __future__ import annotations

import sys
import threading
import traceback
import weakref
from collections.abc import Hashable
from typing import Protocol

from rllib_stpn.errors import users_place
from rllib_stpn.rollouts.vector import under_way


class Worker(Protocol):
    """Whose work is looked after."""

    def patience(self) -> float:
        """The seconds that may go by without progress."""

    def progress(self) -> Hashable:
        """Something that differs after any progress; None while there is nothing to do."""

    def hangs(self, seconds: float, place: str) -> None:
        """Called once they have gone by, with where the thread is."""


class Watchdog:
    """A thread that looks after the one which makes it, as long as its worker is there.

    Args:
        worker: What that thread works on.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = weakref.ref(worker)
        self._thread_id = threading.get_ident()
        self._stopped = threading.Event()
        threading.Thread(target=self._look, name="rllib_stpn_watchdog", daemon=True).start()

    def stop(self) -> None:
        """Ends it."""
        self._stopped.set()

    def _look(self) -> None:
        # Counted in pauses: a process that was stopped for an hour has not been idle for one.
        seen, idle, pause = None, 0.0, 0.0
        while not self._stopped.wait(pause):
            worker = self._worker()
            if worker is None:
                return
            now, patience = worker.progress(), worker.patience()
            idle = idle + pause if now is not None and now == seen else 0.0
            seen, pause = now, min(patience / 4, 10)
            if idle >= patience:
                worker.hangs(patience, self._place())
                idle = 0.0
            del worker

    def _place(self) -> str:
        """Such as ``"environment 1 of env runner 2, at step 7 of its episode; /home/me/env.py:33"``."""
        frame = sys._current_frames().get(self._thread_id)
        place = users_place((each.filename, each.lineno or 0) for each in traceback.extract_stack(frame))
        whose = ""
        while frame is not None:
            whose = whose or under_way(frame.f_locals.get("self"))
            frame = frame.f_back
        return "; ".join(filter(None, (whose, place)))
