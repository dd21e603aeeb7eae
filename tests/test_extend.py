"""`raymix.runner.run` on a run that is done: what extends it, what is refused, and what its report then covers."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raymix.jobfile import load_spec
from raymix.report.run import RunReport
from raymix.runner import Interrupted, run
from raymix.spec import JobError, JobSpec
from raymix.train.model import load

SpecOf = Callable[..., JobSpec]
torch.set_num_threads(1)
SHORT, LONG = {"ssl_epochs": 1, "sl_epochs": 1}, {"ssl_epochs": 2, "sl_epochs": 3}
SHARES = {"policy": "budgeted", "shares": {"ssl": 0.4, "mix": 0.2, "sl": 0.4}}
FLOPS = 2e9  # about thirty steps


def folder_of(spec: JobSpec) -> Path:
    return Path(spec.storage) / spec.name


def stored(spec: JobSpec) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder_of(spec).rglob("*")) if p.is_file()}


def refused(spec: JobSpec) -> str:
    """The line that says why a run cannot be resumed so; nothing is touched."""
    before = stored(spec)
    with pytest.raises(JobError) as caught:
        run(spec, resume=True, quiet=True)
    assert stored(spec) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_finished_run_is_extended_by_epochs(spec_of: SpecOf) -> None:
    first = run(spec_of(schedule=SHORT), quiet=True)
    spec = spec_of(schedule=LONG)
    second = run(spec, resume=True, quiet=True)
    assert (second.status, second.ended, second.attempts) == ("done", "complete", 2)
    assert [phase.kind for phase in second.phases] == ["ssl", "mix", "sl"] * 2
    assert second.phases[:3] == first.phases, "the past is frozen"
    assert second.curve[: len(first.curve)] == first.curve
    assert [decision.reason for decision in second.decisions] == ["extended: 1 SSL and 2 SL epochs more"]
    steps = sum(phase.steps for phase in second.phases)
    assert second.decisions[0].steps == tuple(phase.steps for phase in second.phases)
    assert second.curve[-1].step == steps
    seen = sum(phase.images for phase in second.phases)
    assert second.rows.seen["all"] + second.rows.seen["labelled"] == seen == 24 * steps
    assert second.final is not None
    assert second.ledger is not None
    assert second.ledger.worker_seconds == pytest.approx(second.totals.wall_seconds, rel=0.01)
    assert second.ledger.of("sl steps") + second.ledger.of("mix steps") + second.ledger.of("ssl steps") == (
        pytest.approx(sum(phase.seconds for phase in second.phases) - second.totals.data_seconds)
    )
    rows = [json.loads(line) for line in (folder_of(spec) / "metrics.jsonl").read_text().splitlines()]
    told = [row["step"] for row in rows if row["event"] == "segment"]
    assert told == sorted(set(told))
    assert [row["reason"] for row in rows if row["event"] == "decision"] == ["extended: 1 SSL and 2 SL epochs more"]
    assert RunReport.model_validate_json((folder_of(spec) / "report.json").read_text()) == second
    assert "extended: 1 SSL and 2 SL epochs more" in (folder_of(spec) / "report.html").read_text()
    assert load_spec(folder_of(spec) / "job.yaml") == spec
    assert load(folder_of(spec)).class_names == second.class_names
    assert run(spec, resume=True, quiet=True) == second, "done again"
    assert refused(spec_of(schedule=SHORT)).startswith("schedule.ssl_epochs: "), "and no shorter any more"


def test_an_extension_is_interrupted_and_resumed(spec_of: SpecOf, interrupt: Callable[..., None]) -> None:
    run(spec_of(schedule=SHORT), quiet=True)
    interrupt(1, signal.SIGTERM)
    spec = spec_of(schedule=LONG)
    with pytest.raises(Interrupted):
        run(spec, resume=True, quiet=True)
    interrupt(-1)
    done = run(spec, resume=True, quiet=True)
    assert (done.status, done.attempts, len(done.decisions)) == ("done", 3, 1)
    assert [phase.steps for phase in done.phases] == list(done.decisions[0].steps)


def test_an_extension_that_was_killed_goes_on(spec_of: SpecOf, interrupt: Callable[..., None]) -> None:
    """Its folder still holds the report of the run as it was before."""
    first = run(spec_of(schedule=SHORT), quiet=True)
    report = folder_of(spec_of()) / "report.json"
    text = report.read_text()
    interrupt(1)
    spec = spec_of(schedule=LONG)
    with pytest.raises(Interrupted):
        run(spec, resume=True, quiet=True)
    report.write_text(text)
    interrupt(-1)
    done = run(spec, resume=True, quiet=True)
    assert (done.status, len(done.phases)) == ("done", 2 * len(first.phases))


def test_what_does_not_extend_a_run_is_refused(spec_of: SpecOf, interrupt: Callable[..., None]) -> None:
    interrupt(1)
    with pytest.raises(Interrupted):
        run(spec_of(schedule=SHORT), quiet=True)
    assert refused(spec_of(schedule=LONG)).startswith(f"schedule.ssl_epochs: {folder_of(spec_of())} is not done yet (")
    interrupt(-1)
    run(spec_of(schedule=SHORT), resume=True, quiet=True)
    for schedule, field in (
        ({"ssl_epochs": 1, "sl_epochs": 0.5}, "schedule.sl_epochs: "),
        ({"ssl_epochs": 0.5, "sl_epochs": 2}, "schedule.ssl_epochs: "),
        ({**LONG, "mix_ratio": 0.75}, "schedule.mix_ratio: "),
        ({"ssl_epochs": 2, "sl_epochs": 1}, "schedule.ssl_epochs: more SSL epochs alone would leave a classifier"),
    ):
        assert refused(spec_of(schedule=schedule)).startswith(field)
    assert refused(spec_of(schedule=LONG, optim={"batch": 24, "lr": 5e-4})).startswith("optim.lr: ")


def test_a_run_that_its_goal_ended_is_not_extended(spec_of: SpecOf) -> None:
    goal = {"top1": 0.5}
    first = run(spec_of(schedule=SHORT, goal=goal), quiet=True)
    assert first.ended == "goal"
    assert refused(spec_of(schedule=LONG, goal=goal)).startswith("schedule.ssl_epochs: the run was ended by its goal")


def test_a_larger_budget_extends_a_run_that_was_planned_to_end_with_it(spec_of: SpecOf) -> None:
    def asked(budget: dict[str, Any] | None) -> JobSpec:
        return spec_of(schedule=SHARES, budget=budget)

    first = run(asked({"flops": FLOPS}), quiet=True)
    assert first.ended == "budget"
    assert refused(asked({"flops": FLOPS / 2})).startswith("budget.flops: 1e+09 is less than the 2e+09 that")
    assert refused(asked({"wall": 900})).startswith("budget: that of the run is in flops (")
    assert run(asked({"flops": FLOPS}), resume=True, quiet=True) == first
    second = run(asked({"flops": 2 * FLOPS}), resume=True, quiet=True)
    assert (second.ended, second.attempts) == ("budget", 2)
    assert second.phases[: len(first.phases)] == first.phases
    assert second.budget is not None
    assert 0.9 * second.budget.asked < second.budget.spent <= second.budget.asked
    assert "extended: the budget is larger" in [decision.reason for decision in second.decisions]
    num = len(first.phases)
    assert [phase.kind for phase in second.phases[num:]] == [phase.kind for phase in first.phases]
    for new, old in zip(second.phases[num:], first.phases, strict=True):
        assert abs(new.steps - old.steps) <= 2
    assert run(asked({"flops": 2 * FLOPS}), resume=True, quiet=True) == second
