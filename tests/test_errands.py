"""The runs of a pilot: their order, what is tried again, what a failure leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import raymix
from raymix import conduct
from raymix.errands import ERROR_FILE, Deck, Errand
from raymix.report.history import Rates, SegmentReport
from raymix.session import Failure, RunFailed, WouldRecur
from raymix.spec import JobError, JobSpec
from raymix.watch.jsonl import JsonlSink

LOST, HOPELESS = Failure("its process died", again=True), Failure("the loss is not finite", again=False)


def three(spec: JobSpec) -> list[Errand]:
    one = Errand("mix", 0, 1.0, spec, Rates(step_seconds={}))
    return [replace(one, asked=spec.model_copy(update={"name": name})) for name in ("a", "b", "c")]


def test_a_run_that_failed_comes_again_before_the_next_as_often_as_asked(spec_of: Callable[..., JobSpec]) -> None:
    deck, dealt = Deck(three(spec_of()), retries=2), []
    while (errand := deck.deal()) is not None:
        dealt.append(errand.name)
        if errand.name == "b" and not deck.again(errand, LOST):
            dealt.append("lost")
    assert dealt == ["a", "b", "b", "b", "lost", "c"]
    assert (deck.attempts["b"], len(deck)) == (3, 0)


def test_what_would_come_to_the_same_is_not_tried_again(spec_of: Callable[..., JobSpec]) -> None:
    deck = Deck(three(spec_of()), retries=2)
    errand = deck.deal()
    assert errand is not None
    assert not deck.again(errand, HOPELESS)
    assert len(deck) == 2


def test_what_a_failure_says() -> None:
    assert Failure.of(WouldRecur("a: the loss is not finite")) == ("a: the loss is not finite", False)
    assert Failure.of(RunFailed("worker 1:\nkilled")) == ("worker 1: killed", True)
    assert Failure.of(OSError("disk full")) == ("OSError: disk full", True)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`full_disk(3)`: so many attempts at mix find the disk full at their second segment."""
    left = [0]

    class Full(JsonlSink):
        heard = 0

        def segment(self, run: str, report: SegmentReport) -> None:
            super().segment(run, report)
            self.heard += 1
            if run.startswith("mix") and self.heard == 2 and left[0]:
                left[0] -= 1
                raise OSError("no space left on device")

    def arm(attempts: int) -> None:
        left[0] = attempts

    monkeypatch.setattr(conduct, "JsonlSink", Full)
    return arm


def test_a_run_is_tried_again_and_one_that_is_lost_when_the_pilot_is_resumed(
    spec_of: Callable[..., JobSpec],
    tmp_path: Path,
    full_disk: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = spec_of(pilot={"preset": "quick", "arms": ["mix", "sl"]})
    folder = tmp_path / "runs" / "digits"
    full_disk(2)
    lost = r"^1 of 2 runs failed for good, mix-seed0-T1.00 first: OSError: no space left on device;"
    with pytest.raises(RunFailed, match=lost) as end:
        raymix.pilot(spec, quiet=True)
    told = "mix-seed0-T1.00 is tried again, from its last checkpoint: OSError: no space left on device"
    assert told in capsys.readouterr().err
    report = end.value.report
    assert (report.status, len(report.arms["sl"]), report.arms["mix"]) == ("failed", 1, ())
    assert [(run.arm, run.attempts) for run in report.failed] == [("mix", 2)]
    assert "1 run failed for good and is left out: mix, seed 0, T: OSError" in report.note
    mix = folder / "runs" / "mix-seed0-T1.00"
    assert "in segment" in (mix / ERROR_FILE).read_text(), "a traceback"

    again = raymix.pilot(spec, resume=True, quiet=True)
    assert (again.status, again.failed) == ("done", ())
    assert {arm: len(runs) for arm, runs in again.arms.items()} == {"mix": 1, "sl": 1}
    steps = [json.loads(line)["step"] for line in (mix / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "it went on where it was"
    assert len(list(mix.glob("attempt-*.json"))) == 3


def test_more_side_by_side_than_the_machine_holds_starts_nothing(digits_job: dict[str, Any], tmp_path: Path) -> None:
    there = os.cpu_count() or 1
    job = {**digits_job, "storage": str(tmp_path / "runs"), "pilot": {"preset": "quick", "concurrent": there + 1}}
    with pytest.raises(
        JobError, match=rf"^pilot.concurrent: {there + 1} x 1 CPUs are more than this machine's {there} "
    ):
        raymix.pilot(job, quiet=True)
    assert not (tmp_path / "runs").exists()
