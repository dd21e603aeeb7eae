"""Messages for a service that is slow, fails or never answers: none is lost, told twice without need, or waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from raymix.watch.outbox import AT_ONCE, Ending, Outbox, Point


class Lines:
    """A service that fails as often as it is told to."""

    name = "Lines"

    def __init__(self, failures: int = 0, gate: threading.Event | None = None) -> None:
        self.failures, self.gate = failures, gate
        self.opened, self.heard = 0, list[Point | Ending]()

    def open(self) -> None:
        self.opened += 1

    def deliver(self, messages: Sequence[Point | Ending]) -> None:
        if self.gate is not None:
            self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionError("https://user:planted@host refused\nthe connection")
        self.heard += messages

    def leave(self) -> str:
        return "the folder has it"


def points(num: int) -> list[Point]:
    return [Point(step, float(step), {"loss/ssl": 1.0}) for step in range(num)]


def test_all_arrives_in_order_though_it_fails_at_first() -> None:
    service, told = Lines(failures=3), list[str]()
    outbox = Outbox(service, told.append, first_wait=0.01)
    for point in points(3 * AT_ONCE):
        outbox.put(point)
    while service.failures:
        time.sleep(0.01)
    outbox.close()
    assert service.heard == points(3 * AT_ONCE)
    assert service.opened == 1
    (line,) = told
    assert line == (
        "Lines cannot be told (ConnectionError: https://***@host refused the connection); "
        "it is tried again, training goes on"
    )


def test_a_failure_after_a_success_is_told_again_and_two_in_a_row_once() -> None:
    service, told = Lines(), list[str]()
    outbox = Outbox(service, told.append, first_wait=0.01)
    for number, failures in enumerate((1, 2), 1):
        service.failures = failures
        outbox.put(points(1)[0])
        while len(service.heard) < number:
            time.sleep(0.01)
        assert len(told) == number
    outbox.close()


def test_nobody_waits_for_one_that_hangs() -> None:
    gate, told = threading.Event(), list[str]()
    outbox = Outbox(Lines(gate=gate), told.append)
    before = time.monotonic()
    for point in points(10_000):
        outbox.put(point)
    assert time.monotonic() - before < 1.0
    outbox.close(seconds=0.2)
    assert time.monotonic() - before < 2.0
    gate.set()
    assert told == ["Lines has not heard the end of the run; the folder has it"]


def test_one_that_fails_to_the_end_is_tried_once_more_and_left() -> None:
    service, told = Lines(failures=100), list[str]()
    outbox = Outbox(service, told.append, first_wait=60.0)
    outbox.put(points(1)[0])
    while service.failures == 100:
        time.sleep(0.01)
    before = time.monotonic()
    outbox.close()
    assert time.monotonic() - before < 5.0
    assert service.failures == 98
    assert [line.split(" ", 2)[1] for line in told] == ["cannot", "has"]
