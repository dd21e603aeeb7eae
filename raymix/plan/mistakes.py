"""What decisions cost: `report.costs` as a matrix over the classes."""

from __future__ import annotations

from collections.abc import Mapping

from raymix.spec import Costs, JobError

Matrix = tuple[tuple[float, ...], ...]  # [i][j]: what an image of class i costs that is taken for j


def cost_matrix(costs: Costs, class_names: tuple[str, ...], field: str) -> Matrix:
    """A pair that `costs` does not name costs 0 where it is right and 1 where it is wrong.

    Raises:
        JobError: the model has no class of a name in `field`.
    """
    place = {name: number for number, name in enumerate(class_names)}
    found = [[float(i != j) for j in range(len(class_names))] for i in range(len(class_names))]
    for name, decisions in costs.items():
        _check_known(name, place, field)
        for decided, cost in decisions.items():
            _check_known(decided, place, f"{field}.{name}")
            found[place[name]][place[decided]] = cost
    return tuple(map(tuple, found))


def _check_known(name: str, known: Mapping[str, int], field: str) -> None:
    if name not in known:
        some = ", ".join(list(known)[:8]) + (", ..." if len(known) > 8 else "")
        raise JobError(field, f"the model has no class {name}", f"it has {some}")
