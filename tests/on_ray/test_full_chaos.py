"""One of two workers is out of memory while the other waits for its gradients: the run ends with a line, in time."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from pathlib import Path

import pytest

from raymix.jobfile import load_spec
from raymix.runner import check
from raymix.session import Failure, RunFailed, open_session
from tests.conftest import JOB
from tests.on_ray.test_ray_runs import Heard, digits, needs_of, task_of
from tests.planted import FACTORY

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.usefixtures("attached")]


def test_the_run_ends_and_the_next_one_trains(tmp_path: Path) -> None:
    two = {"cluster": {"workers": 2}}
    backbone = {"type": "import", "factory": FACTORY, "args": {"most": 40, "norm": False}}
    full = check(load_spec({**copy.deepcopy(JOB), **two, "backbone": backbone}), (FACTORY,)).plan
    session = open_session(needs_of(digits(**two)), Heard())
    try:
        task = replace(task_of(digits(**two), "full"), plan=full, rates=None, allow_import=(FACTORY,))
        before = time.monotonic()
        with pytest.raises(
            RunFailed, match=r"^full: optim\.batch: 96 images .* try 48, or optim\.accumulate=2 or speed"
        ) as end:
            session.execute(task, Heard())
        assert time.monotonic() - before < 60
        assert not Failure.of(end.value).again
        assert session.execute(task_of(digits(**two), "next", tmp_path), Heard()).complete
    finally:
        session.close()
