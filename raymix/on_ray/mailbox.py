"""Where driver and workers meet: tasks go one way, events the other, and the policy is asked for segments.

An asyncio actor that holds no decisions of its own: what it is asked depends on the history that it is sent, so a
restarted worker group gets the same answers. Workers reach it between segments only. Tasks and outcomes pass through it
pickled, which spares its process the import of torch.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, NamedTuple

from raymix.failing.pulse import Beat
from raymix.plan import Decision, Plan, Segment, changed
from raymix.policy import Named, name_next
from raymix.report.history import History, Rates, SegmentReport


class Event(NamedTuple):
    """Something that a worker told."""

    what: Literal["joined", "begin", "decided", "segment", "note", "done"]
    run: str
    value: Any


class Mailbox:
    """Made an actor by `session`; a plain class here, so that it is tested without Ray."""

    def __init__(self) -> None:
        self._images: Any = None
        self._tasks: dict[str, bytes] = {}
        self._events: list[Event] = []
        self._stopping, self._closed = asyncio.Event(), False
        self._beats: dict[int, tuple[int, Beat]] = {}
        self._step = 0
        self._parting = self._parted = False
        self._plan: Plan | None = None
        self._history = History(rates=Rates(step_seconds={}))

    # ---- the driver's side ----

    async def put_images(self, images: Any) -> None:
        """Where the decoded images are (`Kept`), or how to read them (`Streaming`)."""
        self._images = images

    async def put_task(self, run: str, task: bytes) -> None:
        """The next run."""
        self._parting = False
        self._stopping.clear()
        self._tasks[run] = task

    async def put_anew(self, run: str, task: bytes) -> None:
        """A run that is under way, as the next group is to take it up."""
        if run in self._tasks:
            self._tasks[run] = task

    async def drop(self, run: str) -> None:
        """A run that no worker group is left to finish; the next group does not take it up."""
        self._tasks.pop(run, None)

    async def events(self, cursor: int) -> list[Event]:
        """What workers have told since the first `cursor` events."""
        return self._events[cursor:]

    async def beats(self) -> dict[int, tuple[int, Beat]]:
        """What each rank told of itself last, after so many times."""
        return self._beats

    async def step(self) -> int:
        """Steps of the present run that are reported."""
        return self._step

    async def stop(self) -> None:
        """Ends the run at the end of its segment."""
        self._parting = False
        self._stopping.set()

    async def part(self) -> None:
        """Ends the worker group at the end of its segment, once it has saved: another takes over."""
        if not self._stopping.is_set():
            self._parting = True
            self._stopping.set()

    async def parted(self) -> bool:
        """Whether the group has saved and waits for its end."""
        return self._parted

    async def close(self) -> None:
        """No task follows."""
        self._closed = True
        self._stopping.set()

    # ---- the workers' side ----

    async def beat(self, beat: Beat) -> None:
        """A worker is there, and so far."""
        count, _ = self._beats.get(beat.rank, (0, beat))
        self._beats[beat.rank] = count + 1, beat

    async def join(self, device: str, device_name: str, kept: str, workers: int) -> None:
        """A worker group has started and has its images: on the device, in host memory, or as a stream."""
        self._events.append(Event("joined", "", (device, device_name, kept, workers)))

    async def images(self) -> Any:
        """What the driver put, or what to do without."""
        return self._images or ("close" if self._closed else "wait")

    async def next_task(self) -> bytes | Literal["wait", "close"]:
        """The first run that has no outcome; asked again after a restart, it is the one that was cut off."""
        return "close" if self._closed else next(iter(self._tasks.values()), "wait")

    async def begin(self, run: str, plan: Plan, history: History) -> None:
        """A run starts, or goes on after `history`."""
        self._plan, self._history, self._step = plan, history, history.done_steps
        if self._parting:  # that group is gone
            self._stopping.clear()
        self._parting = self._parted = False
        self._events.append(Event("begin", run, (plan, history)))

    async def name_next(self, done: int, news: list[SegmentReport], pending: Segment | None) -> Named:
        """What the policy names after the first `done` reports, `news` and the segment that runs now."""
        assert self._plan is not None
        history = self._history.reported(done, news).expect(pending)
        named = name_next(self._plan, history)
        if named.decision is not None:
            self._plan = changed(self._plan, named.decision)
        self._history = history.decide(named.decision)
        return named

    async def decided(self, run: str, decision: Decision) -> None:
        """A change of plan holds: the workers have come to it, which they had not yet when it was named."""
        self._events.append(Event("decided", run, decision))

    async def report(self, run: str, report: SegmentReport) -> None:
        """A segment is done."""
        self._step = report.segment.start + report.segment.steps
        self._events.append(Event("segment", run, report))

    async def note(self, run: str, text: str) -> None:
        """A line for the user."""
        self._events.append(Event("note", run, text))

    async def stopped(self) -> bool:
        """Returns when the run is to end, or when another group is to take over: True."""
        await self._stopping.wait()
        return self._parting

    async def saved(self) -> None:
        """The group that was to part has saved."""
        self._parted = True

    async def finish(self, run: str, outcome: bytes) -> None:
        """A run has its outcome, or why it has none; of several ranks' words the first ones count."""
        if self._tasks.pop(run, None) is not None:
            self._events.append(Event("done", run, outcome))
