"""`raymix bench scale`: what it refuses, what it makes of its windows, and both sides in turns."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from raymix.__main__ import main
from raymix.bench.scaling import command, setting
from raymix.bench.scaling.figures import Timed, draw, rows, table
from raymix.bench.scaling.group import Torchrun
from raymix.bench.scaling.messages import Load
from raymix.bench.scaling.setting import MODELS, Cell, cell_spec, cells, check, counts_of, has_rival, job, window
from raymix.bench.setting import KINDS, NUM_CLASSES
from raymix.jobfile import load_spec
from raymix.session import RunFailed
from raymix.spec import JobError, JobSpec


def nano(*overrides: str) -> JobSpec:
    """The job on CPUs."""
    return load_spec(job("vit-nano"), list(overrides))


@pytest.mark.parametrize("model", MODELS)
def test_every_preset_is_a_job_of_each_cell(model: str, tmp_path: Path) -> None:
    images = tmp_path / "images.npz"
    np.savez(images, images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.zeros(2, np.int64))
    spec = load_spec(job(model), [])
    for cell in (Cell(1, "weak"), *cells(2)):
        made = cell_spec(spec, cell, gpus=True, images=str(images))
        assert made.batch == spec.batch * (2 if cell == Cell(2, "weak") else 1)
        planned = window(made, {"ssl": 3, "sl": 4}, 4 * made.batch)
        assert [(phase.kind, phase.steps) for phase in planned.phases] == [("ssl", 3), ("sl", 4)]
    assert [kind for kind in KINDS if has_rival(spec, kind)] == (["sl"] if model == "resnet-50" else list(KINDS))


def test_a_step_that_the_plain_loop_has_not_has_no_rival() -> None:
    assert not has_rival(nano("schedule.shared_pass=separate"), "mix")
    assert not has_rival(nano("objective.ssl_pass=full"), "ssl")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "1,none"], "--workers: 1,none is no list of counts"),
        (["--workers", "0,1"], "--workers: 0,1 is no list"),
        (["--scaling", "weak,flat"], "--scaling: weak,flat is no list of weak, strong"),
        (["--workers", "1,5"], "optim.batch: 48 cannot be shared out to 5 workers"),
        (["--set", "optim.batch=auto"], "optim.batch: auto is not the same for every count"),
        (["--kinds", "ssl,all"], "--kinds: ssl,all is no list of ssl, mix, sl"),
        (["--model", "vgg"], "--model: vgg is none of vit-nano"),
        (["--plain", "fast"], "--plain: fast is none of"),
        (["--plot", "scale.txt"], "--plot: scale.txt cannot be drawn"),
        (["--plot", "no/such/folder/scale.png"], "--plot: no/such/folder/scale.png cannot be drawn"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "scale", "--device", "cpu", *arguments])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.count("\n") == 1
    assert words in told


def test_more_workers_than_gpus_are_refused() -> None:
    check(nano(), (1, 2), num_gpus=2)
    with pytest.raises(JobError, match=r"--workers: 3 workers with a GPU each, and this machine has 2"):
        check(nano(), (1, 3), num_gpus=2)


def test_counts_are_sorted_and_told_once() -> None:
    assert counts_of("2, 1,2") == (1, 2)


# ---- figures --------------------------------------------------------------------------------------------------------


def timed() -> list[Timed]:
    """One worker at 100 images/s; two at 160 (weak; torchrun 200) and 125 (strong, without a rival)."""
    alone = Timed(Cell(1, "weak"), "sl", 10, 10, raymix=[1.0, 1.0, 5.0], torchrun=[1.0, 1.0, 5.0])
    weak = Timed(Cell(2, "weak"), "sl", 20, 10, [1.25, 1.25, 1.25], [0.25, 0, 0], [0, 0, 0], [1, 1, 1], [0.9, 0.9, 0])
    strong = Timed(Cell(2, "strong"), "sl", 10, 10, raymix=[0.8, 0.8, 0.8])
    for one in (alone, weak, strong):
        one.waited, one.between = one.waited or [0.0] * 3, one.between or [0.0] * 3
    return [alone, weak, strong]


def test_rows_hold_rates_ratio_efficiency_and_what_averaging_costs() -> None:
    alone, weak, strong = rows(timed())
    assert alone["raymix"]["images_per_second"] == pytest.approx(100)
    assert (alone["ratio"], alone["raymix"]["efficiency"]) == (1, 1)
    assert alone["all_reduce_exposed_ms"] is None
    assert weak["raymix"]["images_per_second"] == pytest.approx(160)
    assert weak["raymix"]["images_per_second_per_worker"] == pytest.approx(80)
    assert weak["ratio"] == pytest.approx(0.8)
    assert weak["raymix"]["efficiency"] == pytest.approx(0.8)
    assert weak["torchrun"]["efficiency"] == pytest.approx(1.0)
    assert weak["raymix"]["added_ms"] == pytest.approx(25)
    assert weak["all_reduce_exposed_ms"] == pytest.approx(10)
    assert weak["data_wait_share"] == pytest.approx(0.25 / 3.75)
    assert strong["raymix"]["efficiency"] == pytest.approx(0.625)
    assert (strong["ratio"], strong["torchrun"], strong["raymix"]["added_ms"]) == (None, None, None)


def test_segments_of_a_window_are_added_up() -> None:
    one = Timed(Cell(1, "weak"), "sl", 10, 10)
    for seconds, between, new in ((1.0, None, True), (2.0, 0.5, False), (4.0, 0.25, True)):
        one.add(seconds, 0.1, between, new)
    assert (one.raymix, one.between) == ([3.0, 4.0], [0.5, 0.25])


def test_the_table_has_a_line_a_row_and_the_plot_is_drawn(tmp_path: Path) -> None:
    result: dict[str, Any] = {"rows": rows(timed())}
    assert table(result).row_count == 3
    for name in ("scale.png", "scale.svg"):
        draw(result, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


# ---- both sides -----------------------------------------------------------------------------------------------------


def test_a_window_that_was_not_whole_counts_nothing() -> None:
    timed = Timed(Cell(2, "weak"), "sl", 96, 10)
    timed.raymix, timed.torchrun, timed.apart = [1.0, 2.0], [1.1], [0.9]
    timed.waited, timed.between = [0.1, 0.1], [0.0, 0.0]
    (row,) = rows([timed.whole(1)])
    assert row["ratios"] == [pytest.approx(1.1)]
    assert row["raymix"]["step_ms"] == pytest.approx(100)


def test_a_rank_that_fails_ends_the_group_and_says_why() -> None:
    with tempfile.TemporaryDirectory() as folder:
        group = Torchrun(1, "cpu", Path(folder))
        try:
            group.wait()
            with pytest.raises(RunFailed, match=r"torchrun: rank 0: FileNotFoundError.*none\.npz"):
                group.ask(Load(nano(), ("sl",), f"{folder}/none.npz", fast=False))
        finally:
            group.close()
        assert not any(psutil.pid_exists(process) for process in group.processes)


@pytest.mark.bench
def test_both_sides_are_measured_in_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(command.WINDOW_SECONDS, "cpu", 0.05)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spec, device, timed = nano("optim.batch=16"), torch.device("cpu"), list[Timed]()
    bench = command.Bench(spec, (2,), KINDS, setting.SCALINGS, device, windows=2, fast=False)
    command.measure(bench, timed)
    result = json.loads(json.dumps(command.told(bench, timed)))
    assert [(row["scaling"], row["kind"]) for row in result["rows"]] == [
        (scaling, kind) for scaling in setting.SCALINGS for kind in KINDS
    ]
    for row in result["rows"]:
        assert row["batch"] == (32 if row["scaling"] == "weak" else 16)
        assert len(row["ratios"]) == 2
        assert row["all_reduce_exposed_ms"] is not None
    assert not list(tmp_path.glob("raymix-scale-*"))


@pytest.mark.bench
def test_a_signal_ends_it_shows_whole_windows_and_leaves_no_process() -> None:
    temporary = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))  # short: the path of a socket has a limit
    line = [sys.executable, "-m", "raymix", "bench", "scale", "--workers", "2", "--windows", "500", "--device", "cpu",
            "--kinds", "sl", "--json"]  # fmt: skip
    environment, pipe = {**os.environ, "TMPDIR": str(temporary)}, subprocess.PIPE
    process = subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)
    assert process.stderr is not None
    for told in process.stderr:
        if "weak scaling" in told:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    time.sleep(15)
    process.send_signal(signal.SIGINT)
    shown, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "interrupted: windows that were whole are shown" in told
    (row,) = json.loads(shown)["rows"]
    assert (row["scaling"], row["workers"], row["kind"]) == ("weak", 2, "sl")
    assert 1 <= len(row["ratios"]) < 500
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert not list(temporary.glob("raymix-scale-*"))
    shutil.rmtree(temporary)


def test_the_images_have_the_classes_of_the_plan() -> None:
    assert window(nano(), {"sl": 1}, 100).facts.num_classes == NUM_CLASSES
