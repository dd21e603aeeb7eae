"""Arms in a plot are told apart."""

from __future__ import annotations

from raymix.report.plots_pilot import arm_styles, pilot_plot
from raymix.spec import ARMS
from tests.report.factory import make_pilot


def test_no_two_arms_look_alike() -> None:
    arms = [*ARMS, "pretrained", *(f"own{number}" for number in range(20))]
    styles = arm_styles(arms)
    assert list(styles) == arms
    assert len(set(styles.values())) == len(arms)


def test_a_built_in_arm_looks_the_same_beside_any_others() -> None:
    assert arm_styles(["mine", "mix"])["mix"] == arm_styles(ARMS)["mix"]


def test_arms_of_the_users_own_are_drawn_in_their_own_colours() -> None:
    report = make_pilot(5)
    renamed = {{"sl": "hot", "mix": "cold"}.get(name, name): runs for name, runs in report.arms.items()}
    drawn = pilot_plot(report.model_copy(update={"arms": renamed}), "p")
    for name in ("hot", "cold"):
        assert arm_styles(renamed)[name][0] in drawn
