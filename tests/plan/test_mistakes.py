"""What decisions cost, as a matrix."""

from __future__ import annotations

import pytest

from raymix.plan import cost_matrix
from raymix.spec import JobError

NAMES = ("good", "defect")
COSTS = {"defect": {"good": 9.0}}


def test_a_pair_that_is_not_named_costs_one_where_it_is_wrong() -> None:
    assert cost_matrix(COSTS, NAMES, "costs") == ((0, 1), (9, 0))


@pytest.mark.parametrize(
    ("costs", "field"), [({"bad": {"good": 1.0}}, "costs"), ({"good": {"bad": 1.0}}, "costs.good")]
)
def test_a_class_that_the_model_does_not_have_is_refused(costs: dict[str, dict[str, float]], field: str) -> None:
    with pytest.raises(JobError, match=f"{field}: the model has no class bad .it has good, defect") as error:
        cost_matrix(costs, NAMES, "costs")
    assert error.value.field == field
