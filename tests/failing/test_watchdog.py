"""The watchdog against a simulated clock: what is a hang, how soon it is found, and what never is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from raymix.failing.pulse import Beat, Now, Process, Pulse, Work
from raymix.failing.watchdog import BEAT_SECONDS, LOOK_SECONDS, MARGIN_SECONDS, Alarm, Limits, Watchdog, due
from raymix.plan import Segment

LIMITS = Limits(30.0, 600.0)
WORLD = 3


class State(NamedTuple):
    """What a simulated worker is at a time."""

    now: Now
    moves: int
    mute: bool = False  # its beats do not come


Course = Callable[[int, float], State]  # of a rank and a time


def stepping(moves: int, slowest: float = 0.05, ahead: float = 0.0, **fields: Any) -> State:
    return State(Now("stepping", 100, 0, slowest, ahead), moves, **fields)


def at(work: Work, moves: int = 0, mute: bool = False) -> State:
    return State(Now(work), moves, mute)


def process(rank: int, group: int = 0) -> Process:
    return Process("node", "10.0.0.1", 1000 * group + rank, float(group), "")


def watch(
    course: Course, seconds: float, ranks: int = WORLD, limits: Limits = LIMITS, asleep: tuple[float, float] = (0, 0)
) -> tuple[float, Alarm] | None:
    """When the first alarm comes, and which; `asleep`: from when to when the watcher does not look."""
    dog, told, now = Watchdog(limits), dict[int, tuple[int, Beat]](), 0.0
    while now < seconds:
        now += LOOK_SECONDS
        for rank in range(ranks):
            state = course(rank, now)
            if not state.mute and now % BEAT_SECONDS == 0:
                told[rank] = int(now), Beat(rank, WORLD, process(rank), state.now, state.moves)
        if asleep[0] <= now < asleep[1]:
            continue
        if (alarm := dog.look(now, told.values())) is not None:
            return now, alarm
    return None


def until(when: float, before: Callable[[float], State], after: State) -> Course:
    """All ranks go on until a time, and stand still from then on."""
    return lambda rank, now: before(now) if now < when else after


# a group that does something for ages, seconds of it
ORDINARY: dict[str, tuple[Course, float]] = {
    "steps": (lambda rank, now: stepping(int(now * 20)), 300),
    "a step takes two minutes": (lambda rank, now: stepping(int(now / 120), slowest=120.0), 1000),
    "steps become nine times slower than measured": (lambda rank, now: stepping(int(now / 36), slowest=4.0), 400),
    "a device is given a segment of ten seconds at once": (
        lambda rank, now: stepping(200 * int(now / 40), ahead=10.0),
        300,
    ),
    "five minutes of compiling that hold the interpreter": (
        lambda rank, now: at("preparing", mute=now > 5) if now < 305 else stepping(int(now)),
        400,
    ),
    "an hour of warming up": (lambda rank, now: at("preparing", int(now / 500)), 3600),
    "five minutes of loading": (lambda rank, now: at("loading") if now < 300 else at("waiting", 1), 400),
    "evaluation of an hour, batch by batch": (lambda rank, now: at("between", int(now / 60)), 3600),
    "rank 0 saves for nine minutes": (lambda rank, now: at("between") if rank == 0 else stepping(7), 540),
    "nothing to do for an hour": (lambda rank, now: at("waiting"), 3600),
    "rank 0 hands over while the others wait": (lambda rank, now: at("between" if rank == 0 else "waiting"), 500),
    "beats that come ten seconds late": (lambda rank, now: stepping(int(now), mute=now % 20 > 10), 300),
    "one second of steps in each half minute": (lambda rank, now: stepping(int(now / 25)), 300),
}


@pytest.mark.parametrize(("course", "seconds"), ORDINARY.values(), ids=ORDINARY)
def test_what_is_ordinary_is_no_hang(course: Course, seconds: float) -> None:
    assert watch(course, seconds) is None


HANG = 100.0
# what comes at second HANG: who is named, within how many seconds
HANGS: dict[str, tuple[Course, tuple[int, ...], float]] = {
    "a step that does not end": (until(HANG, lambda now: stepping(int(now)), stepping(100)), (), 30),
    "one is stopped, the others wait": (
        lambda rank, now: stepping(min(int(now), 100), mute=rank == 1 and now >= HANG),
        (1,),
        30,
    ),
    "all are stopped": (lambda rank, now: stepping(int(now), mute=now >= HANG), (0, 1, 2), 30),
    "one is stopped while it evaluates": (
        lambda rank, now: at("between", 5, mute=rank == 2 and now >= HANG),
        (2,),
        30,
    ),
    "one is stopped while it waits for work": (
        lambda rank, now: at("waiting", mute=rank == 0 and now >= HANG),
        (0,),
        30,
    ),
    "slow steps": (until(HANG, lambda now: stepping(int(now / 10), 10.0), stepping(10, 10.0)), (), 100),
    "evaluation": (until(HANG, lambda now: at("between", int(now)), at("between", 100)), (), 600),
    "compiling": (until(HANG, lambda now: at("preparing", int(now)), at("preparing", 100)), (), 600),
    "rank 0 saves and never comes back": (
        lambda rank, now: at("between", 1) if rank == 0 and now >= HANG else stepping(min(int(now), 100)),
        (),
        600,
    ),
}


@pytest.mark.parametrize(("course", "ranks", "limit"), HANGS.values(), ids=HANGS)
def test_a_hang_is_found_within_its_limit(course: Course, ranks: tuple[int, ...], limit: float) -> None:
    found = watch(course, HANG + 2 * limit)
    assert found is not None
    now, alarm = found
    assert alarm.ranks == ranks
    assert due(limit) - BEAT_SECONDS <= now - HANG <= limit
    assert alarm.seconds == pytest.approx(now - HANG, abs=2 * BEAT_SECONDS)


def test_who_never_comes_is_told() -> None:
    found = watch(lambda rank, now: at("loading"), 2000, ranks=2)
    assert found is not None
    now, alarm = found
    assert alarm == Alarm((), (2,), alarm.seconds)
    assert 600 - MARGIN_SECONDS <= now <= 600


@pytest.mark.parametrize("course", [HANGS["a step that does not end"][0], HANGS["all are stopped"][0]])
def test_zero_is_never(course: Course) -> None:
    assert watch(course, 2000, limits=Limits(0, 0)) is None


def test_a_watcher_that_slept_counts_anew() -> None:
    """A suspended laptop, a driver that was stopped: what was missed proves nothing."""
    slept = watch(lambda rank, now: stepping(int(now), mute=100 <= now < 200), 300, asleep=(100, 200))
    assert slept is None
    found = watch(lambda rank, now: stepping(int(now), mute=now >= 100), 300, asleep=(100, 200))
    assert found is not None
    assert 200 + due(30) <= found[0] <= 230


def test_a_group_that_is_over_is_not_heard() -> None:
    dog = Watchdog(LIMITS)

    def look(now: float, group: int, ranks: int = WORLD, world: int = WORLD) -> Alarm | None:
        return dog.look(now, [(int(now), Beat(r, world, process(r, group), Now("waiting"), 0)) for r in range(ranks)])

    look(0, group=0)
    dog.forget()
    look(1, group=0)
    assert dog.seen == {}
    look(2, group=1, ranks=1)
    look(3, group=2, ranks=2, world=2)
    assert {rank: seen.beat.process for rank, seen in dog.seen.items()} == {r: process(r, 2) for r in range(2)}
    look(4, group=1)
    assert len(dog.seen) == 2


def test_the_pulse_says_which_step() -> None:
    pulse = Pulse()

    def step() -> int:
        return Beat(0, 1, process(0), pulse.now, pulse.moves).step

    segment = Segment.model_construct(start=40, steps=5, pattern=(("ssl", 3), ("sl", 2)))
    pulse.enter("preparing")
    pulse.moves += 7
    pulse.enter_steps(segment, {"ssl": 1.0, "sl": 4.0}, ahead=True)
    assert step() == 41, "it waits for the first one's images"
    pulse.moves += 1
    assert step() == 41
    pulse.moves += 4
    assert step() == 45
    assert (pulse.now.slowest, pulse.now.ahead) == (4.0, 11.0)
    pulse.enter_steps(segment, {}, ahead=False)
    assert (pulse.now.slowest, pulse.now.ahead) == (0.0, 0.0)
