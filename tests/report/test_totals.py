"""Totals of a run are those of all its attempts."""

from __future__ import annotations

import pytest

from raymix.report.facts import images_line
from raymix.report.history import History
from raymix.report.ledger import Spent
from raymix.report.run import ImagesReport, totals
from tests.report.factory import make_history, make_plan, make_run


def spent(wall: float, began: float | None, saved: float = 0.0) -> Spent:
    return Spent(
        wall_seconds=wall,
        worker_seconds=2 * (wall - 1),
        workers=2,
        began_seconds=began,
        prepare_seconds=3.0,
        after={"evaluation": 0.5, "checkpoints": saved} if saved else {},
        closed=bool(saved),
        startup={"ray": 1.0, "prepare": 3.0},
    )


def test_they_are_sums_over_all_attempts() -> None:
    history = make_history(make_plan())
    kept = tuple(report.model_copy(update={"checkpoint_seconds": 0.1}) for report in history.reports)
    history = History(rates=history.rates, reports=kept)
    found = totals(history, [spent(40, 10, 0.2), spent(7, None), spent(90, 12, 0.3)], 3600.0)
    trained = sum(report.seconds for report in kept)
    assert (found.wall_seconds, found.worker_seconds) == (137, 2 * 134)
    assert found.cost == pytest.approx(2 * 134)
    assert found.startup_seconds == 10 + 7 + 12, "what came to no step was start-up alone"
    assert found.startup == {"ray": 3.0, "prepare": 9.0}
    assert found.step_seconds + found.data_seconds == pytest.approx(trained)
    assert found.evaluate_seconds == pytest.approx(sum(report.evaluate_seconds for report in kept) + 2 * 0.5)
    assert found.checkpoint_seconds == pytest.approx(0.1 * len(kept) + 0.5)


def test_a_gpu_held_what_it_held_at_most_in_any_attempt() -> None:
    history = make_history(make_plan())
    assert totals(history, [spent(40, 10)], None).gpu_bytes is None, "on CPUs nothing is said"
    kept = [report.model_copy(update={"gpu_bytes": None}) for report in history.reports]
    for number, held in ((0, 3 * 10**9), (1, 2 * 10**9)):
        kept[number] = kept[number].model_copy(update={"gpu_bytes": held})
    found = totals(History(rates=history.rates, reports=tuple(kept)), [spent(40, 10)], None)
    assert found.gpu_bytes == 3 * 10**9
    images = ImagesReport(kept="device", size=64, channels="rgb", bytes=184 * 10**6)
    told = images_line(make_run().model_copy(update={"totals": found, "images": images}))
    assert told.endswith("184 MB decoded, kept on the GPU. A GPU held 3 GB at most.")


def test_attempts_of_an_older_raymix_say_less() -> None:
    found = totals(make_history(make_plan()), [Spent(wall_seconds=5, worker_seconds=8)], None)
    assert (found.wall_seconds, found.startup_seconds, found.startup, found.cost) == (5, 0, {}, None)
