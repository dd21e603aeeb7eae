import signal
from collections.abc import Callable, Iterator

import pytest

from raymix.on_ray.cluster import signals_later


def start(*steps: Callable[[], object]) -> None:
    with signals_later():
        for step in steps:
            step()


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """A test run in the background hands down that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_while_ray_starts_is_heard_when_it_has() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        start(interrupt, lambda: done.append("started"))
    assert done == ["started"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_is_not_kept_waiting() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        start(interrupt, lambda: done.append("first"), interrupt, lambda: done.append("second"))
    assert done == ["first"]
