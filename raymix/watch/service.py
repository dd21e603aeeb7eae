"""The sink of a run for a service elsewhere: what it is told, in the service's words or not."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from raymix.plan import Decision, Plan, changed
from raymix.report.folder import JOB_FILE, LEDGER_FILE, RUN_FILE, write_text
from raymix.report.history import History, SegmentReport
from raymix.report.ledger import cost_of
from raymix.report.run import RunReport
from raymix.spec import JobSpec
from raymix.watch.outbox import Ending, Outbox, Point, Service
from raymix.watch.tensorboard import scalars
from raymix.watch.trouble import Tell

FILES = (RUN_FILE, "report.html", JOB_FILE, LEDGER_FILE)  # of the run folder, handed over at the end


class Kept(NamedTuple):
    """What a run folder keeps of a service: the run's name there, and how far it was told."""

    id: str
    where: str  # the service's address
    sent: int  # step of the last point that was delivered


class Keeper:
    """That file of a run folder."""

    def __init__(self, folder: Path, service: str) -> None:
        self._file = folder / f"{service}.json"

    def read(self, where: str) -> Kept | None:
        """What there is; None: nothing, or of another address."""
        try:
            kept = Kept(**json.loads(self._file.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return kept if kept.where == where else None

    def write(self, kept: Kept) -> None:
        """Keeps it."""
        write_text(self._file, json.dumps(kept._asdict()))


class ServiceSink:
    """Tells one service of one run."""

    def __init__(
        self, service: Service, folder: Path, plan: Plan, tell: Tell, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._plan, self._clock = folder, plan, clock
        self._outbox = Outbox(service, tell)
        self._step, self._ended, self._closed = 0, False, False
        self._seconds: dict[str, float] = {}  # of one worker, by kind of phase

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Stages have no figure."""

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """Tells what the service has not heard of the run so far, which a killed driver may have left out."""
        self._plan, self._seconds = plan, {}
        for report in history.reports:
            self._outbox.put(self._point(report)._replace(old=True))

    def decided(self, run: str, decision: Decision) -> None:
        """The phases are other ones from now on."""
        self._plan = changed(self._plan, decision)

    def segment(self, run: str, report: SegmentReport) -> None:
        """A point for each figure that the segment has."""
        self._outbox.put(self._point(report))

    def note(self, text: str) -> None:
        """Notes have no figure."""

    def end(self, run: str, report: RunReport) -> None:
        """The figures of the whole run and its pages."""
        self._ended = True
        files = tuple(path for name in FILES if (path := self._folder / name).is_file())
        self._outbox.put(Ending(report.status, self._step, dict(finals(report)), files))

    def close(self) -> None:
        """Waits for the service a little; a run without an end was broken off."""
        if not self._closed:
            if not self._ended:
                self._outbox.put(Ending("interrupted", self._step, {}, ()))
            self._closed = True
            self._outbox.close()

    def _point(self, report: SegmentReport) -> Point:
        segment, cluster = report.segment, self._plan.spec.cluster
        self._step = segment.start + segment.steps
        kind = self._plan.phases[segment.phase].kind
        self._seconds[kind] = self._seconds.get(kind, 0.0) + report.seconds
        values = {**scalars(report), "speed/segment_seconds": report.seconds}
        for of, seconds in self._seconds.items():
            values[f"seconds/{of}"] = seconds
            values[f"cost/{of}"] = cost_of(seconds * cluster.num_replicas, cluster.price_per_worker_hour)
        known = {name: float(value) for name, value in values.items() if value is not None}
        return Point(self._step, self._clock(), known)


def params(spec: JobSpec) -> dict[str, str]:
    """A resolved job as flat text by dotted path."""
    return dict(_flat(spec.model_dump(mode="json"), ""))


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield re.sub(r"[^\w./ -]", "_", path), value if isinstance(value, str) else json.dumps(value)


def finals(report: RunReport) -> Iterator[tuple[str, float]]:
    """The figures of a whole run that are known: top-1 on val, seconds and cost, of each phase too."""
    found: dict[str, float | None] = {
        "top1/val": report.final.top1 if report.final else None,
        "total/wall_seconds": report.totals.wall_seconds,
        "total/worker_seconds": report.totals.worker_seconds,
        "total/cost": report.totals.cost,
    }
    for number, phase in enumerate(report.phases):
        for name in ("epochs", "images", "seconds", "worker_seconds", "cost"):
            found[f"phase_{number}_{phase.kind}/{name}"] = getattr(phase, name)
    return ((name, float(value)) for name, value in found.items() if value is not None)
