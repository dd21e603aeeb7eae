"""The fixed policy: its segments tile the plan, keep their length, hit the evaluation marks, and stay as they are."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from raymix.plan import Plan, Segment, pattern
from raymix.policy import SEGMENT_SECONDS, next_segment, unroll
from raymix.report.history import History, Rates, SegmentReport

PlanOf = Callable[..., Plan]


def rates_of(**seconds: float) -> Rates:
    return Rates.model_validate({"step_seconds": {"ssl": 0.1, "mix": 0.1, "sl": 0.1, "sl_drop": 0.1, **seconds}})


def report_of(segment: Segment, evaluate_seconds: float = 0.0, seconds: float = 1.0) -> SegmentReport:
    return SegmentReport(
        segment=segment,
        seconds=seconds,
        data_seconds=0,
        images=0,
        labelled=0,
        ssl_loss=None,
        sl_loss=None,
        evaluate_seconds=evaluate_seconds,
    )


def random_plans(plan_of: PlanOf, count: int = 100) -> Iterator[tuple[Plan, Rates]]:
    """Plans and rates of every kind: tiny and long, with and without labels, alternating, microseconds to minutes."""
    draw = random.Random(0)
    while count:
        rows = draw.randint(2, 600)
        schedule: dict[str, Any] = {
            "ssl_epochs": draw.choice([0, 0.3, 1, 7, 40]),
            "sl_epochs": draw.choice([0.5, 1, 9, 40]),
            "mix_ratio": draw.choice([0, 0.25, 0.5, 1, draw.random()]),
            "sl_drop": draw.choice([0, 0, 0.7, 1]),
        }
        if draw.random() < 0.4:
            schedule |= {"interleave": "alternate", "alternate_steps": draw.choice([None, 1, 2, 5, 50])}
        try:
            plan = plan_of(
                rows,
                num_labelled=draw.choice([rows, rows // 2 + 1, rows // 20 + 1]),
                num_select=draw.choice([0, 50]),
                schedule=schedule,
                optim={"batch": draw.choice([2, 8, 64])},
                evaluate={"every": draw.choice([0, 0.001, 0.05, 0.3, 1]), "max_share": 1},
            )
        except ValueError:  # the data cannot carry it
            continue
        if plan.num_steps > 3000:
            continue
        yield plan, rates_of(**{kind: 10 ** draw.uniform(-6, 1.5) for kind in ("ssl", "mix", "sl", "sl_drop")})
        count -= 1


def seconds_of(segment: Segment, rates: Rates) -> float:
    return sum(rates.step_seconds[kind] * steps for kind, steps in segment.pattern)


# ---- for any plan and any rates ---------------------------------------------------------------------------------


def test_segments_tile_the_plan_and_stay_within_phases(plan_of: PlanOf) -> None:
    for plan, rates in random_plans(plan_of):
        here = 0
        for segment in unroll(plan, rates):
            assert segment.start == here, "no gap, no overlap"
            here += segment.steps
            phase = plan.phases[segment.phase]
            assert phase.start <= segment.start < here <= phase.start + phase.steps
            assert segment.kind == phase.kind
            assert segment.pattern == pattern(plan, segment.start, segment.steps)
            assert sum(steps for _, steps in segment.pattern) == segment.steps
        assert here == plan.num_steps


def test_segments_last_two_seconds_or_one_step(plan_of: PlanOf) -> None:
    for plan, rates in random_plans(plan_of):
        for segment in unroll(plan, rates):
            assert segment.steps == 1 or seconds_of(segment, rates) <= SEGMENT_SECONDS * (1 + 1e-9)


def test_no_segment_is_shorter_than_it_must_be(plan_of: PlanOf) -> None:
    """One ends at its phase's end, at an evaluation mark, or because one more step would not fit."""
    for plan, rates in random_plans(plan_of):
        segments = unroll(plan, rates)
        for segment, after in pairwise(segments):
            if not segment.evaluate and after.phase == segment.phase:
                more = rates.step_seconds[after.pattern[0][0]]
                assert seconds_of(segment, rates) + more > SEGMENT_SECONDS * (1 - 1e-9)


def test_evaluation_marks_are_hit(plan_of: PlanOf) -> None:
    for plan, rates in random_plans(plan_of):
        every = plan.spec.evaluate.every
        ends = {segment.start + segment.steps for segment in unroll(plan, rates) if segment.evaluate}
        if not every or not plan.facts.num_select:
            assert not ends
            continue
        apart = max(1, every * plan.num_steps)
        marks = {round(i * apart) for i in range(1, round(plan.num_steps / apart) + 2)}
        marks = {mark for mark in marks if 0 < mark < plan.num_steps}
        assert ends == {mark for mark in marks if plan.phases[plan.phase_at(mark - 1)].kind != "ssl"}


def test_the_same_question_has_the_same_answer(plan_of: PlanOf) -> None:
    for plan, rates in random_plans(plan_of, 40):
        assert unroll(plan, rates) == unroll(plan, rates)


def test_asking_ahead_gives_the_segments_that_asking_late_gives(plan_of: PlanOf) -> None:
    """Rank 0 asks for n+1 while n runs. A restarted group asks with n reported, and must go on alike."""
    draw = random.Random(1)
    for plan, rates in random_plans(plan_of, 60):
        history = History(rates=rates)
        running = next_segment(plan, history)
        while running is not None:
            early = next_segment(plan, history.expect(running))
            history = history.add(report_of(running, draw.choice([0, 0.01, 5]) if running.evaluate else 0.0))
            assert next_segment(plan, history) == early
            if draw.random() < 0.01:  # as from a checkpoint
                assert next_segment(plan, History.model_validate_json(history.model_dump_json())) == early
            running = early


# ---- evaluation and its share -----------------------------------------------------------------------------------


def evaluated(plan: Plan, cost: float, seconds: float = 1.0) -> int:
    """How often a run evaluates if that takes `cost` seconds and every segment `seconds`."""
    history, count = History(rates=rates_of()), 0
    while (segment := next_segment(plan, history)) is not None:
        count += segment.evaluate
        history = history.add(report_of(segment, cost if segment.evaluate else 0.0, seconds))
    return count


def test_evaluation_keeps_to_its_share(plan_of: PlanOf) -> None:
    def plan(share: float) -> Plan:
        schedule = {"ssl_epochs": 100, "sl_epochs": 100}
        return plan_of(1000, schedule=schedule, optim={"batch": 100}, evaluate={"every": 0.05, "max_share": share})

    segments = len(unroll(plan(0.05), rates_of()))
    assert evaluated(plan(0.05), cost=0.01) == 13, (
        "cheap: at every mark after the ssl phase, whose classifier is untrained"
    )
    assert evaluated(plan(0.05), cost=segments) == 1, "dear: once, to learn what it costs"
    some = evaluated(plan(0.05), cost=1)
    assert 1 < some < 19
    assert (some - 1) * 1 <= 0.05 * segments
    assert evaluated(plan(0), cost=0.01) == 0, "no share, no evaluation"


@pytest.mark.parametrize("every", [0, 0.05])
def test_a_run_without_val_is_judged_by_select_rows_at_its_end(plan_of: PlanOf, every: float) -> None:
    plan = plan_of(1000, optim={"batch": 100}, evaluate={"every": every, "max_share": 0.0 if every else 0.03})
    hidden = plan.model_copy(update={"facts": plan.facts.model_copy(update={"num_val": 0})})
    assert [segment.evaluate for segment in unroll(hidden, rates_of())][-1]
    assert not unroll(plan, rates_of())[-1].evaluate
    blind = plan.model_copy(update={"facts": hidden.facts.model_copy(update={"num_select": 0})})
    assert not unroll(blind, rates_of())[-1].evaluate


def test_no_segment_after_the_last(plan_of: PlanOf) -> None:
    plan = plan_of()
    last = unroll(plan, rates_of())[-1]
    assert not last.evaluate, "the run's end has an evaluation of its own"
    assert next_segment(plan, History(rates=rates_of(), reports=(report_of(last),))) is None
    assert next_segment(plan, History(rates=rates_of(), pending=last)) is None


def test_a_restart_goes_on_where_it_stood(plan_of: PlanOf) -> None:
    plan = plan_of(1000, schedule={"ssl_epochs": 30, "sl_epochs": 30})
    segments = unroll(plan, rates_of())
    history = History(rates=rates_of(), reports=tuple(report_of(segment) for segment in segments[:5]))
    assert next_segment(plan, history) == segments[5]


# ---- speed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alternate", [{}, {"interleave": "alternate", "alternate_steps": 100}])
def test_a_million_steps_of_a_microsecond(plan_of: PlanOf, alternate: dict[str, Any]) -> None:
    plan = plan_of(10_000, schedule={"ssl_epochs": 8000, "sl_epochs": 8000, **alternate}, optim={"batch": 100})
    assert plan.num_steps >= 1_000_000
    before = time.perf_counter()
    segments = unroll(plan, rates_of(ssl=1e-6, mix=1e-6, sl=1e-6))
    assert time.perf_counter() - before < 1
    assert len(segments) < 30


def test_an_answer_takes_as_long_late_as_early(plan_of: PlanOf) -> None:
    schedule = {"ssl_epochs": 8000, "sl_epochs": 8000, "interleave": "alternate", "alternate_steps": 1}
    plan = plan_of(10_000, schedule=schedule, optim={"batch": 100}, evaluate={"every": 0})
    middle = plan.phases[1].start + plan.phases[1].steps // 2
    late = unroll(plan_of(10_000, evaluate={"every": 0}), rates_of())[0].model_copy(
        update={"start": middle, "steps": 1}
    )
    history = History(rates=rates_of(), reports=(report_of(late),) * 50_000)
    next_segment(plan, history)  # the first one fills the look-up tables
    before = time.perf_counter()
    for _ in range(100):
        next_segment(plan, history)
    assert (time.perf_counter() - before) / 100 < 2e-3
