"""What services elsewhere are to be told, delivered by a thread of its own: none of them stops or slows a run."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from raymix.report.run import Status
from raymix.spec import masked
from raymix.watch.trouble import Tell

WAITING = 100_000  # messages that wait at most; the oldest ones are let go
AT_ONCE = 50  # messages delivered together
LONGEST_WAIT = 30.0  # seconds between two tries
CLOSE_SECONDS = 30.0  # that the end of a run waits for a service that answers


class Point(NamedTuple):
    """Figures at a step."""

    step: int
    at: float  # Unix seconds
    values: dict[str, float]
    old: bool = False  # of an earlier attempt: it may have been delivered


class Ending(NamedTuple):
    """A run is over."""

    status: Status
    step: int
    values: dict[str, float]
    files: tuple[Path, ...]


class Service(Protocol):
    """A service elsewhere. Called from one thread; whatever it raises, the same is delivered again later."""

    name: str

    def open(self) -> None:
        """Reaches it, and there the run."""

    def deliver(self, messages: Sequence[Point | Ending]) -> None:
        """Tells it; what it has heard already does no harm."""

    def leave(self) -> str:
        """Gives it up, so that nothing of it keeps the process; what to say, since it was not told all of it."""


class Outbox:
    """Messages on their way to one service, in order."""

    def __init__(self, service: Service, tell: Tell, first_wait: float = 1.0) -> None:
        self._service, self._tell, self._first_wait = service, tell, first_wait
        self._waiting = deque[Point | Ending](maxlen=WAITING)
        self._changed = threading.Condition()
        self._closing = self._told = False
        self._thread = threading.Thread(target=self._work, name=f"raymix-{service.name}", daemon=True)
        self._thread.start()

    def put(self, message: Point | Ending) -> None:
        """Hands over one more; never waits for the service."""
        with self._changed:
            self._waiting.append(message)
            self._changed.notify()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Waits until all is delivered; a service that does not answer then is tried once more, and left."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)
        if self._waiting:
            self._tell(f"{self._service.name} has not heard the end of the run; {self._service.leave()}")
            self._waiting.clear()

    def _work(self) -> None:
        wait, is_open = 0.0, False
        while self._due(wait):
            last_try = self._closing
            try:
                if not is_open:
                    self._service.open()
                    is_open = True
                self._deliver()
                wait, self._told = 0.0, False
            except Exception as error:  # of a library, which has its own for everything
                self._failed(error)
                wait = min(LONGEST_WAIT, 2 * wait or self._first_wait)
                if last_try:
                    return

    def _due(self, wait: float) -> bool:
        """Waits for something to deliver, and so long after a failure; False: all is done."""
        until = time.monotonic() + wait
        with self._changed:
            while not self._closing and (not self._waiting or time.monotonic() < until):
                self._changed.wait(None if not self._waiting else max(0.0, until - time.monotonic()))
            return bool(self._waiting)

    def _deliver(self) -> None:
        with self._changed:
            messages = [self._waiting[place] for place in range(min(AT_ONCE, len(self._waiting)))]
        self._service.deliver(messages)
        with self._changed:
            for message in messages:
                if self._waiting and self._waiting[0] is message:  # else it was let go
                    self._waiting.popleft()

    def _failed(self, error: Exception) -> None:
        if not self._told:
            line = masked(" ".join(str(error).split()))[:160]
            self._tell(
                f"{self._service.name} cannot be told ({type(error).__name__}: {line}); "
                "it is tried again, training goes on"
            )
        self._told = True
