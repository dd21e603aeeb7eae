"""One worker that hangs: found, its stacks kept, started again. The other ways are in the chaos belt."""

from __future__ import annotations

import copy
import random
import re
from pathlib import Path

import pytest

import raymix
from tests.conftest import JOB
from tests.on_ray.halting import FACTORY
from tests.on_ray.hanging import Hangs

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("attached")]


def test_a_deadlock_is_found_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = {
        **copy.deepcopy(JOB),
        "storage": str(tmp_path / "runs"),
        "data": {**JOB["data"], "image_size": 16},
        "backbone": {"type": "import", "factory": FACTORY, "args": {"order": str(tmp_path / "order")}},
        "schedule": {"ssl_epochs": 0, "sl_epochs": 20, "mix_ratio": 0},
        "evaluate": {"every": 0.1, "max_share": 1.0},
        "checkpoint": {"every": 0},
        "cluster": {"workers": 1},
        "failures": {"hang": "5s", "backoff": 0},
    }
    hangs = Hangs(tmp_path, 1, ["deadlock"], 100, random.Random(0))
    hangs.start()
    report = raymix.run(job, allow_import=(FACTORY,))
    assert (report.status, report.attempts) == ("done", 2)
    told = capsys.readouterr().err
    line = r"^worker 0 \(\S+, process \d+\) hangs for \d s in step \d+, at on_ray/halting\.py:\d+ in _obey; "
    assert re.search(
        rf"{line}stacks of the workers are in {tmp_path}/\S+/stacks/001; restart 1 of 3 in 0 s$", told, re.M
    )
    assert "in _obey" in (tmp_path / "runs" / "digits" / "stacks" / "001" / "rank-0.txt").read_text()
