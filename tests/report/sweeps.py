"""Sweeps with planted accuracies, for the tests of what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raymix.report.compare import verdict
from raymix.report.judging import Judged
from raymix.report.pilot import PilotReport
from raymix.report.sweep import Cell, SweepReport
from raymix.report.swept import Swept, decides, filled, lines_of
from tests.report.factory import make_answers, make_arm, make_pilot

SHARES = (0.1, 0.25, 0.5, 1.0)
NUM_IMAGES = 10_000
Planted = Callable[[float, float], dict[str, float]]  # data.fraction, data.label_fraction -> top-1 in percent by arm


def make_cell_pilot(
    top1: dict[str, float],
    num_seeds: int = 5,
    num_val: int = 3000,
    lengths: Sequence[float] = (1.0,),
    rng_seed: int = 0,
) -> PilotReport:
    """A pilot of arms with about these accuracies."""
    arms = dict.fromkeys(top1, ())
    for place, length in enumerate(lengths):
        tables = make_answers(list(top1.values()), num_seeds, num_val, 0.2, rng_seed + place)
        arms = {arm: (*arms[arm], *make_arm(table, length)) for arm, table in zip(top1, tables, strict=True)}
    arms = {
        arm: tuple(run.model_copy(update={"ssl_epochs": 0.0}) for run in runs) if arm == "sl" else runs
        for arm, runs in arms.items()
    }
    preset = "quick" if num_seeds == 1 else "full"
    update = {"arms": arms, "num_val": num_val, "seeds": tuple(range(num_seeds)), "preset": preset}
    update |= {"lengths": tuple(lengths), "verdict": verdict(arms, Judged(num_val), preset, resamples=200)}
    return make_pilot(1, lengths=(1.0,)).model_copy(update=update)


def make_swept(
    planted: Planted, fractions: Sequence[float] = (1.0,), labels: Sequence[float] = SHARES, **pilot: object
) -> list[Swept]:
    """The cells of a grid with planted accuracies."""
    cells = []
    for fraction in fractions:
        for label_fraction in labels:
            images = round(fraction * NUM_IMAGES)
            cell = Cell(
                fraction=fraction,
                label_fraction=label_fraction,
                folder=f"cells/fraction-{fraction:g}-label_fraction-{label_fraction:g}",
                status=None,
                num_train=images,
                num_labelled=round(images * label_fraction),
                num_select=100,
            )
            top1 = planted(fraction, label_fraction)
            cells.append(filled(cell, make_cell_pilot(top1, rng_seed=7 * len(cells), **pilot)))  # type: ignore[arg-type]
    return cells


def make_sweep(
    planted: Planted, fractions: Sequence[float] = (1.0,), labels: Sequence[float] = SHARES, **pilot: object
) -> SweepReport:
    """A sweep with planted accuracies, whole."""
    cells = make_swept(planted, fractions, labels, **pilot)
    first = cells[0].pilot
    assert first is not None
    return SweepReport(
        name="demo-sweep",
        status="done",
        preset=first.preset,
        decided=decides(cells),
        device="cpu",
        workers=2,
        price_per_worker_hour=3.0,
        axes={"data.fraction": tuple(fractions), "data.label_fraction": tuple(labels)},
        arms=tuple(first.arms),
        lengths=first.lengths,
        num_val=first.num_val,
        cells=tuple(one.cell for one in cells),
        lines=lines_of(cells, first.lengths),
        wall_seconds=5000.0,
        worker_seconds=9000.0,
        cost=7.5,
        environment=first.environment,
    )
