import io
import logging
import signal
from collections.abc import Callable, Iterator

import pytest
from ray.data.exceptions import omit_traceback_stdout

from raymix.on_ray.cluster import hush_data, signals_later
from raymix.signals import Interrupted


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


@pytest.fixture
def screen() -> Iterator[io.StringIO]:
    """What Ray Data's logger would show."""
    logger, shown = logging.getLogger("ray.data"), io.StringIO()
    before = [(handler, handler.level, list(handler.filters)) for handler in logger.handlers]
    logger.addHandler(handler := logging.StreamHandler(shown))
    yield shown
    logger.removeHandler(handler)
    for handler, level, filters in before:
        handler.level, handler.filters = level, filters


def test_a_signal_in_the_midst_of_ray_data_is_no_fault(screen: io.StringIO) -> None:
    @omit_traceback_stdout
    def read(error: Exception) -> None:
        raise error

    hush_data()
    with pytest.raises(Interrupted):
        read(Interrupted(signal.SIGINT, "stopped"))
    assert screen.getvalue() == ""
    with pytest.raises(ValueError, match="of Ray's own"):
        read(ValueError("of Ray's own"))
    assert "ValueError: of Ray's own" in screen.getvalue()
