"""The notebook that starts Ray workers twice, which takes minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from raymix.report.folder import read_run
from tests.test_notebooks import assert_tidy, executed, outputs

pytestmark = [pytest.mark.chaos, pytest.mark.ray]


def test_cluster_stops_a_background_run_and_goes_on_with_it(tmp_path: Path) -> None:
    book = executed("cluster", tmp_path, "'schedule.ssl_epochs=60', 'schedule.sl_epochs=12'")
    assert_tidy(book)
    shown = [data for kind, data in outputs(book) if kind == "execute_result"]
    assert "<progress" in shown[0]["text/html"]
    assert "training, step " in shown[1]["text/html"]
    assert "\x1b" not in str(shown[1]), "no colours and bars of a terminal"
    assert "interrupted" in shown[2]["text/html"]
    assert "<svg" in shown[3]["text/html"]
    (said,) = (text for kind, text in outputs(book) if kind == "stream")
    assert said.startswith("checkpoint saved")
    report = read_run(tmp_path / "cluster")
    assert (report.status, report.attempts, report.workers) == ("done", 2, 2)
