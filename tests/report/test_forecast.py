"""What a plan will cost: from like runs, else from FLOPs; nothing is made up where neither is known."""

from __future__ import annotations

import pytest

from raymix.jobfile import load_spec
from raymix.plan import Plan, resolve
from raymix.report.forecast import CPU_FLOPS, GPU_FLOPS, GUESS, LEAST, RAY_SECONDS, Costs, Forecast, forecast
from tests.report.factory import NOW, STEP_SECONDS, make_entry, make_plan

PLAN = make_plan()
SECONDS = sum(STEP_SECONDS[kind] * steps for phase in PLAN.phases for kind, steps in phase.turns)


def asked(*overrides: str) -> Plan:
    return resolve(load_spec(PLAN.spec, list(overrides)), PLAN.facts)


def costs(made: Forecast) -> Costs:
    assert made.costs is not None
    return made.costs


def test_the_phases_are_the_plans_and_images_feed_the_losses_they_feed() -> None:
    made = forecast(PLAN, None, NOW)
    assert [(p.kind, p.steps, p.images) for p in made.phases] == [(p.kind, p.steps, p.steps * 64) for p in PLAN.phases]
    ssl, mix, sl = made.phases
    assert (ssl.labelled, sl.labelled) == (0, sl.images)
    assert mix.labelled == pytest.approx(mix.images * 800 / 1200, abs=1)
    assert (made.steps, made.labelled) == (PLAN.num_steps, mix.labelled + sl.labelled)


def test_runs_are_believed_by_their_median_and_their_spread() -> None:
    made = costs(forecast(PLAN, make_entry(PLAN, (0.9, 1.1, 1.2)), NOW))
    assert made.train_seconds.value == pytest.approx(1.1 * SECONDS)
    assert made.train_seconds.low == pytest.approx(0.9 * SECONDS)
    assert made.train_seconds.high == pytest.approx(1.2 * SECONDS)


def test_an_interval_has_five_percent_at_least_and_more_after_few_runs() -> None:
    many, one = (costs(forecast(PLAN, make_entry(PLAN, ratios), NOW)) for ratios in ((1.0, 1.0, 1.0), (1.0,)))
    assert many.train_seconds.high / many.train_seconds.value == pytest.approx(1 + LEAST)
    assert one.train_seconds.high / one.train_seconds.value == pytest.approx(1.15)


def test_the_wall_is_the_sum_and_workers_are_held_for_it_without_rays_own_start() -> None:
    made = costs(forecast(asked("cluster.price_per_worker_hour=3"), make_entry(PLAN), NOW))
    parts = (made.evaluate_seconds, made.checkpoint_seconds, made.startup_seconds, made.prepare_seconds)
    assert made.wall_seconds.value == pytest.approx(made.train_seconds.value + sum(parts))
    assert (made.startup_seconds, made.prepare_seconds) == (12.0, 3.0)
    assert made.worker_hours.value == pytest.approx((made.wall_seconds.value - 4.0) * 2 / 3600)
    assert made.money is not None
    assert made.money.high == pytest.approx(3 * made.worker_hours.high)


def test_no_money_without_a_price() -> None:
    assert costs(forecast(PLAN, None, NOW)).money is None


def test_evaluation_keeps_to_its_share_and_val_is_read_once() -> None:
    entry = make_entry(PLAN)
    none, little, much = (
        costs(forecast(asked(f"evaluate={{every: {every}, max_share: {share}}}"), entry, NOW)).evaluate_seconds
        for every, share in ((0, 0.03), (0.05, 0.03), (0.05, 1))
    )
    assert none == pytest.approx(300 * 0.001)
    assert none < little <= none + 0.03 * SECONDS
    assert much == pytest.approx(none + 12 * 90 * 0.001), "every 5 % of the run, after its ssl phase"


def test_without_runs_it_is_an_estimate_and_says_so() -> None:
    made = forecast(PLAN, None, NOW)
    assert not made.measured
    assert "estimated" in made.source
    assert f"{CPU_FLOPS:.3g} a CPU" in made.source
    span = costs(made).train_seconds
    assert (span.low * GUESS, span.high / GUESS) == pytest.approx((span.value, span.value))
    assert costs(made).startup_seconds == RAY_SECONDS


@pytest.mark.parametrize(
    ("override", "flops"),
    [
        ("cluster.workers=2", 2 * CPU_FLOPS),
        ("cluster={workers: 4, cpus_per_worker: 2}", 8 * CPU_FLOPS),
        ("cluster={workers: 2, gpus_per_worker: 1}", 2 * GPU_FLOPS),
        ("cluster={workers: 2, device_flops: 1e12}", 2e12),
    ],
)
def test_the_stated_rate_is_that_of_all_workers(override: str, flops: float) -> None:
    made = forecast(asked(override), None, NOW)
    assert made.rates is not None
    for kind, count in made.rates.step_flops.items():
        assert made.rates.step_seconds[kind] == pytest.approx(count / flops)


def test_of_another_backbone_nothing_is_known_before_it_has_run() -> None:
    plan = asked("backbone={type: timm, name: resnet18}", "objective={type: simclr}")
    made = forecast(plan, None, NOW)
    assert (made.costs, made.rates, made.parameters, made.memory_bytes) == (None, None, None, None)
    assert "no like run has measured yet" in made.source
    assert made.steps == plan.num_steps
    assert costs(forecast(plan, make_entry(plan), NOW)).train_seconds.value > 0


def test_bytes_of_the_images_and_of_the_weights() -> None:
    made = forecast(asked("data.store_size=16"), None, NOW)
    assert made.data_bytes == (1200 + 90 + 300) * 16 * 16 * 3
    assert made.parameters is not None
    assert made.memory_bytes == 16 * made.parameters
    assert forecast(asked("optim.ema=0.01"), None, NOW).memory_bytes == 20 * made.parameters
