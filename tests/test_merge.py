"""A finished pilot is extended from its frozen plan, and takes over the runs of a copy of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import raymix
from raymix.spec import JobError


def test_a_pilot_is_extended_and_a_copy_is_merged(digits_job: dict[str, Any], tmp_path: Path) -> None:
    def job(pilot: dict[str, Any], storage: str = "here") -> dict[str, Any]:
        shared = {**digits_job, "schedule": {"ssl_epochs": 1, "sl_epochs": 1, "mix_ratio": 1}, "optim": {"batch": 48}}
        shared["data"] = {**digits_job["data"], "fraction": 0.3}
        return {**shared, "storage": str(tmp_path / storage), "pilot": {"lengths": [1], **pilot}}

    few: dict[str, Any] = {"arms": ["sl", "mix"], "seeds": 1}
    begun = raymix.pilot(job(few), quiet=True)
    here, copy = tmp_path / "here" / "digits", tmp_path / "there" / "digits"
    frozen = json.loads((here / "frozen.json").read_text())
    assert frozen["requests"][0]["seeds"] == {"sl": 1, "mix": 1}
    shutil.copytree(here, copy)
    extended = {"arms": ["sl", "mix", "hot", "small"], "seeds": {"default": 1, "mix": 2}}
    define = {"hot": {"set": {"optim.lr": 4e-3}}, "small": {"base": "sl", "set": {"optim.batch": 24}}}
    elsewhere = raymix.pilot(job({**extended, "define": define}, "there"), resume=True, quiet=True)

    assert elsewhere.step_seconds == begun.step_seconds, "frozen times are not measured anew"
    assert elsewhere.unit_seconds == begun.unit_seconds
    assert set(elsewhere.own_step_seconds) == {"small"}, "hot has the steps of mix"
    assert {arm: len(runs) for arm, runs in elsewhere.arms.items()} == {"sl": 1, "mix": 2, "hot": 1, "small": 1}
    assert elsewhere.arms["sl"] == begun.arms["sl"], "a finished run is not run again"
    assert "raised from 1 to 2 (mix) after 1 seed had been seen" in elsewhere.note
    assert "measured later than those of the other arms: small" in elsewhere.note
    assert [request.seen for request in elsewhere.requests] == [0, 1]

    more = {**few, "seeds": {"default": 1, "mix": 2}, "merge": [str(copy)]}
    with pytest.raises(JobError, match=r"pilot\.merge: there is no pilot here"):
        raymix.pilot({**job(more), "name": "new"}, quiet=True)
    theirs = (copy / "frozen.json").read_text()
    for name, value in (("unit_seconds", 99.0), ("device", "another")):
        (copy / "frozen.json").write_text(json.dumps({**json.loads(theirs), name: value}))
        with pytest.raises(JobError, match=rf"pilot\.merge: .* has another frozen\.json: {name}"):
            raymix.pilot(job(more), resume=True, quiet=True)
    (copy / "frozen.json").write_text(theirs)
    run = Path("runs", "mix-seed1-T1.00")
    plan = json.loads((copy / run / "plan.json").read_text())
    changed = {**plan, "facts": {**plan["facts"], "num_val": 7}}
    (copy / run / "plan.json").write_text(json.dumps(changed))
    with pytest.raises(JobError, match=r"pilot\.merge: .*mix-seed1-T1\.00 has another data"):
        raymix.pilot(job(more), resume=True, quiet=True)
    assert not (here / run).exists(), "what is refused is not copied"
    (copy / run / "plan.json").write_text(json.dumps(plan))

    merged = raymix.pilot(job(more), resume=True, quiet=True)
    assert merged.arms["mix"] == elsewhere.arms["mix"]
    assert (copy / run).is_dir(), "copied, not moved"
    assert merged.merged == (run.name,)
    assert "1 run was made by another copy of this pilot" in merged.note
    assert raymix.pilot(job(more), resume=True, quiet=True) == merged
