"""The arithmetic of a schedule: epochs to steps, phases, turns, stream positions, rate and weight."""

from __future__ import annotations

import math
import pickle
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from raymix.plan import (
    STREAM_OF,
    Decision,
    Plan,
    Stream,
    changed,
    pattern,
    positions,
    rate,
    rows_per_step,
    segment,
    weight,
)
from raymix.spec import JobError
from tests.conftest import JOB
from tests.report.factory import make_plan

PlanOf = Callable[..., Plan]


def phases(plan: Plan) -> list[tuple[str, int]]:
    return [(phase.kind, phase.steps) for phase in plan.phases]


def steps_of(plan: Plan) -> list[str]:
    """The kind of every step of the run."""
    return [kind for phase in plan.phases for kind, count in phase.turns for _ in range(count)]


# ---- epochs to steps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ssl", "sl", "ratio", "expected"),
    [
        (100, 100, 0.5, [("ssl", 500), ("mix", 500), ("sl", 500)]),
        (100, 100, 0, [("ssl", 1000), ("sl", 1000)]),
        (100, 100, 1, [("mix", 1000)]),
        (100, 40, 0.5, [("ssl", 800), ("mix", 200), ("sl", 200)]),
        (100, 40, 1, [("ssl", 600), ("mix", 400)]),
        (0, 40, 0.5, [("sl", 400)]),
        (40, 0, 0.5, [("ssl", 400)]),
        (0.5, 0.5, 0.5, [("ssl", 2), ("mix", 2), ("sl", 2)]),
    ],
)
def test_mix_ratio_merges_epochs(
    plan_of: PlanOf, ssl: float, sl: float, ratio: float, expected: list[tuple[str, int]]
) -> None:
    plan = plan_of(1000, schedule={"ssl_epochs": ssl, "sl_epochs": sl, "mix_ratio": ratio}, optim={"batch": 100})
    assert phases(plan) == expected
    assert plan.num_steps == sum(steps for _, steps in expected)


def test_epochs_are_rounded_to_steps_of_their_own_rows(plan_of: PlanOf) -> None:
    schedule = {"ssl_epochs": 10, "sl_epochs": 10, "mix_ratio": 0.3}
    plan = plan_of(1013, num_labelled=377, schedule=schedule, optim={"batch": 96})
    assert phases(plan) == [("ssl", round(7 * 1013 / 96)), ("mix", round(3 * 1013 / 96)), ("sl", round(7 * 377 / 96))]
    assert [phase.epochs for phase in plan.phases] == [7, 3, 7]
    assert [phase.start for phase in plan.phases] == [0, 74, 106]


def test_a_phase_that_rounds_to_nothing_is_left_out(plan_of: PlanOf) -> None:
    plan = plan_of(1000, schedule={"ssl_epochs": 10, "sl_epochs": 10, "mix_ratio": 0.999}, optim={"batch": 256})
    assert phases(plan) == [("mix", 39)]


def test_sl_drop_is_the_leading_share_of_the_sl_epochs(plan_of: PlanOf) -> None:
    schedule = {"ssl_epochs": 10, "sl_epochs": 10, "mix_ratio": 0, "sl_drop": 0.7}
    plan = plan_of(1000, schedule=schedule, optim={"batch": 100})
    assert plan.phases[1].turns == (("sl_drop", 70), ("sl", 30))
    assert plan.kinds == ("ssl", "sl_drop", "sl")
    whole = plan_of(1000, schedule={**schedule, "sl_drop": 1}, optim={"batch": 100})
    assert whole.phases[1].turns == (("sl_drop", 100),)
    odd = plan_of(1013, schedule={**schedule, "sl_drop": 0.333}, optim={"batch": 96})
    assert odd.phases[1].steps == round(10 * 1013 / 96), "cutting it in two changes no total"


# ---- alternate --------------------------------------------------------------------------------------------------


def alternate(plan_of: PlanOf, **schedule: Any) -> Plan:
    asked = {"ssl_epochs": 4, "sl_epochs": 4, "mix_ratio": 1, "interleave": "alternate", **schedule}
    return plan_of(1000, num_labelled=500, schedule=asked, optim={"batch": 100})


def test_alternate_takes_turns_by_whole_epochs(plan_of: PlanOf) -> None:
    assert alternate(plan_of).phases[0].turns == (("ssl", 10), ("sl", 5)) * 4


def test_alternate_ends_with_the_part_of_an_epoch_that_is_left(plan_of: PlanOf) -> None:
    plan = alternate(plan_of, ssl_epochs=2.4, sl_epochs=2.4)
    assert plan.phases[0].turns == (("ssl", 10), ("sl", 5), ("ssl", 10), ("sl", 5), ("ssl", 4), ("sl", 2))


def test_alternate_takes_turns_by_steps(plan_of: PlanOf) -> None:
    plan = alternate(plan_of, alternate_steps=4)
    assert plan.phases[0].turns == (("ssl", 4), ("sl", 2)) * 10
    ragged = alternate(plan_of, alternate_steps=7)
    assert [count for kind, count in ragged.phases[0].turns if kind == "ssl"] == [7, 7, 7, 7, 7, 5]


def test_alternate_with_few_labels_joins_turns_that_meet(plan_of: PlanOf) -> None:
    schedule = {"ssl_epochs": 4, "sl_epochs": 4, "mix_ratio": 1, "interleave": "alternate", "alternate_steps": 1}
    plan = plan_of(1000, num_labelled=100, schedule=schedule, optim={"batch": 100})
    turns = plan.phases[0].turns
    assert Counter(steps_of(plan)) == {"ssl": 40, "sl": 4}
    assert all(before[0] != after[0] for before, after in pairwise(turns))


FALLING = {"type": "mae", "mix_mask_ratio": [0.75, 0.5, 0], "decoder_width": 32, "decoder_depth": 1}


def test_a_list_of_mask_ratios_cuts_the_mix_phase_into_equal_parts(plan_of: PlanOf) -> None:
    """Every mix phase anew; rows go on across the parts as if it were one kind of step."""
    one, parts = (
        plan_of(schedule={"ssl_epochs": 10, "sl_epochs": 10, "mix_ratio": 1}, optim={"batch": 100}, **more)
        for more in ({}, {"objective": FALLING})
    )
    assert parts.phases[0].turns == (("mix", 33), ("mix_2", 34), ("mix_3", 33))
    assert all(positions(parts, step) == positions(one, step) for step in range(101))
    assert all(weight(parts, step) == weight(one, step) and rate(parts, step) == rate(one, step) for step in range(100))
    listed = [{"kind": kind, "for": steps} for kind, steps in (("mix", 6), ("sl", 1), ("mix", 3))]
    plan = plan_of(schedule={"policy": "phases", "phases": listed}, objective=FALLING)
    assert steps_of(plan) == ["mix", "mix", "mix_2", "mix_2", "mix_3", "mix_3", "sl", "mix", "mix_2", "mix_3"]


def test_a_list_of_mask_ratios_leaves_labelled_share_as_it_is(plan_of: PlanOf) -> None:
    data = {**JOB["data"], "labelled_share": 0.25}
    plan = plan_of(1000, 100, data=data, objective=FALLING, schedule={"ssl_epochs": 1, "sl_epochs": 1, "mix_ratio": 1})
    assert {str(rows_per_step(plan, kind)) for kind in plan.kinds[:3]} == {"{'labelled': 24, 'unlabelled': 72}"}
    assert positions(plan, 3) == {"all": 0, "labelled": 72, "unlabelled": 216}


@pytest.mark.parametrize("turn", [None, 1, 3, 17, 1000])
@pytest.mark.parametrize("labelled", [20, 60, 333, 1000])
def test_alternate_keeps_the_totals(plan_of: PlanOf, turn: int | None, labelled: int) -> None:
    schedule = {"ssl_epochs": 12, "sl_epochs": 9.5, "mix_ratio": 0.6, "interleave": "alternate"}
    plan = plan_of(1000, labelled, schedule={**schedule, "alternate_steps": turn}, optim={"batch": 64})
    mixed = next(phase for phase in plan.phases if phase.kind == "mix")
    counts = Counter[str]()
    for kind, count in mixed.turns:
        counts[kind] += count
    assert counts["ssl"] == round(0.6 * 9.5 * 1000 / 64)
    assert counts["sl"] == round(0.6 * 9.5 * labelled / 64)


# ---- what the data cannot carry ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "sections", "line"),
    [
        ({"num_train": 95}, {}, "optim.batch: 96 is larger than the 95 training rows (take a smaller batch)"),
        (
            {"num_labelled": 0},
            {},
            "data.label_fraction: no labelled rows are left to train on (raise it, or lower data",
        ),
        (
            {"num_labelled": 4},
            {"schedule": {"sl_epochs": 10, "ssl_epochs": 10, "mix_ratio": 0}},
            "schedule.sl_epochs: 10 epochs of 4 labelled rows do not fill one batch of 96 (ask for at least 24, or",
        ),
        (
            {},
            {"schedule": {"sl_epochs": 10, "ssl_epochs": 0.01, "mix_ratio": 0}},
            "schedule.ssl_epochs: 0.01 epochs of 1000 training rows do not fill one batch of 96 (ask for at least 1",
        ),
    ],
)
def test_data_that_cannot_carry_the_job(
    plan_of: PlanOf, facts: dict[str, int], sections: dict[str, Any], line: str
) -> None:
    with pytest.raises(JobError) as caught:
        plan_of(**facts, **sections)
    assert str(caught.value).startswith(line)


def test_one_class_is_refused(plan_of: PlanOf) -> None:
    from raymix.plan import resolve

    plan = plan_of()
    alone = plan.facts.model_copy(update={"class_names": ("a",)})
    with pytest.raises(JobError, match=r"data\.train: 1 class\(es\) found \(a classifier needs two or more\)"):
        resolve(plan.spec, alone)


def test_a_run_of_ssl_alone_needs_no_labels(plan_of: PlanOf) -> None:
    assert phases(plan_of(960, 0, schedule={"ssl_epochs": 3, "sl_epochs": 0})) == [("ssl", 30)]


# ---- patterns and positions, against the plain list of steps ----------------------------------------------------


def some_plans(plan_of: PlanOf) -> list[Plan]:
    both = {"ssl_epochs": 5, "sl_epochs": 4, "mix_ratio": 0.5}
    return [
        plan_of(1013, schedule=both),
        plan_of(1013, 200, schedule={**both, "sl_drop": 0.6}),
        plan_of(1013, 500, schedule={**both, "interleave": "alternate"}),
        plan_of(1013, 300, schedule={**both, "interleave": "alternate", "alternate_steps": 1}),
        plan_of(1013, 50, schedule={**both, "interleave": "alternate", "alternate_steps": 3, "sl_drop": 0.5}),
        plan_of(1013, schedule={**both, "ssl_epochs": 0}),
    ]


def test_patterns_are_the_steps(plan_of: PlanOf) -> None:
    draw = random.Random(0)
    for plan in some_plans(plan_of):
        kinds = steps_of(plan)
        for _ in range(200):
            phase = draw.choice(plan.phases)
            start = draw.randrange(phase.start, phase.start + phase.steps)
            steps = draw.randint(1, phase.start + phase.steps - start)
            found = [kind for kind, count in pattern(plan, start, steps) for _ in range(count)]
            assert found == kinds[start : start + steps]


def test_a_pattern_never_crosses_a_phase(plan_of: PlanOf) -> None:
    plan = plan_of()
    with pytest.raises(AssertionError):
        pattern(plan, 0, plan.num_steps)


def test_positions_count_the_rows_consumed(plan_of: PlanOf) -> None:
    for plan in some_plans(plan_of):
        consumed: dict[Stream, int] = {"all": 0, "labelled": 0, "unlabelled": 0}
        assert positions(plan, 0) == consumed
        for step, kind in enumerate(steps_of(plan)):
            consumed[STREAM_OF[kind]] += plan.spec.optim.batch  # type: ignore[index]
            assert positions(plan, step + 1) == consumed


def test_an_epoch_passes_over_its_rows_once(plan_of: PlanOf) -> None:
    """Half a batch at most is lost or gained by rounding, however many epochs there are."""
    plan = plan_of(1013, 377, schedule={"ssl_epochs": 50, "sl_epochs": 70, "mix_ratio": 0})
    seen = positions(plan, plan.num_steps)
    assert abs(seen["all"] - 50 * 1013) <= plan.spec.optim.batch / 2
    assert abs(seen["labelled"] - 70 * 377) <= plan.spec.optim.batch / 2


SHARED = {"data": {"train": {"format": "digits"}, "image_size": 8, "labelled_share": 0.25}}


def test_a_labelled_share_fixes_the_rows_of_a_mix_batch(plan_of: PlanOf) -> None:
    """A mix epoch stays as long as the mixed set is; ssl and sl epochs pass over their rows as ever."""
    schedule = {"ssl_epochs": 10, "sl_epochs": 10, "mix_ratio": 0.5}
    plan = plan_of(960, 96, schedule=schedule, optim={"batch": 48}, **SHARED)
    assert phases(plan) == [("ssl", 100), ("mix", 100), ("sl", 10)]
    assert rows_per_step(plan, "mix") == {"labelled": 12, "unlabelled": 36}
    assert rows_per_step(plan, "ssl") == {"all": 48}
    assert positions(plan, 150) == {"all": 4800, "labelled": 600, "unlabelled": 1800}
    assert positions(plan, 210) == {"all": 4800, "labelled": 1680, "unlabelled": 3600}


@pytest.mark.parametrize(
    ("labelled", "batch", "line"),
    [
        (1000, 96, "data.labelled_share: there are no unlabelled training rows (leave it out)"),
        (10, 1, "data.labelled_share: 0.25 of a batch of 2 leaves no row of one side"),
    ],
)
def test_a_labelled_share_needs_rows_of_both_sides(plan_of: PlanOf, labelled: int, batch: int, line: str) -> None:
    with pytest.raises(JobError) as caught:
        plan_of(1000, labelled, optim={"batch": max(2, batch)}, cluster={"workers": 1}, **SHARED)
    assert str(caught.value).startswith(line)


def test_a_labelled_share_is_of_a_joint_batch(plan_of: PlanOf) -> None:
    with pytest.raises(JobError, match=r"^data\.labelled_share: interleave: alternate has no mix batch"):
        plan_of(1000, 100, schedule={"interleave": "alternate"}, **SHARED)


def test_workers_divide_the_shards_of_a_stream(plan_of: PlanOf) -> None:
    for workers in (1, 2, 3, 4, 6, 8, 12, 16, 24, 48):
        plan_of(run=64, cluster={"workers": workers}, optim={"batch": 96})
    plan_of(run=0, cluster={"workers": 5}, optim={"batch": 95})
    plan_of(run=1, cluster={"workers": 5}, optim={"batch": 95})
    with pytest.raises(JobError) as caught:
        plan_of(run=64, cluster={"workers": 5}, optim={"batch": 95})
    assert str(caught.value) == (
        "cluster.workers: images are streamed in runs of 64, and 5 does not divide 48 (the nearest that does: 4)"
    )


def test_a_streamed_batch_gives_each_worker_as_many_labelled_rows(plan_of: PlanOf) -> None:
    plan_of(1000, 100, run=1, cluster={"workers": 3}, optim={"batch": 48}, **SHARED)
    with pytest.raises(JobError) as caught:
        plan_of(1000, 100, run=1, cluster={"workers": 5}, optim={"batch": 45}, **SHARED)
    assert str(caught.value) == (
        "data.labelled_share: 11 labelled rows a batch are not divisible by 5 workers, and images are streamed "
        "(the nearest that is: 0.222222)"
    )


def test_phase_at(plan_of: PlanOf) -> None:
    plan = plan_of()
    found = [plan.phase_at(step) for step in range(plan.num_steps)]
    assert found == [index for index, phase in enumerate(plan.phases) for _ in range(phase.steps)]


# ---- rate -------------------------------------------------------------------------------------------------------


def rates(plan: Plan) -> list[float]:
    return [rate(plan, step) for step in range(plan.num_steps)]


def test_rate_is_warm_up_then_cosine_over_the_run(plan_of: PlanOf) -> None:
    plan = plan_of(1000, schedule={"ssl_epochs": 100, "sl_epochs": 100}, optim={"batch": 100, "lr": 0.5, "warmup": 0.1})
    found = rates(plan)
    top = found.index(max(found))
    assert top == pytest.approx(0.1 * plan.num_steps, abs=1)
    assert found[:top] == sorted(found[:top])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert 0.999 * 0.5 < max(found) <= 0.5
    assert found[0] == pytest.approx(0.5 * 0.5 / plan.num_steps / 0.1), "half a step into the warm-up"
    assert 0 < found[-1] < 1e-6, "never 0: the last step counts too"
    jump = 0.5 * max(1 / 0.1, math.pi / 2 / 0.9) / plan.num_steps
    assert all(abs(after - before) <= jump * 1.001 for before, after in pairwise(found)), "continuous"


def test_rate_without_warm_up_starts_at_the_top(plan_of: PlanOf) -> None:
    plan = plan_of(1000, schedule={"ssl_epochs": 50, "sl_epochs": 50}, optim={"batch": 100, "lr": 1, "warmup": 0})
    assert rates(plan) == sorted(rates(plan), reverse=True)
    assert rates(plan)[0] == pytest.approx(1, abs=1e-4)


def test_restart_gives_each_phase_its_own_cycle(plan_of: PlanOf) -> None:
    schedule = {"ssl_epochs": 60, "sl_epochs": 40, "mix_ratio": 0}
    optim = {"batch": 100, "lr": 1, "warmup": 0.1}
    both = plan_of(1000, schedule=schedule, optim={**optim, "restart": "phase"})
    ssl = plan_of(1000, schedule={**schedule, "sl_epochs": 0}, optim=optim)
    sl = plan_of(1000, schedule={**schedule, "ssl_epochs": 0}, optim=optim)
    assert rates(both) == rates(ssl) + rates(sl)


@pytest.mark.parametrize("goal", [{"top1": 50}, {"patience": 3}])
def test_a_run_that_a_goal_may_end_keeps_its_rate_until_the_tail(plan_of: PlanOf, goal: dict[str, Any]) -> None:
    sections = {
        "schedule": {"ssl_epochs": 100, "sl_epochs": 100},
        "optim": {"batch": 100, "lr": 0.5, "warmup": 0.1},
    }
    plain, plan = plan_of(1000, **sections), plan_of(1000, **sections, goal=goal)
    found, num = rates(plan), plan.num_steps
    warm, falls = round(0.1 * num), round(0.7 * num)
    assert found[:warm] == rates(plain)[:warm]
    assert set(found[warm:falls]) == {0.5}
    tail = found[falls:]
    assert tail == sorted(tail, reverse=True)
    assert tail[len(tail) // 2] == pytest.approx(0.25, rel=0.01), "half a cosine"
    assert 0 < tail[-1] < 1e-5
    jump = 0.5 * max(1 / 0.1, math.pi / 2 / 0.3) / num
    assert all(abs(after - before) <= jump * 1.001 for before, after in pairwise(found)), "continuous"
    without = plan.model_copy(update={"spec": plain.spec})
    assert rates(without) == found, "a run that is resumed without its goal goes on as it began"
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_each_cycle_of_a_run_with_a_goal_has_its_tail(plan_of: PlanOf) -> None:
    schedule = {"ssl_epochs": 60, "sl_epochs": 40, "mix_ratio": 0}
    optim = {"batch": 100, "lr": 1, "warmup": 0.1, "restart": "phase"}
    plan = plan_of(1000, schedule=schedule, optim=optim, goal={"top1": 50})
    ssl = plan.phases[0].steps
    found = rates(plan)
    assert set(found[round(0.1 * ssl) : round(0.7 * ssl)]) == {1}
    assert found[ssl - 1] < 1e-4
    assert max(found[ssl:]) == 1


def test_a_warm_up_may_reach_into_the_tail(plan_of: PlanOf) -> None:
    optim = {"batch": 100, "lr": 1, "warmup": 0.8}
    found = rates(plan_of(1000, schedule={"ssl_epochs": 50, "sl_epochs": 50}, optim=optim, goal={"top1": 50}))
    top = found.index(max(found))
    assert top == pytest.approx(0.8 * len(found), abs=1)
    assert found[top:] == sorted(found[top:], reverse=True)


def test_decay_keeps_the_rate_until_the_last_share_of_each_cycle(plan_of: PlanOf) -> None:
    optim = {"batch": 100, "lr": 0.5, "warmup": 0.1, "decay": 0.2}
    schedule = {"ssl_epochs": 60, "sl_epochs": 40, "mix_ratio": 0}
    once = rates(plan_of(1000, schedule=schedule, optim=optim))
    assert set(once[100:800]) == {0.5}
    assert once[800:] == sorted(once[800:], reverse=True)
    assert (once[900], once[-1]) == (pytest.approx(0.25, rel=0.01), pytest.approx(0, abs=1e-5))
    twice = rates(plan_of(1000, schedule=schedule, optim={**optim, "restart": "phase"}))
    assert set(twice[60:480]) | set(twice[640:920]) == {0.5}
    assert max(twice[599], twice[999]) < 1e-4


@pytest.mark.parametrize("restart", ["never", "phase"])
def test_lr_scale_multiplies_the_rate_of_its_phase(plan_of: PlanOf, restart: str) -> None:
    schedule = {"ssl_epochs": 60, "sl_epochs": 60, "mix_ratio": 0.5}
    optim = {"batch": 100, "restart": restart}
    plain = rates(plan_of(1000, schedule=schedule, optim=optim))
    scaled = rates(plan_of(1000, schedule=schedule, optim={**optim, "lr_scale": {"ssl": 2, "mix": 3, "sl": 0.5}}))
    factors = [2] * 300 + [3] * 300 + [0.5] * 300
    assert scaled == pytest.approx([factor * lr for factor, lr in zip(factors, plain, strict=True)])


def test_an_adaptive_run_takes_no_decay(plan_of: PlanOf) -> None:
    with pytest.raises(JobError, match=r"optim\.decay: an adaptive run keeps its rate"):
        plan_of(1000, schedule={"policy": "adaptive"}, budget={"wall": "1h"}, optim={"batch": 100, "decay": 0.2})


def test_a_run_of_one_step_has_a_rate(plan_of: PlanOf) -> None:
    plan = plan_of(100, schedule={"ssl_epochs": 0, "sl_epochs": 1}, optim={"batch": 100, "lr": 1, "warmup": 0.5})
    assert 0 < rate(plan, 0) <= 1


# ---- weight -----------------------------------------------------------------------------------------------------


def weights(plan_of: PlanOf, **curve: Any) -> tuple[Plan, list[float]]:
    schedule = {"ssl_epochs": 20, "sl_epochs": 20, "mix_ratio": 0.5, "weight": curve}
    plan = plan_of(1000, schedule=schedule, optim={"batch": 100})
    return plan, [weight(plan, step) for step in range(plan.num_steps)]


def test_weight_is_one_in_ssl_and_nought_in_sl(plan_of: PlanOf) -> None:
    _, found = weights(plan_of, start=0.3, end=0.3)
    assert found == [1.0] * 100 + [0.3] * 100 + [0.0] * 100


@pytest.mark.parametrize("curve", ["linear", "cosine"])
@pytest.mark.parametrize(("start", "end"), [(1, 0), (0.2, 0.9)])
def test_weight_goes_from_start_to_end_over_the_mix_phase(
    plan_of: PlanOf, curve: str, start: float, end: float
) -> None:
    _, found = weights(plan_of, curve=curve, start=start, end=end)
    mixed = found[100:200]
    assert mixed[0] == pytest.approx(start, abs=0.006)
    assert mixed[-1] == pytest.approx(end, abs=0.006)
    assert sum(mixed[49:51]) / 2 == pytest.approx((start + end) / 2), "symmetric about the middle"
    assert mixed == sorted(mixed, reverse=start > end)
    assert max(abs(after - before) for before, after in pairwise(mixed)) < abs(end - start) * math.pi / 2 / 100 * 1.001


def test_the_linear_curve_is_a_line_and_the_cosine_is_flat_at_its_ends(plan_of: PlanOf) -> None:
    _, linear = weights(plan_of, curve="linear", start=1, end=0)
    _, cosine = weights(plan_of, curve="cosine", start=1, end=0)
    assert linear[100:200] == pytest.approx([1 - (i + 0.5) / 100 for i in range(100)])
    assert 1 - cosine[110] < (1 - linear[110]) / 3


# ---- segments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", ["never", "phase"])
def test_cutting_a_phase_changes_neither_rate_nor_weight(plan_of: PlanOf, restart: str) -> None:
    schedule = {
        "ssl_epochs": 20,
        "sl_epochs": 20,
        "mix_ratio": 0.5,
        "weight": {"curve": "cosine", "start": 1, "end": 0},
    }
    plan = plan_of(1000, schedule=schedule, optim={"batch": 100, "restart": restart})
    whole = segment(plan, 100, 100, evaluate=False)
    first, second = segment(plan, 100, 37, evaluate=False), segment(plan, 137, 63, evaluate=False)
    assert (first.lr[0], second.lr[1]) == whole.lr
    assert (first.weight[0], second.weight[1]) == whole.weight
    assert (first.progress[0], second.progress[1]) == whole.progress
    assert first.progress[1] == second.progress[0] == 137 / 300
    assert second.lr == (rate(plan, 137), rate(plan, 199))


def test_a_segment_is_tiny_as_json(plan_of: PlanOf) -> None:
    plan = plan_of()
    assert len(segment(plan, 0, 5, evaluate=True).model_dump_json()) < 300


def test_a_plan_survives_json_and_pickle(plan_of: PlanOf) -> None:
    for plan in some_plans(plan_of):
        positions(plan, 3)  # fills the look-up tables, which are no part of the value
        again = Plan.model_validate_json(plan.model_dump_json())
        assert again == plan
        assert again.model_dump_json() == plan.model_dump_json()
        assert pickle.loads(pickle.dumps(plan)) == plan


@pytest.mark.parametrize("by", [-7, 12])
def test_a_phase_that_begins_elsewhere_has_its_steps_there(plan_of: PlanOf, by: int) -> None:
    """Also where its steps were looked up before, as whatever shows what is left does after each segment."""
    schedule = {"ssl_epochs": 4, "sl_epochs": 4, "mix_ratio": 0.5, "interleave": "alternate", "alternate_steps": 2}
    plan = plan_of(1000, schedule=schedule, optim={"batch": 100})
    kept = [pattern(plan, phase.start, phase.steps) for phase in plan.phases]
    positions(plan, plan.num_steps)
    assert len(kept[1]) > 2, "a phase of many turns"
    first, *others = (phase.steps for phase in plan.phases)
    moved = changed(plan, Decision(step=0, steps=(first + by, *others), reason="it was measured anew"))
    assert [pattern(moved, phase.start, phase.steps) for phase in moved.phases[1:]] == kept[1:]
    fresh = Plan.model_validate_json(moved.model_dump_json())
    for step in range(moved.num_steps):
        assert pattern(moved, step, 1) == pattern(fresh, step, 1)
        assert positions(moved, step) == positions(fresh, step)


def test_each_roll_back_halves_the_rate_from_its_step_on() -> None:
    plan = make_plan()
    again = plan.model_copy(update={"roll_backs": (30, 10)})
    halves = [rate(again, step) / rate(plan, step) for step in range(plan.num_steps)]
    assert halves == [1.0] * 10 + [0.5] * 20 + [0.25] * (plan.num_steps - 30)
