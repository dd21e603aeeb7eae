"""The mailbox as a plain class, by asyncio and without Ray: tasks, events, segments, stop and close."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from raymix.failing.pulse import Beat, Now, Process
from raymix.on_ray.mailbox import Mailbox
from raymix.plan import Decision, Plan, Segment
from raymix.policy import next_segment, unroll
from raymix.report.history import History, Rates, SegmentReport

Value = TypeVar("Value")


def run(work: Awaitable[Value]) -> Value:
    """Nothing here may block."""

    async def soon() -> Value:
        return await asyncio.wait_for(work, 20)

    return asyncio.run(soon())


def done(segment: Segment, seconds: float = 2.0, evaluate_seconds: float = 0.0) -> SegmentReport:
    return SegmentReport(
        segment=segment,
        seconds=seconds,
        data_seconds=0,
        images=96 * segment.steps,
        labelled=0,
        ssl_loss=1.0,
        sl_loss=None,
        evaluate_seconds=evaluate_seconds,
    )


@pytest.fixture
def plan(plan_of: Callable[..., Plan]) -> Plan:
    return plan_of(schedule={"ssl_epochs": 6, "sl_epochs": 6, "mix_ratio": 0.5}, evaluate={"every": 0.1})


@pytest.fixture
def rates(plan: Plan) -> Rates:
    return Rates(step_seconds=dict.fromkeys(plan.kinds, 0.25))


# ---- tasks ----------------------------------------------------------------------------------------------------------


def test_a_task_is_named_until_it_has_an_outcome() -> None:
    async def talk() -> None:
        box = Mailbox()
        assert await box.next_task() == "wait"
        await box.put_task("first", b"1")
        assert await box.next_task() == b"1"
        assert await box.next_task() == b"1", "a group that was started again goes on with it"
        await box.put_task("second", b"2")
        assert await box.next_task() == b"1"
        await box.finish("first", b"outcome")
        assert await box.next_task() == b"2"
        await box.finish("second", b"why there is none")
        assert await box.next_task() == "wait"

    run(talk())


def test_a_run_that_is_dropped_is_not_taken_up_again() -> None:
    async def talk() -> None:
        box = Mailbox()
        await box.put_task("lost", b"1")
        await box.drop("lost")
        assert await box.next_task() == "wait"
        await box.put_task("next", b"2")
        assert await box.next_task() == b"2"
        await box.drop("lost")

    run(talk())


def test_events_are_read_once_by_cursor_and_stay_for_who_asks_again() -> None:
    async def talk() -> None:
        box = Mailbox()
        await box.join("cpu", "CPU", "host", 2)
        await box.put_task("run", b"1")
        await box.note("run", "the disk is full")
        await box.finish("run", b"outcome")
        all_of_them = await box.events(0)
        assert [event.what for event in all_of_them] == ["joined", "note", "done"]
        assert [event.value for event in all_of_them] == [("cpu", "CPU", "host", 2), "the disk is full", b"outcome"]
        assert await box.events(1) == all_of_them[1:]
        assert await box.events(3) == []

    run(talk())


def test_closing_ends_waiting_workers_wherever_they_wait() -> None:
    async def talk() -> None:
        box = Mailbox()
        await box.put_task("cut off", b"1")
        assert await box.images() == "wait"
        await box.close()
        assert await box.next_task() == "close"
        assert await box.images() == "close", "images that will never come"
        await box.stopped()

    run(talk())


def test_images_are_handed_out_as_they_were_put() -> None:
    async def talk() -> None:
        box, refs = Mailbox(), [object()]
        await box.put_images(refs)
        assert await box.images() is refs

    run(talk())


def test_stop_holds_for_one_task() -> None:
    async def talk() -> None:
        box = Mailbox()
        await box.put_task("first", b"1")
        waiting = asyncio.create_task(box.stopped())
        await asyncio.sleep(0)
        assert not waiting.done()
        await box.stop()
        await waiting
        await box.put_task("second", b"2")
        waiting = asyncio.create_task(box.stopped())
        await asyncio.sleep(0.01)
        assert not waiting.done(), "the stop of the first is no stop of the second"
        waiting.cancel()

    run(talk())


# ---- segments -------------------------------------------------------------------------------------------------------


async def follow(box: Mailbox, plan: Plan, history: History, segments: int | None = None) -> tuple[list[Any], History]:
    """Asks as rank 0 does: one segment ahead, and with no report told twice."""
    named: list[Any] = []
    told = len(history.reports)
    await box.begin("run", plan, history)
    ahead = (await box.name_next(told, [], None)).segment
    while ahead is not None and len(named) != segments:
        news = list(history.reports[told:])
        following = (await box.name_next(told, news, ahead)).segment
        told = len(history.reports)
        named.append(ahead)
        history = history.add(done(ahead, evaluate_seconds=0.02 if ahead.evaluate else 0))
        ahead = following
    return named, history


def test_segments_are_those_that_the_policy_names_with_the_whole_history(plan: Plan, rates: Rates) -> None:
    start = History(rates=rates)
    named, history = run(follow(Mailbox(), plan, start))
    expected, known = [], start
    while (segment := next_segment(plan, known)) is not None:
        expected.append(segment)
        known = known.add(done(segment, evaluate_seconds=0.02 if segment.evaluate else 0))
    assert named == expected
    assert sum(segment.steps for segment in named) == plan.num_steps == history.done_steps
    assert any(segment.evaluate for segment in named)
    assert [segment.start for segment in named] == [segment.start for segment in unroll(plan, rates)]


@pytest.mark.parametrize("before", [0, 1, 4])
@pytest.mark.parametrize("fresh", [True, False], ids=["another mailbox", "the same mailbox"])
def test_a_group_that_restarts_gets_the_answers_that_the_unbroken_one_got(
    plan: Plan, rates: Rates, before: int, fresh: bool
) -> None:
    async def talk() -> tuple[list[Any], list[Any], list[Any]]:
        unbroken, _ = await follow(Mailbox(), plan, History(rates=rates))
        box = Mailbox()
        first, saved = await follow(box, plan, History(rates=rates), before)
        if not fresh:  # what ran after the checkpoint was told to this mailbox, and is lost
            await follow(box, plan, History(rates=rates), before + 3)
        rest, _ = await follow(Mailbox() if fresh else box, plan, saved)
        return unbroken, first, rest

    unbroken, first, rest = run(talk())
    assert first + rest == unbroken


def test_beginnings_decisions_and_reports_reach_the_driver_in_order(plan: Plan, rates: Rates) -> None:
    async def talk() -> None:
        box, history = Mailbox(), History(rates=rates)
        await box.begin("run", plan, history)
        segment = (await box.name_next(0, [], None)).segment
        assert segment is not None
        decision = Decision(step=0, steps=tuple(phase.steps for phase in plan.phases), reason="as it was")
        await box.decided("run", decision)
        await box.report("run", done(segment))
        events = await box.events(0)
        assert [(event.what, event.run) for event in events] == [(w, "run") for w in ("begin", "decided", "segment")]
        assert [event.value for event in events] == [(plan, history), decision, done(segment)]

    run(talk())


def test_beats_are_counted_and_the_last_step_is_known(plan: Plan, rates: Rates) -> None:
    async def talk() -> None:
        box, history = Mailbox(), History(rates=rates)
        first = Beat(1, 2, Process("node", "host", 1, 0.0, ""), Now("loading"), 0)
        await box.beat(first)
        await box.beat(first._replace(moves=5))
        assert await box.beats() == {1: (2, first._replace(moves=5))}
        await box.begin("run", plan, history)
        assert await box.step() == 0
        segment = (await box.name_next(0, [], None)).segment
        assert segment is not None
        await box.report("run", done(segment))
        assert await box.step() == segment.steps
        await box.begin("run", plan, history)  # a restart, from before that
        assert await box.step() == 0

    run(talk())
