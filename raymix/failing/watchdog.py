"""Whether a worker group hangs, decided from what its workers tell of themselves and from the watcher's clock.

A group hangs where one worker tells nothing any more (stopped, or its interpreter is held), or where none gets on: in
DDP all wait for the one that is stuck. What is no step has a limit of its own: loading, compiling, evaluating, saving.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from raymix.failing.pulse import Beat, Now, Process, Work

BEAT_SECONDS = 1.0  # from beat to beat of a worker
LOOK_SECONDS = 0.5  # from look to look of the watcher
MARGIN_SECONDS = BEAT_SECONDS + LOOK_SECONDS + 1.0  # the last for looking at the processes
PAUSE_SECONDS = 5.0  # between two looks: the watcher itself was held up, and what it did not see proves nothing
STEPS = 10  # slow steps: nothing is a hang that takes less than so many
SEGMENTS = 5  # a device that is given steps ahead is seen to get on once a segment

# work that may hold the interpreter for minutes: imports, compilers, drivers
_MUTE: frozenset[Work] = frozenset({"loading", "preparing"})


class Limits(NamedTuple):
    """Seconds without progress that are a hang: in steps, and outside of them. 0: never."""

    steps: float
    outside: float


class Seen(NamedTuple):
    """What is known of a worker, by the watcher's clock."""

    beat: Beat
    beats: int  # so far
    heard: float  # when it last told something
    moved: float  # when that last was something new


class Alarm(NamedTuple):
    """A group hangs."""

    ranks: tuple[int, ...]  # of the workers that tell nothing; (): all do, and none gets on
    absent: tuple[int, ...]  # of those that never came
    seconds: float  # since it last got on


def silence_limit(now: Now, limits: Limits) -> float:
    """Seconds without a beat that are a hang; inf: there is no limit."""
    if now.work == "stepping":
        return progress_limit(now, limits)
    return _or_never(limits.outside if now.work in _MUTE else limits.steps)


def progress_limit(now: Now, limits: Limits) -> float:
    """Seconds of beats that tell nothing new that are a hang of who is at work."""
    if now.work == "stepping":
        return _or_never(limits.steps and max(limits.steps, STEPS * now.slowest, SEGMENTS * now.ahead))
    return _or_never(limits.outside)


def hung(now: float, seen: Mapping[int, Seen], first: float, limits: Limits) -> Alarm | None:
    """Whether a group hangs at a time. `first`: when its first worker was heard of.

    What is known is up to `MARGIN_SECONDS` old by the time that it is told; it is decided so much before a limit.
    """
    silent = [rank for rank, of in seen.items() if now - of.heard > due(silence_limit(of.beat.now, limits))]
    if silent:
        return Alarm(tuple(sorted(silent)), (), max(now - seen[rank].heard for rank in silent))
    world = max((of.beat.world for of in seen.values()), default=0)
    absent = tuple(rank for rank in range(world) if rank not in seen)
    if absent:
        late = now - first
        return Alarm((), absent, late) if late > due(_or_never(limits.outside)) else None
    at_work = [of for of in seen.values() if of.beat.now.work != "waiting"]
    if at_work and all(now - of.moved > due(progress_limit(of.beat.now, limits)) for of in at_work):
        return Alarm((), (), min(now - of.moved for of in at_work))
    return None


def due(limit: float) -> float:
    """Seconds after which a hang is decided, so that it is found within a limit."""
    return max(limit - MARGIN_SECONDS, limit / 2)


class Watchdog:
    """Keeps what is known of one group after another."""

    def __init__(self, limits: Limits) -> None:
        self.seen: dict[int, Seen] = {}
        self._limits, self._first, self._looked = limits, 0.0, float("-inf")
        self._gone = set[Process]()

    def look(self, now: float, told: Iterable[tuple[int, Beat]]) -> Alarm | None:
        """Takes what each worker told last, after so many beats, and says whether the group hangs."""
        if now - self._looked > PAUSE_SECONDS:
            self.count_anew(now)
        self._looked = now
        for beats, beat in told:
            self._take(now, beats, beat)
        return hung(now, self.seen, self._first, self._limits)

    def forget(self) -> None:
        """The group is over; what is still on its way from it is not heard."""
        self._gone.update(of.beat.process for of in self.seen.values())
        self.seen = {}

    def count_anew(self, now: float) -> None:
        """What was not heard until now proves nothing."""
        self._first = now
        self.seen = {rank: of._replace(heard=now, moved=now) for rank, of in self.seen.items()}

    def _take(self, now: float, beats: int, beat: Beat) -> None:
        if beat.process in self._gone:
            return
        known = self.seen.get(beat.rank)
        if any(of.beat.world != beat.world for of in self.seen.values()) or (
            known is not None and known.beat.process != beat.process
        ):
            self.forget()  # another group has come
            known = None
        if not self.seen:
            self._first = now
        if known is None or (beat.now, beat.moves) != (known.beat.now, known.beat.moves):
            self.seen[beat.rank] = Seen(beat, beats, now, now)
        elif beats != known.beats:
            self.seen[beat.rank] = known._replace(beats=beats, heard=now)


def _or_never(limit: float) -> float:
    return limit or float("inf")
