"""Sessions side by side: a Ray actor each, which opens a session of its own and executes one run after another.

The first one measures step times while it is alone; the others open with their first run. The driver deals the next run
to whichever is free: what runs where, and on which part of a GPU, is Ray's. Each session reads its images by itself.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayTaskError

from raymix.data.alike import Hashes
from raymix.data.frame import Frame
from raymix.on_ray import together
from raymix.on_ray.side import Seen, Side, Work
from raymix.runfolder import Before
from raymix.session import Bill, Failure, Hold, Needs, RunFailed
from raymix.spec import JobError
from raymix.train.task import Outcome, Task
from raymix.watch import Sink

POLL_SECONDS = 0.1
CLOSE_SECONDS = 20.0  # in which sessions give their workers back


class Deck(Protocol):
    """The runs that are to be dealt."""

    def deal(self) -> Any:
        """The next one; None: there is none now."""


class Seat:
    """An actor as the driver sees it; the first one's is the session that measures."""

    device, device_name, kept, groups, run = "cpu", "CPU", "host", 0, 0
    holds: tuple[Hold, ...] = ()  # what runs side by side is no elastic run
    hashes: Hashes | None = None  # runs are reported where they are trained

    def __init__(self, needs: Needs, work: Any, packed: float | None, share: float) -> None:
        self.frame: Frame = needs.frame
        self.skipped: dict[int, str] = {}
        self.startup: dict[str, float] = {}
        self._arguments, self._share = (needs, work, packed), share
        self._cluster, self._started = needs.spec.cluster, time.monotonic()
        self._news: Any = None
        self._stopping = False
        self._hire()

    @property
    def worker_seconds(self) -> float:
        """Seconds since it was asked for, times workers."""
        return (time.monotonic() - self._started) * self._cluster.num_replicas

    def open(self, sink: Sink) -> None:
        """Opens the session now, and waits for it.

        Raises:
            JobError: the machines cannot give what the job asks for, or too many images are unreadable.
        """
        seen = self._wait(self._actor.open.remote(), sink)
        if isinstance(seen, JobError):
            raise seen
        self._see(seen)

    def exports(self, bill: Callable[[], Bill]) -> tuple[Sink, ...]:
        """Nothing: the process that trains shows its run itself."""
        return ()

    def execute(self, task: Task, sink: Sink) -> Outcome:
        """A task, waited for.

        Raises:
            RunFailed: it came to no outcome.
        """
        outcome: Outcome = pickle.loads(self._wait(self._actor.execute.remote(pickle.dumps(task)), sink))
        self._see(ray.get(self._actor.seen.remote()))
        return outcome

    def begin(self, errand: Any) -> Any:
        """A run, not waited for: what `result` takes."""
        return self._actor.attempt.remote(errand)

    def result(self, done: Any, sink: Sink) -> Any:
        """What came of a run that is over; its process may be, too.

        Raises:
            JobError: the run is refused.
        """
        try:
            result = ray.get(done)
            self.tell(sink, to_the_end=True)
            self._see(ray.get(self._actor.seen.remote()))
        except RayActorError:
            self._hire()
            return Failure("the process that trained it died", again=True)
        except RayTaskError as error:
            return Failure.of(error.cause)
        if isinstance(result, JobError):
            raise result
        return result

    def tell(self, sink: Sink, to_the_end: bool = False) -> None:
        """Passes on what it has told since the last time; waits for nothing unless it is to the end."""
        while True:
            self._news = self._news or self._actor.news.remote()
            ready, _ = ray.wait([self._news], timeout=None if to_the_end else 0)
            if not ready:
                return
            asked, self._news = self._news, None
            try:
                heard = ray.get(asked)
            except RayActorError:
                return  # who waits for its result hears of it
            for what, told in heard:
                getattr(sink, what)(*told)
            if not heard or not to_the_end:
                return

    def stop(self) -> None:
        """Asks for an early end. Only sets a flag, since a signal handler must not talk to Ray."""
        self._stopping = True

    def tell_to_stop(self) -> None:
        """Hands that on."""
        self._actor.stop.remote()

    def close(self) -> None:
        """Ends the process at once."""
        ray.kill(self._actor)

    def closing(self) -> Any:
        """Its session ends, not waited for."""
        return self._actor.close.remote()

    def _hire(self) -> None:
        """A process for it. Workers have resources of their own; without any, the session trains in this one."""
        wants = {} if self._cluster.max_workers else together.needs(self._cluster, self._share)
        options = {"num_cpus": wants.get("CPU", 0), "num_gpus": wants.get("GPU", 0)}
        self._news = None
        self._actor = ray.remote(concurrency_groups={"asked": 1})(Side).options(**options).remote(*self._arguments)

    def _see(self, seen: Seen) -> None:
        self.device, self.device_name, self.kept, self.groups = seen.device, seen.device_name, seen.kept, seen.groups
        self.run, self.skipped, self.startup = seen.run, seen.skipped, seen.startup

    def _wait(self, done: Any, sink: Sink) -> Any:
        told = False
        while not ray.wait([done], timeout=POLL_SECONDS)[0]:
            self.tell(sink)
            if self._stopping and not told:
                self.tell_to_stop()
                told = True
        try:
            result = ray.get(done)
        except RayActorError as error:
            raise RunFailed("the process that measures step times died") from error
        except RayTaskError as error:
            raise error.cause from None
        self.tell(sink, to_the_end=True)
        return result


class Sides:
    """Sessions side by side, of which `session`, the first one, is open."""

    def __init__(self, needs: Needs, sink: Sink, work: Work, asked: int | None, num_runs: int) -> None:
        """`asked`: so many sessions; None: as many as the cluster holds. There are no more of them than runs.

        Raises:
            JobError: the cluster holds fewer, or cannot give what the job asks for.
        """
        cluster, most = needs.spec.cluster, max(1, num_runs)
        sink.stage("starting Ray")
        asked = min(asked, most) if asked else None
        self._owned, holds = together.open_ray(cluster, asked, "pilot.concurrent", needs.verbose, shares_gpus=True)
        self.num, gpus = min(holds, most), ray.cluster_resources().get("GPU", 0.0)
        self._share = together.gpu_share(cluster, self.num, gpus)
        whole = together.gpu_share(cluster, 1, gpus)
        self.packed = None if self.num == 1 else self._share / whole if whole else 1.0
        self._stopping, self._busy = False, dict[Any, tuple[Seat, Any]]()
        try:
            self._work, self._seats = ray.put(work), list[Seat]()
            self._needs = self._of_one(needs)
            self.session = self._seat()
            self.session.open(sink)
            self._needs = self._needs._replace(before=Before(self.session.run, self.session.skipped))
        except BaseException:
            self.close()
            raise
        if self.num > 1:
            part = f", {self._share:.2g} GPU a worker" if self._share else ""
            sink.note(f"pilot.concurrent: {self.num} runs side by side{part}; step times are measured alone before")

    @property
    def groups(self) -> int:
        """Worker groups of the first session."""
        return self.session.groups

    @property
    def held_workers(self) -> float:
        """Workers that it holds; of those that share a GPU, as many as GPUs."""
        return self.num * self._needs.spec.cluster.num_replicas * (self.packed or 1.0)

    def deal(self, deck: Deck, sink: Sink) -> Iterator[tuple[Any, Any]]:
        """Runs and what came of them, as each is over; when it was told to stop, no other is dealt."""
        told = False
        while True:
            while not self._stopping and (seat := self._free()) and (errand := deck.deal()) is not None:
                self._busy[seat.begin(errand)] = seat, errand
            if not self._busy:
                return
            ready, _ = ray.wait(list(self._busy), timeout=POLL_SECONDS)
            for seat, _ in self._busy.values():
                if self._stopping and not told:
                    seat.tell_to_stop()
                seat.tell(sink)
            told = self._stopping
            for done in ready:
                seat, errand = self._busy.pop(done)
                yield errand, seat.result(done, sink)

    def stop(self) -> None:
        """Asks for an early end. Only sets flags, since a signal handler must not talk to Ray."""
        self._stopping = True
        self.session.stop()

    def close(self) -> None:
        """Gives everything back; what is still under way ends at once."""
        if not self._busy and self._seats:
            ray.wait(
                closing := [seat.closing() for seat in self._seats], num_returns=len(closing), timeout=CLOSE_SECONDS
            )
        for seat in self._seats:
            seat.close()
        together.close_ray(self._owned)

    def _free(self) -> Seat | None:
        """A session without a run; another one where there may be more."""
        busy = [seat for seat, _ in self._busy.values()]
        idle = next((seat for seat in self._seats if seat not in busy), None)
        return idle or (self._seat() if len(self._seats) < self.num else None)

    def _seat(self) -> Seat:
        seat = Seat(self._needs, self._work, self.packed, self._share)
        self._seats.append(seat)
        return seat

    def _of_one(self, needs: Needs) -> Needs:
        """What one of the sessions is opened with."""
        spec, share = needs.spec, self._share
        if spec.cluster.max_workers:
            spec = spec.model_copy(update={"cluster": spec.cluster.model_copy(update={"gpus_per_worker": share})})
        return needs._replace(spec=spec, sessions=self.num, gpu_share=min(1.0, share or 1.0))
