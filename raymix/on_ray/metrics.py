"""A run's figures as gauges on Ray's Prometheus port, from the driver; `cluster/grafana` draws them."""

from __future__ import annotations

import math
from collections.abc import Callable

from ray.util.metrics import Gauge

from raymix.plan import Decision, Plan, changed
from raymix.report.history import History, SegmentReport
from raymix.report.run import RunReport
from raymix.session import Bill

GONE = math.nan  # Ray exports no series of this value: the way to take one back
GAUGES = {
    "images_per_second": "Images through the steps in a second, the wait for data counted in",
    "data_wait_share": "Share of the steps' seconds that is wait for data",
    "ssl_loss": "Mean SSL loss of the newest segment",
    "sl_loss": "Mean supervised loss of the newest segment",
    "select_top1": "Percent of the select rows that are classified right",
    "learning_rate": "Rate of the newest step",
    "progress": "Share of the planned steps that is done",
    "phase": "1 for the kind of phase that is trained now",
    "gpu_memory_bytes": "Most memory that a worker has held on its GPU",
    "workers": "Processes that train",
    "worker_seconds": "Seconds that workers were held, over all of them and all attempts",
    "cost": "The same in the currency of cluster.price_per_worker_hour",
    "budget_spent_share": "Share of the budget that is spent",
}


def metric(name: str) -> str:
    """A gauge as Prometheus names it."""
    return f"ray_raymix_{name}"


class Gauges:
    """A sink that shows the newest figures of one run, tagged by its name, until it ends."""

    def __init__(self, bill: Callable[[], Bill]) -> None:
        """`bill`: what the run has cost so far."""
        self._bill = bill
        keys = {"phase": ("run", "kind")}
        self._gauges = {
            name: Gauge(f"raymix_{name}", description, tag_keys=keys.get(name, ("run",)))
            for name, description in GAUGES.items()
        }
        self._plan: Plan | None = None
        self._shown: set[tuple[str, str, str]] = set()  # gauge, run, kind

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Stages have no figure."""

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """The workers that train from now on."""
        self._plan = plan
        self._set(run, "workers", history.rates.workers or plan.spec.cluster.num_replicas)

    def decided(self, run: str, decision: Decision) -> None:
        """How many steps there are from now on."""
        if self._plan is not None:
            self._plan = changed(self._plan, decision)

    def segment(self, run: str, report: SegmentReport) -> None:
        """The figures of a segment that is done; one that it does not have is taken back, but for top-1."""
        assert self._plan is not None
        segment, seconds, bill = report.segment, report.seconds, self._bill()
        self._set(run, "images_per_second", report.images / seconds if seconds else None)
        self._set(run, "data_wait_share", report.data_seconds / seconds if seconds else None)
        self._set(run, "ssl_loss", report.ssl_loss)
        self._set(run, "sl_loss", report.sl_loss)
        if report.select_top1 is not None:  # not every segment looks at them
            self._set(run, "select_top1", report.select_top1)
        self._set(run, "learning_rate", segment.lr[1])
        self._set(run, "progress", (segment.start + segment.steps) / max(1, self._plan.num_steps))
        self._set(run, "gpu_memory_bytes", report.gpu_bytes)
        self._set(run, "worker_seconds", bill.worker_seconds)
        self._set(run, "cost", bill.cost)
        self._set(run, "budget_spent_share", bill.budget_share)
        now = self._plan.phases[segment.phase].kind
        for kind in dict.fromkeys(phase.kind for phase in self._plan.phases):
            self._set(run, "phase", float(kind == now), kind)

    def note(self, text: str) -> None:
        """Notes have no figure."""

    def end(self, run: str, report: RunReport) -> None:
        """Takes all of them back."""
        self.close()

    def close(self) -> None:
        """Takes all of them back: a run that was broken off goes nowhere."""
        for name, run, kind in tuple(self._shown):
            self._set(run, name, None, kind)

    def _set(self, run: str, name: str, value: float | None, kind: str = "") -> None:
        key = name, run, kind
        if value is None and key not in self._shown:
            return
        self._gauges[name].set(GONE if value is None else value, {"run": run, **({"kind": kind} if kind else {})})
        if value is None:
            self._shown.discard(key)
        else:
            self._shown.add(key)
