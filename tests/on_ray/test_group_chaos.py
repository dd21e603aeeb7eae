"""Workers' processes that a node cannot start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.on_ray.conftest import needs_plain_python, short_job

pytestmark = [pytest.mark.ray, pytest.mark.chaos, needs_plain_python]

# a process of its own: Ray counts for a minute processes that ended as they started, and starts others the later
_SCRIPT = """
import sys
import raymix
from raymix.on_ray import group
from tests.on_ray.conftest import ray_of

group.TELL_SECONDS = 3.0
with ray_of(4, 200 * 2**20):
    sys.executable = sys.argv[2]
    raymix.run(sys.argv[1])
"""


def test_processes_that_end_as_they_start_are_told_and_end_the_run(tmp_path: Path) -> None:
    job = {**short_job(tmp_path), "failures": {"backoff": 0, "hang_outside": "6s", "max_restarts": 1}}
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    words = [sys.executable, "-c", _SCRIPT, str(file), str(tmp_path / "no such folder" / "python")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200, check=False)
    why = r"not all of 2 workers came in {} s, though there is room for them: .*; \S+/logs/raylet\.err on \S+ tells"
    assert len(re.findall(f"^{why.format(3)}$", done.stderr, re.M)) == 2  # of each group
    assert len(re.findall(f"^{why.format(6)}; restart 1 of 1 in 0 s$", done.stderr, re.M)) == 1
    assert re.search(rf"RunFailed: digits: {why.format(6)}; \S.*--resume goes on", done.stderr)
