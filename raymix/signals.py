"""Ctrl-C, SIGTERM, SIGHUP: the first one asks for a checkpoint and an early end, the second one ends at once."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol

from raymix.watch import Sink

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stoppable(Protocol):
    """What a signal can end gently: a session, or a search."""

    @property
    def groups(self) -> int:
        """Worker groups so far; 0: nothing has come so far that there would be something to save."""

    def stop(self) -> None:
        """Asks for an end; called from a signal handler."""


class Interrupted(Exception):  # noqa: N818 (it is what happened)
    """A signal ended the run. `report` says what was done until then; None: nothing was."""

    def __init__(self, signum: int, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.signum, self.report = signum, report

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows, in its own words."""
        return [f"Interrupted: {self}".replace("--resume goes on", "resume=True goes on")]


class Signals:
    """Catches signals while it is entered; outside the main thread, where none may be set, it does nothing."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._session: Stoppable | None = None
        self._sink: Sink | None = None
        self._before: dict[int, Any] = {}
        self._terminals = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.signal(signum, self._handle) for signum in CAUGHT if not _is_nohup(signum)}
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def stop_gently(self, session: Stoppable, sink: Sink) -> None:
        """From now on the first signal stops this session at the end of its segment, once it has workers.

        Raises:
            Interrupted: a signal came before, in the midst of what swallows exceptions.
        """
        if self.received is not None:
            raise self.interrupted("nothing was trained yet", None)
        self._session, self._sink = session, sink

    def interrupted(self, message: str, report: Any) -> Interrupted:
        """The exception that ends an interrupted command."""
        return Interrupted(self.received or signal.SIGINT, message, report)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        again, self.received = self.received is not None, signum
        if signum == signal.SIGHUP:
            self._leave_terminals()
        if again:
            raise KeyboardInterrupt
        if self._session is None or self._sink is None or not self._session.groups:
            raise Interrupted(signum, "nothing was trained yet")
        self._session.stop()
        with suppress(RuntimeError):  # a signal in the midst of a print (Ctrl-S, then Ctrl-C) must not print, too
            self._sink.note(f"{signal.Signals(signum).name}: saving a checkpoint (once more ends at once, without one)")

    def _leave_terminals(self) -> None:
        """Where a terminal is gone, what is still said goes nowhere: saying it would be an error."""
        for descriptor in self._terminals:
            if not os.isatty(descriptor):
                nowhere = os.open(os.devnull, os.O_RDWR)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def _is_nohup(signum: int) -> bool:
    """Whether it is a hang-up that this process was started to survive."""
    return signum == signal.SIGHUP and signal.getsignal(signum) == signal.SIG_IGN
