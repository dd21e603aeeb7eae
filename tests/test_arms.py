"""Arms of the user's own: what may be set, what is refused in one line, and whose steps are timed by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import raymix
from raymix.arms import arm_spec, arms_of
from raymix.jobfile import load_spec
from raymix.report.formats import as_markdown
from raymix.report.html import pilot_html
from raymix.spec import ARMS, FixedSchedule, JobError

HOT: dict[str, Any] = {"base": "mix", "set": {"schedule.mix_ratio": 0.8, "optim.lr": 2e-3}}


def job_of(job: dict[str, Any], define: Any, **pilot: Any) -> dict[str, Any]:
    return {**job, "pilot": {"define": define, **pilot}}


def test_a_defined_arm_is_its_base_with_other_values(digits_job: dict[str, Any]) -> None:
    define = {"hot": HOT, "long_ssl": {"base": "ssl_sl", "set": {"schedule.ssl_epochs": 7, "optim.batch": 48}}}
    spec = load_spec(job_of(digits_job, define))
    assert arms_of(spec) == (*ARMS, "hot", "long_ssl")
    hot, longer = arm_spec(spec, "hot"), arm_spec(spec, "long_ssl")
    assert isinstance(hot.schedule, FixedSchedule)
    assert (hot.schedule.mix_ratio, hot.optim.lr, hot.optim.restart) == (0.8, 2e-3, "never")
    assert isinstance(longer.schedule, FixedSchedule)
    assert (longer.schedule.ssl_epochs, longer.schedule.sl_epochs, longer.schedule.mix_ratio) == (7, 2, 0)
    assert (longer.optim.batch, longer.optim.restart) == (48, "phase")
    assert longer.data == spec.data
    assert spec.pilot.define["hot"].words == "mix with schedule.mix_ratio = 0.8, optim.lr = 0.002"


def test_arms_are_chosen_by_name_and_set_on_the_command_line(digits_job: dict[str, Any]) -> None:
    spec = load_spec(
        digits_job,
        [
            "pilot.define.hot.set.optim.lr=0.01",
            "pilot.define.hot.set.objective.mask_ratio=0.25",
            "pilot.define.hot.set.objective.decode_from=3",
            "pilot.define.hot.set.schedule.whole_rows=0.25",
            "pilot.define.hot.set.backbone.drop_path=0.1",
            "pilot.define.hot.set.optim.layer_decay=0.75",
            "pilot.define.hot.set.optim.decay=30%",
            "pilot.define.hot.set.optim.lr_scale.sl=0.5",
            "pilot.arms=[hot, sl]",
        ],
    )
    assert arms_of(spec) == ("hot", "sl")
    hot = arm_spec(spec, "hot")
    assert (hot.optim.lr, hot.objective.model_dump()["mask_ratio"]) == (0.01, 0.25)
    assert hot.backbone == spec.backbone.model_copy(update={"drop_path": 0.1})


def test_an_arm_of_another_objective_needs_no_patches_to_drop(digits_job: dict[str, Any]) -> None:
    define = {"contrast": {"base": "mix", "set": {"objective": {"type": "simclr"}}}}
    spec = load_spec(job_of(digits_job, define, arms=["ssl_sl_drop", "contrast"]))
    assert arm_spec(spec, "contrast").objective.type == "simclr"


def test_an_arm_without_ssl_has_nothing_to_adapt(digits_job: dict[str, Any]) -> None:
    """Unless it begins with weights, or is defined to train all."""
    whole = {"plain": {"base": "sl", "set": {"lora": None}}}
    spec = load_spec({**job_of(digits_job, whole, arms=["sl", "plain", "ssl_sl"]), "lora": {"rank": 2}})
    line = "lora: arm sl has neither SSL epochs nor weights to begin with, so adapters would fit a random backbone"
    with pytest.raises(JobError) as error:
        arm_spec(spec, "sl")
    assert str(error.value) == f"{line} (set backbone.weights, or leave the arm out)"
    assert arm_spec(spec, "plain").lora is None
    assert arm_spec(spec, "ssl_sl").lora
    begun = spec.model_copy(update={"pilot": spec.pilot.model_copy(update={"weights": "w.safetensors"})})
    assert arm_spec(begun, "pretrained").lora


@pytest.mark.parametrize(
    ("define", "line"),
    [
        ([], "pilot.define: must be a section of arms"),
        ({"mix": HOT}, "pilot.define.mix: is the name of a built-in arm (take another name)"),
        ({"a/b": HOT}, "pilot.define.a/b: an arm's name has letters"),
        ({"hot": 3}, "pilot.define.hot: must be a section with base and set"),
        ({"hot": {"bsae": "mix", **HOT}}, "pilot.define.hot.bsae: unknown key (did you mean base?)"),
        ({"hot": {"tryed": 3, **HOT}}, "pilot.define.hot.tryed: unknown key (did you mean tried?)"),
        ({"hot": {"tried": 0, **HOT}}, "pilot.define.hot.tried: must be at least 1, not 0"),
        ({"hot": {**HOT, "base": "mixx"}}, 'pilot.define.hot.base: unknown value "mixx" (did you mean mix?)'),
        ({"hot": {"base": "mix"}}, "pilot.define.hot.set: must name a field at least"),
        ({"hot": {"set": {"optim.lrr": 1}}}, "pilot.define.hot.set.optim.lrr: unknown key (did you mean optim.lr?)"),
        ({"hot": {"set": {"optim.lr": -1}}}, "pilot.define.hot.set.optim.lr: must be above 0, not -1"),
        ({"hot": {"set": {"seed": 3}}}, "pilot.define.hot.set.seed: no arm has a seed of its own: seeds are paired"),
        ({"hot": {"set": {"cluster.workers": 3}}}, "pilot.define.hot.set.cluster.workers: no arm has a cluster of its"),
        ({"hot": {"set": {"data.fraction": 0.5}}}, "pilot.define.hot.set.data.fraction: no arm has a data.fraction of"),
        ({"hot": {"set": {"data": {}}}}, "pilot.define.hot.set.data: would set data.train, too: all arms share images"),
        (
            {"hot": {"set": {"metric": "auroc"}}},
            "pilot.define.hot.set.metric: no arm has a metric of its own: all arms",
        ),
        (
            {"hot": {"set": {"backbone.size": "tiny"}}},
            "pilot.define.hot.set.backbone.size: no arm has a backbone of",
        ),
        ({"hot": {"set": {"budget.wall": 60}}}, "pilot.define.hot.set.budget.wall: no arm has a budget of its own"),
        (
            {"hot": {"set": {"objective": {"type": "mae"}, "objective.mask_ratio": 0.5}}},
            "pilot.define.hot.set.objective.mask_ratio: is inside objective",
        ),
        (
            {"hot": {"set": {"evaluate.weights": "ema"}}},
            "pilot.define.hot.set.evaluate.weights: there are no averaged weights (set optim.ema",
        ),
        (
            {"hot": {"set": {"objective": {"type": "simclr"}, "schedule.shared_pass": "masked"}}},
            "pilot.define.hot.set.schedule.shared_pass: objective simclr does not allow masked",
        ),
    ],
)
def test_what_no_arm_can_be_is_refused_in_one_line(digits_job: dict[str, Any], define: Any, line: str) -> None:
    with pytest.raises(JobError) as refused:
        load_spec(job_of(digits_job, define))
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_an_arm_that_the_base_refuses_starts_nothing(digits_job: dict[str, Any], tmp_path: Path) -> None:
    define = {"none": {"base": "ssl_sl_drop", "set": {"objective": {"type": "simclr"}}}}
    job = {**job_of(digits_job, define, arms=["none"]), "storage": str(tmp_path / "runs")}
    with pytest.raises(JobError, match=r"pilot\.define\.none\.set: with it, schedule\.sl_drop: .* hides no patches"):
        raymix.pilot(job, quiet=True)
    assert not (tmp_path / "runs").exists()


def test_a_defined_arm_is_compared_with_steps_timed_by_themselves(digits_job: dict[str, Any], tmp_path: Path) -> None:
    define = {
        "hot": {"base": "mix", "set": {"optim.lr": 4e-3}, "tried": 12},
        "small": {"base": "sl", "set": {"optim.batch": 24}},
        "contrast": {"base": "mix", "set": {"objective": {"type": "simclr"}}},
    }
    pilot = {"arms": ["mix", "sl", *define], "preset": "quick"}
    job = {**job_of(digits_job, define, **pilot), "storage": str(tmp_path / "runs")}
    report = raymix.pilot(job, quiet=True)
    assert list(report.arms) == ["mix", "sl", "hot", "small", "contrast"]
    assert set(report.own_step_seconds) == {"small", "contrast"}, "another rate costs nothing"
    assert set(report.own_step_seconds["small"]) == {"sl"}
    assert report.own_step_seconds["small"]["sl"] < report.step_seconds["sl"]
    for arm, (run,) in report.arms.items():
        step = max(report.own_step_seconds.get(arm, report.step_seconds).values())
        assert abs(run.planned_seconds - report.unit_seconds) < 3 * step, arm
        assert run.flops, arm
    assert report.verdict.rival in ("sl", *define)
    asked = load_spec(tmp_path / "runs" / "digits" / "runs" / "small-seed0-T1.00" / "job.yaml")
    assert asked.optim.batch == 24
    for text in (as_markdown(report).replace("\\", ""), pilot_html(report, {})):
        assert "sl with optim.batch = 24" in text
        assert (
            "onfigurations tried: mix 1, sl 1, hot 12, small 1, contrast 1 (so the arms were not tuned alike)" in text
        )
    with pytest.raises(JobError, match=r"name: .* is already used"):
        raymix.pilot(job, quiet=True)
    assert raymix.pilot(job, resume=True, quiet=True) == report
    job["pilot"]["define"]["hot"]["tried"] = 20  # a search that is told of later changes no arm
    told = raymix.pilot(job, resume=True, quiet=True)
    assert (told.tried, told.tried_of["hot"], told.arms) == (20, 20, report.arms)
    (tmp_path / "runs" / "digits" / "pilot.json").unlink()
    assert raymix.pilot(job, resume=True, quiet=True).tried_of == told.tried_of
    job["pilot"]["define"]["hot"]["set"]["optim.lr"] = 1e-3
    with pytest.raises(JobError, match=r"pilot\.define\.hot: is not what it was when the pilot began"):
        raymix.pilot(job, resume=True, quiet=True)
