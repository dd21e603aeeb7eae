"""The adaptive split finds the best of a world that is as its model says, and keeps its promises in any other."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from raymix.plan import Plan, changed, rate
from raymix.policy import name_next
from raymix.policy.adaptive import MARKS
from raymix.report.history import History, Rates, SegmentReport

PlanOf = Callable[..., Plan]
SECONDS = {"ssl": 0.04, "mix": 0.05, "sl": 0.06}
RATES = Rates.model_validate({"step_seconds": SECONDS})


class World:
    """accuracy = ssl * ln(seconds of SSL) + sl * ln(seconds of supervised steps), with noise."""

    def __init__(self, plan: Plan, budget: float, ssl: float, sl: float, noise: float = 0.0, seed: int = 0) -> None:
        draw = random.Random(seed)
        self.plan, self.seconds, self.trials = plan, dict.fromkeys(("ssl", "mix", "sl", "trial"), 0.0), 0
        self.history = History(rates=RATES).begin(budget)
        pending = name_next(plan, self.history)
        while pending.segment is not None:
            if pending.decision is not None:
                self.plan = changed(self.plan, pending.decision)
                self.history = self.history.decide(pending.decision)
            segment = pending.segment
            pending = name_next(self.plan, self.history.expect(segment))
            took = sum(SECONDS[kind] * steps for kind, steps in segment.pattern)
            self.seconds[segment.kind] += took
            told: dict[str, Any] = {}
            if segment.trial:
                self.trials += 1
                length = segment.trial * SECONDS["sl"]
                self.seconds["trial"] += length
                reached = 10 + ssl * math.log(self.seconds["ssl"]) + sl * math.log(length) + draw.gauss(0, noise)
                told = {"trial_top1": reached, "trial_half_top1": reached - sl * math.log(2), "trial_seconds": length}
            if segment.evaluate:
                told["select_top1"] = 10 + sl * math.log(self.seconds["mix"] + self.seconds["sl"])
            report = SegmentReport(
                segment=segment, seconds=took, data_seconds=0, images=0, labelled=0, ssl_loss=None, sl_loss=None,
                elapsed=sum(self.seconds.values()), **told,
            )  # fmt: skip
            self.history = self.history.add(report)
        self.spent = sum(self.seconds.values())

    def share(self, kind: str) -> float:
        return self.seconds[kind] / self.spent


@pytest.fixture
def adaptive(plan_of: PlanOf) -> Callable[..., Plan]:
    def make(num_select: int = 1_000_000, **schedule: Any) -> Plan:
        return plan_of(2000, num_select=num_select, schedule={"policy": "adaptive", **schedule}, budget={"wall": 100})

    return make


@pytest.mark.parametrize(
    ("ssl", "sl", "best"), [(4.0, 6.0, 0.4), (2.0, 8.0, 0.2), (9.0, 3.0, 0.5), (0.0, 5.0, 0.05), (3.0, 6.0, 1 / 3)]
)
def test_ssl_gets_the_share_that_it_earns(adaptive: Callable[..., Plan], ssl: float, sl: float, best: float) -> None:
    """b / (b + c), within `ssl_most` and the share that is spent before two trials tell anything."""
    world = World(adaptive(trials=0.04), 400.0, ssl, sl)
    least = MARKS[1]
    assert world.share("ssl") == pytest.approx(max(best, least), abs=0.03)
    assert world.trials >= 2
    assert world.spent == pytest.approx(400, rel=0.01)


def test_it_never_ends_without_its_tail(adaptive: Callable[..., Plan]) -> None:
    draw = random.Random(0)
    for seed in range(20):
        tail = draw.choice([0.2, 0.3, 0.5])
        plan = adaptive(tail=tail, ssl_most=0.5)
        world = World(plan, 10 ** draw.uniform(1, 3), draw.uniform(-3, 9), draw.uniform(-1, 9), noise=3, seed=seed)
        assert world.plan.phases[-1].kind == "sl"
        assert world.share("sl") >= 0.95 * tail - 0.01, "trials come off all of it"
        assert world.share("ssl") <= 0.52
        assert rate(world.plan, world.plan.num_steps - 1) < 0.02 * plan.spec.optim.lr


def test_few_select_rows_speak_softly(adaptive: Callable[..., Plan]) -> None:
    """What trials say counts as much as the rows they were read on: noise of 50 rows does not throw the split about."""
    sure = World(adaptive(trials=0.04), 400.0, 0.0, 5.0)
    assert sure.share("ssl") == pytest.approx(MARKS[1], abs=0.03)
    shares = [
        World(adaptive(num_select=50, trials=0.04), 400.0, 3.0, 6.0, noise=5, seed=seed).share("ssl")
        for seed in range(20)
    ]
    assert all(0.13 <= share <= 0.42 for share in shares)
    reasons = [d.reason for d in World(adaptive(num_select=50), 400.0, 3.0, 6.0).history.decisions]
    assert any("give or take" in reason and "weighed against 25 %" in reason for reason in reasons)


def test_trials_cost_their_share_and_are_booked(adaptive: Callable[..., Plan]) -> None:
    world = World(adaptive(trials=0.05, ssl_most=0.5), 400.0, 9.0, 3.0)
    assert world.trials == len(MARKS)
    assert world.share("trial") == pytest.approx(0.05, abs=0.005)
    assert World(adaptive(trials=0), 100.0, 9.0, 3.0).trials == 0


def test_every_decision_has_its_reason(adaptive: Callable[..., Plan]) -> None:
    world = World(adaptive(), 400.0, 4.0, 6.0)
    reasons = [decision.reason for decision in world.history.decisions]
    assert reasons[0] == "25 % for SSL until two trials tell more"
    assert any(
        reason.startswith("2 trials: SSL brings 4.00 points") and "supervised steps 6.00" in reason
        for reason in reasons
    )


def test_mix_steps_that_bring_nothing_more_give_way(adaptive: Callable[..., Plan]) -> None:
    """The accuracy of the mix phase stands still, so the SL tail begins before its time."""
    world = World(adaptive(), 400.0, 2.0, 0.0)
    assert any("no new best" in decision.reason for decision in world.history.decisions)
    assert world.share("sl") > 0.4
    assert world.spent == pytest.approx(400, rel=0.01)


def test_the_rate_stays_until_the_tail(adaptive: Callable[..., Plan]) -> None:
    world = World(adaptive(), 200.0, 4.0, 6.0)
    top, start = world.plan.spec.optim.lr, world.plan.phases[-1].start
    warm = round(0.06 * world.plan.num_steps)
    assert all(rate(world.plan, step) == top for step in range(warm, start, 7))
    assert rate(adaptive(), 0) < 0.1 * top
    assert rate(world.plan, start) == pytest.approx(top, rel=0.01)
