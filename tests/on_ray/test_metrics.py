"""Gauges on Ray's own port, scraped there."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable

import pytest

from raymix.on_ray.metrics import GAUGES, Gauges, metric
from raymix.plan import Plan
from raymix.policy import next_segment
from raymix.report.history import History, Rates, SegmentReport
from raymix.session import Bill

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("attached")]


def scraped(run: str) -> dict[str, float]:
    """The gauges of a run on the port: name, and of the phase its kind, to value."""
    import ray

    port = ray.nodes()[0]["MetricsExportPort"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if f'run="{run}"' in line]
    found = {}
    for line in lines:
        kind = re.search(r'kind="(\w+)"', line)
        found[line.split("{")[0] + (f" {kind[1]}" if kind else "")] = float(line.split()[-1])
    return found


def wait_for(run: str, num: int, seconds: float = 20.0) -> dict[str, float]:
    until = time.monotonic() + seconds
    while len(found := scraped(run)) != num and time.monotonic() < until:
        time.sleep(0.2)
    return found


def test_a_run_is_seen_until_it_ends(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of()
    gauges = Gauges(lambda: Bill(worker_seconds=7200.0, cost=3.5, budget_share=0.25))
    history = History(rates=Rates(step_seconds={"ssl": 0.1, "mix": 0.1, "sl": 0.1}, workers=2)).begin(None)
    segment = next_segment(plan, history)
    assert segment is not None
    report = SegmentReport(
        segment=segment,
        seconds=2.0,
        data_seconds=0.5,
        images=300,
        labelled=300,
        ssl_loss=0.75,
        sl_loss=1.5,
        select_top1=40.0,
        gpu_bytes=2**30,
    )
    gauges.begin("seen", plan, history)
    gauges.segment("seen", report)
    kinds = {phase.kind for phase in plan.phases}
    found = wait_for("seen", len(GAUGES) - 1 + len(kinds))
    assert {name.split()[0] for name in found} == {metric(name) for name in GAUGES}
    told = {
        name: found[metric(name)] for name in ("images_per_second", "data_wait_share", "budget_spent_share", "cost")
    }
    assert told == {"images_per_second": 150.0, "data_wait_share": 0.25, "budget_spent_share": 0.25, "cost": 3.5}
    assert {kind: found[f"{metric('phase')} {kind}"] for kind in kinds} == {"ssl": 1.0, "mix": 0.0, "sl": 0.0}
    gauges.segment("seen", report.model_copy(update={"ssl_loss": None, "select_top1": None}))
    later = wait_for("seen", len(found) - 1)
    assert set(found) - set(later) == {metric("ssl_loss")}, "no loss of this kind any more; top-1 is the last known"
    gauges.close()
    assert wait_for("seen", 0) == {}
