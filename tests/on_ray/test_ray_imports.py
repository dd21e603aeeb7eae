"""A backbone of the user's own on Ray workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import raymix

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("attached")]
FACTORY = "tests.method.own_backbones:conv"


def test_workers_are_told_what_may_be_imported(digits_job: dict[str, Any], tmp_path: Path) -> None:
    digits_job["data"]["image_size"] = 16
    sections = {
        "storage": str(tmp_path),
        "backbone": {"type": "import", "factory": FACTORY},
        "objective": {"type": "mae", "mask_ratio": 0.5, "decoder_width": 32, "decoder_depth": 1},
        "cluster": {"workers": 2},
    }
    report = raymix.run(digits_job | sections, quiet=True, allow_import=(FACTORY,))
    assert report.status == "done"
    assert report.attempts == 1
