"""Decisions that minimise expected cost, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from raymix.models.costs import cost_figures, threshold
from raymix.plan import cost_matrix

NAMES = ("good", "defect")
COSTS = {"defect": {"good": 9.0}}


def test_the_cheapest_decision_and_its_threshold() -> None:
    C = np.array(cost_matrix(COSTS, NAMES, "costs"))
    assert threshold(C, NAMES) == {"defect": pytest.approx(0.1)}
    p_defect = np.array([0.05, 0.2, 0.2, 0.7])
    y = np.array([0, 1, 0, 1])
    found = cost_figures(C, np.stack([1 - p_defect, p_defect], 1), y, NAMES, 200)
    assert found.predicted.value == pytest.approx(9 / 4), "the defect at 0.2 passes as good"
    assert found.cheapest.value == pytest.approx(1 / 4), "both at 0.2 are taken for defects, one for nothing"
    assert found.foretold == pytest.approx((9 * 0.05 + 0.8 + 0.8 + 0.3) / 4)
    assert (found.changed, found.decided) == (2, {"good": 1, "defect": 3})
    assert found.threshold == {"defect": pytest.approx(0.1)}
    every = cost_figures(
        np.array(cost_matrix(COSTS, (*NAMES, "c"), "costs")), np.full((2, 3), 1 / 3), y[:2], (*NAMES, "c"), 200
    )
    assert every.threshold == {}, "of three classes no single one decides"
