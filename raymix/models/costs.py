"""What decisions cost: N images, K classes; C_KK[i, j] is what an image of class i costs that is taken for j."""

from __future__ import annotations

import math

import numpy as np

from raymix.models.figures import Floats, Ints, bootstrap
from raymix.report.evaluation import CostFigures


def cost_figures(C_KK: Floats, p_NK: Floats, y_N: Ints, class_names: tuple[str, ...], resamples: int) -> CostFigures:
    """Costs per image of the most probable class and of the decision that minimises what p_NK expects, argmin p C."""
    expected_NK = p_NK @ C_KK
    every, likely, cheapest = np.arange(len(y_N)), p_NK.argmax(1), expected_NK.argmin(1)
    cost_2N = np.stack([C_KK[y_N, likely], C_KK[y_N, cheapest]])

    def means(w_N: Ints) -> Floats:
        found: Floats = cost_2N @ w_N / len(y_N)
        return found

    predicted, cheapest_cost = bootstrap(means, cost_2N.mean(1), len(y_N), resamples, math.inf)
    numbers = np.bincount(cheapest, minlength=len(class_names))
    return CostFigures(
        matrix=tuple(map(tuple, C_KK.tolist())),
        predicted=predicted,
        cheapest=cheapest_cost,
        foretold=float(expected_NK[every, cheapest].mean()),
        changed=int((likely != cheapest).sum()),
        decided={name: int(number) for name, number in zip(class_names, numbers, strict=True) if number},
        threshold=threshold(C_KK, class_names),
    )


def threshold(C_KK: Floats, class_names: tuple[str, ...]) -> dict[str, float]:
    """Of two classes: t = (C01 - C00) / (C01 - C00 + C10 - C11) for the second one (Elkan 2001, equation 2)."""
    if len(class_names) != 2:
        return {}
    alarm, miss = C_KK[0, 1] - C_KK[0, 0], C_KK[1, 0] - C_KK[1, 1]
    return {class_names[1]: float(alarm / (alarm + miss))} if alarm > 0 and miss > 0 else {}
