"""A session on Ray: one worker group, started once, that serves every run of a command."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace

import ray
import ray.train

from raymix.data.alike import Hashes
from raymix.data.reading import check_bad
from raymix.on_ray import reading
from raymix.on_ray.checkup import check_storage
from raymix.on_ray.cluster import disconnect, hush_data, on_this_node, room, session_folder, smallest_store
from raymix.on_ray.control import Trainer
from raymix.on_ray.entry import Workers, work
from raymix.on_ray.guard import Guard
from raymix.on_ray.hold import Kept, Memory
from raymix.on_ray.mailbox import Event, Mailbox
from raymix.on_ray.metrics import Gauges
from raymix.on_ray.reading import Streaming
from raymix.on_ray.restarts import Restarts
from raymix.on_ray.scaling import Sizes
from raymix.plan import worker_counts
from raymix.session import Bill, Failure, Hold, Needs, RunFailed, WouldRecur, decide, hashes_of, known_unreadable
from raymix.spec import JobError
from raymix.train.task import Outcome, Task
from raymix.watch import Sink

POLL_SECONDS = 0.25
CLOSE_SECONDS = 20.0  # for workers of a Ray that stays, which end by themselves when they have no task
PLACED_SECONDS = 10.0  # in which a group has its room, where it is there
ABORT_SECONDS = 1.0  # for others: there is nothing to wait for


class RaySession:
    """Starts the workers, reads the images while they start, and hands them tasks."""

    device, device_name, kept = "cpu", "CPU", "host"  # until the first worker has said what it is
    hashes: Hashes | None = None

    def __init__(self, needs: Needs, sink: Sink, owned: bool, ray_seconds: float) -> None:
        """`owned`: the Ray that this process is connected to ends with the session; connecting took `ray_seconds`."""
        self._spec, self.frame, self._stopping = needs.spec, needs.frame, False
        self._cursor, self.groups, self._idle = 0, 0, False
        self._memory: Memory | None = None
        self._owned, self.startup = owned, {"ray": ray_seconds}
        if not needs.verbose:
            hush_data()
        try:
            check_storage(needs.spec)
            keep, self.run = decide(needs, room(needs.spec.cluster, self._owned), sink)
        except JobError:
            if self._owned:
                disconnect()
            raise
        self._folder = tempfile.mkdtemp(prefix="raymix-", dir=session_folder())
        self._mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=on_this_node()).remote()
        self._guard = Guard(needs.spec.failures, self._mailbox)
        self._started = time.monotonic()
        self._verbose = needs.verbose
        counts = worker_counts(needs.spec, self.run)
        self._sizes = Sizes(needs.spec, counts, self._mailbox) if needs.spec.cluster.elastic else None
        self._begin()
        if len(ray.nodes()) > 1:  # what reads would hold CPUs that keep the group together on a node
            self._restarts.placed.wait(PLACED_SECONDS)
        try:
            ray.get(self._mailbox.put_images.remote(self._read(needs, keep, sink)))
            self.startup["images"] = time.monotonic() - self._started
        except BaseException:
            self.close()
            raise
        sink.stage("starting workers")

    @property
    def worker_seconds(self) -> float:
        """Seconds since the group was asked for, times workers; of groups of several sizes, their sum."""
        if self._sizes is not None:
            return self._sizes.worker_seconds
        return (time.monotonic() - self._started) * self._spec.cluster.max_workers

    @property
    def holds(self) -> tuple[Hold, ...]:
        """The groups of an elastic session, in order; of another, none."""
        return self._sizes.holds if self._sizes is not None else ()

    def exports(self, bill: Callable[[], Bill]) -> tuple[Sink, ...]:
        """Gauges on Ray's Prometheus port."""
        return (Gauges(bill),)

    def execute(self, task: Task, sink: Sink) -> Outcome:
        """Trains a task on the workers; a group that dies or hangs is started again, from the newest checkpoint.

        Raises:
            WouldRecur: a loss is not finite, or a step does not fit into the device's memory.
            RunFailed: its last checkpoint could not be written.
            RunFailed: the group died more often than failures.max_restarts; the next task gets another one.
        """
        self._idle = False
        if not self._thread.is_alive():
            self._begin()
        task = self._due(task)
        ray.get(self._mailbox.put_task.remote(task.run, pickle.dumps(task)))
        told_to_stop = False
        while True:
            for note in self._sizes.take_notes() if self._sizes is not None else ():
                sink.note(note)
            if self._stopping and not told_to_stop:
                self._mailbox.stop.remote()
                self._restarts.hurry()
                if self._sizes is not None:
                    self._sizes.closed = True
                told_to_stop = True
            self._guard.look(task, self._restarts, sink)
            alive = self._thread.is_alive()  # asked before the events: what a group told before it died is heard
            events = ray.get(self._mailbox.events.remote(self._cursor))
            self._cursor += len(events)
            for event in events:
                outcome = self._hear(event, sink)
                if outcome is not None and event.run == task.run:
                    self._idle = True
                    return outcome
            while not self._restarts.notes.empty():
                sink.note(self._restarts.notes.get())
            if not alive:
                ray.get(self._mailbox.drop.remote(task.run))
                words = self._restarts.last_words or _one_line(self._error)
                raise RunFailed(f"{task.run}: {words}; --resume goes on from the newest checkpoint") from self._error
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Asks for an early end. Only sets a flag, since a signal handler must not talk to Ray."""
        self._stopping = True

    def close(self) -> None:
        """Ends the workers, and Ray where it is this session's own."""
        self._mailbox.close.remote()
        if self._sizes is not None:
            self._sizes.closed = True
        self._thread.join(CLOSE_SECONDS if self._idle and not self._owned else ABORT_SECONDS)
        if self._owned:
            self._trainer.leave(self._thread)
            disconnect()
        elif not self._thread.is_alive():
            ray.kill(self._mailbox)  # workers that still start will ask it, hear "close" and end
        if self._memory is not None:
            self._memory.close()
            self._memory = None  # its descriptor's number may soon be somebody else's
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, needs: Needs, keep: bool, sink: Sink) -> Kept | Streaming:
        """Reads the images to keep them, or checks that they can be read."""
        rows, ids, frame, cluster = needs.rows, needs.ids, needs.frame, needs.spec.cluster

        def progress(done: int, total: int) -> None:
            sink.stage("reading images" if keep else "checking images", done, total)

        if keep:
            self._memory, images, self.skipped = reading.keep(rows, ids, frame, progress)
            check_bad(self.skipped, len(ids), rows, needs.spec.data)
            self.hashes = hashes_of(images.on_this_node(), needs, sink)
            return images
        known = known_unreadable(needs)
        self.skipped = reading.check(rows, ids, frame, progress) if known is None else known
        check_bad(self.skipped, len(ids), rows, needs.spec.data)
        return reading.streaming(rows, frame, cluster.max_workers, cluster.cpus_per_worker, smallest_store())

    def _hear(self, event: Event, sink: Sink) -> Outcome | None:
        """Passes an event on; returns a run's outcome."""
        if event.what == "joined":
            self.device, self.device_name, self.kept, workers = event.value
            self.groups += 1
            self.startup.setdefault("workers", time.monotonic() - self._started)
            self._restarts.begin()
            if self.groups > 1:
                size = f": {workers} of them" if self._sizes is not None else ""
                sink.note(f"the workers were started again (group {self.groups}{size})")
        elif event.what == "begin":
            sink.begin(event.run, *event.value)
        elif event.what == "decided":
            sink.decided(event.run, event.value)
        elif event.what == "segment":
            sink.segment(event.run, event.value)
        elif event.what == "note":
            sink.note(event.value)
        else:
            outcome: Outcome | Failure = pickle.loads(event.value)
            if isinstance(outcome, Failure):
                self._idle = True
                raise (RunFailed if outcome.again else WouldRecur)(outcome.why)
            return outcome
        return None

    def _begin(self) -> None:
        """Asks for a worker group, in a thread: there, Ray Train leaves the signal handlers alone."""
        self._error: BaseException | None = None
        self._restarts = Restarts(self._spec.failures, self._mailbox)
        self._trainer = self._make_trainer()
        self._thread = threading.Thread(target=self._fit, name="raymix-fit", daemon=True)
        self._thread.start()

    def _make_trainer(self) -> Trainer:
        cluster = self._spec.cluster
        resources = {"CPU": cluster.cpus_per_worker}
        if cluster.gpus_per_worker:
            resources["GPU"] = cluster.gpus_per_worker
        resources.update(cluster.resources_per_worker)
        config = {
            "mailbox": self._mailbox,
            "cache": self._spec.data.cache,
            "threads": int(cluster.cpus_per_worker),
            "gpu_share": min(1.0, cluster.gpus_per_worker or 1.0),
        }
        # the run name is fresh and its folder thrown away: raymix's checkpoints are its own, and Ray, which resumes
        # whatever has the same name, must find nothing
        return Trainer(
            work,
            owned=self._owned,
            restarts=self._restarts,
            patience=self._spec.failures.hang_outside,
            sizes=self._sizes,
            train_loop_config=config,
            backend_config=Workers(),
            scaling_config=ray.train.ScalingConfig(
                num_workers=(cluster.min_workers, cluster.max_workers) if cluster.elastic else cluster.max_workers,
                use_gpu=cluster.gpus_per_worker > 0,
                resources_per_worker=resources,
                placement_strategy=cluster.placement.upper(),
            ),
            run_config=ray.train.RunConfig(
                name=f"raymix-{uuid.uuid4().hex[:12]}",
                storage_path=self._folder,
                logging_config=ray.train.LoggingConfig(log_level="INFO" if self._verbose else "ERROR"),
            ),
        )

    def _due(self, task: Task) -> Task:
        """A task whose budget of worker-seconds ends by the clock of as many workers as there are, group by group."""
        sizes, limit = self._sizes, task.held_limit
        if sizes is None or limit is None:
            return task

        def due(workers: int) -> Task:
            return replace(task, deadline=time.time() + (limit - sizes.worker_seconds) / workers)

        def before_group(workers: int) -> None:
            ray.get(self._mailbox.put_anew.remote(task.run, pickle.dumps(due(workers))))

        sizes.before_group = before_group
        return due(sizes.holds[-1].workers if sizes.holds else sizes.counts[-1])

    def _fit(self) -> None:
        try:
            self._trainer.fit()
        except BaseException as error:
            self._error = error


def _one_line(error: BaseException | None) -> str:
    """What went wrong, shortly, where it was no failure of a group."""
    if error is None:
        return "the workers ended without an outcome"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
