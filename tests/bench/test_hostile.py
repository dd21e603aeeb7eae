"""Every kind of bad image is counted under its cause, its neighbours survive, and bombs cost no more than the bound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from raymix.bench.drawer import KINDS
from raymix.bench.hostile import bench_hostile, read_hostile, write_folder


def test_twenty_of_each_kind(tmp_path: Path) -> None:
    expected = write_folder(tmp_path, 20)
    assert len(KINDS) == 16
    assert len(expected) == 2 * 320
    result = read_hostile(expected)
    assert result["wrong"] == []
    num_bad = sum(cause is not None for cause in expected.values())
    assert (result["num_read"], sum(result["skipped"].values())) == (640 - num_bad, num_bad)
    causes = {kind.cause for kind in KINDS.values() if kind.cause is not None}
    assert set(result["skipped"]) == causes


def test_what_comes_out_otherwise_is_told(tmp_path: Path) -> None:
    expected = write_folder(tmp_path, 1)
    first, neighbour = list(expected)[:2]
    expected[first] = "empty"
    Path(neighbour).write_bytes(Path(list(expected)[3]).read_bytes())
    assert [(wrong["expected"], wrong["got"]) for wrong in read_hostile(expected)["wrong"]] == [
        ("empty", "truncated"),
        ("its own pixels", "other pixels"),
    ]


def test_bench_hostile() -> None:
    result = bench_hostile(num=32, num_bombs=2)
    assert result["images"]["num_wrong"] == 0
    assert result["images"]["num_files"] == 64
    assert (result["bombs"]["num_bombs"], result["bombs"]["outcomes"]) == (2, {"read": 2})
    assert 0 < result["bombs"]["growth_mebibytes"] < 300


def test_the_drawer_needs_no_torch() -> None:
    code = "import sys, raymix.bench.hostile; print('torch' in sys.modules, 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
