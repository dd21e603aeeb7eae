"""Where progress goes: console, JSONL, TensorBoard. The driver calls sinks from one thread; workers know of none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raymix.plan import Decision, Plan
from raymix.report.history import History, SegmentReport
from raymix.report.run import RunReport


class Sink(Protocol):
    """Something that listens to runs. Every method may be called with nothing to show for it."""

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Work before or between runs (starting Ray, decoding images), with a count where there is one."""

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """A run starts, or goes on after `history` (rows that it does not hold were lost and come again)."""

    def decided(self, run: str, decision: Decision) -> None:
        """The plan of a run is changed before its next segment."""

    def segment(self, run: str, report: SegmentReport) -> None:
        """A segment is done."""

    def note(self, text: str) -> None:
        """One line worth keeping: a restart, a checkpoint passed over."""

    def end(self, run: str, report: RunReport) -> None:
        """A run has ended, in whatever way."""

    def close(self) -> None:
        """Nothing follows."""


class Sinks:
    """Several sinks as one."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = tuple(sinks)

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        for sink in self.sinks:
            sink.stage(text, done, total)

    def begin(self, run: str, plan: Plan, history: History) -> None:
        for sink in self.sinks:
            sink.begin(run, plan, history)

    def decided(self, run: str, decision: Decision) -> None:
        for sink in self.sinks:
            sink.decided(run, decision)

    def segment(self, run: str, report: SegmentReport) -> None:
        for sink in self.sinks:
            sink.segment(run, report)

    def note(self, text: str) -> None:
        for sink in self.sinks:
            sink.note(text)

    def end(self, run: str, report: RunReport) -> None:
        for sink in self.sinks:
            sink.end(run, report)

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()
