"""Stopped, saved and resumed is the same as never stopped, bit by bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import Digits, Watcher

from raymix.local import LocalRuntime
from raymix.report.history import Rates
from raymix.train import checkpoint
from raymix.train.cache import Cache
from raymix.train.device import repeat_exactly
from raymix.train.execute import execute
from raymix.train.task import Task

DigitsOf = Callable[..., Digits]
BOTH = {"ssl_epochs": 1, "sl_epochs": 1}
FEW = {"fraction": 0.15, "holdout": 0.1, "select": 0.1}
RUNS: dict[str, dict[str, Any]] = {
    "ssl": {"schedule": {"ssl_epochs": 1, "sl_epochs": 0}},
    "mix": {"schedule": {**BOTH, "mix_ratio": 0.5}},
    "full": {"schedule": {**BOTH, "mix_ratio": 1, "shared_pass": "full"}},
    "simclr": {"objective": {"type": "simclr", "projector_width": 16, "output_width": 8}, "schedule": BOTH},
    "sl": {"schedule": {"ssl_epochs": 0, "sl_epochs": 1}},
    "alternate": {"schedule": {**BOTH, "mix_ratio": 1, "interleave": "alternate", "alternate_steps": 2}},
    "sl_drop": {"schedule": {**BOTH, "mix_ratio": 0, "sl_drop": 0.6}},
    "drop_path": {"backbone": {"size": "nano", "patch": 2, "drop_path": 0.3}, "schedule": {**BOTH, "mix_ratio": 0.5}},
    "layers": {"schedule": {**BOTH, "mix_ratio": 0.5}, "optim": {"batch": 24, "lr": 2e-3, "layer_decay": 0.7}},
    "restart": {"schedule": {**BOTH, "mix_ratio": 0.5}, "optim": {"batch": 24, "lr": 2e-3, "restart": "phase"}},
    "averaged": {
        "schedule": {**BOTH, "mix_ratio": 0.5},
        "optim": {"batch": 24, "lr": 2e-3, "ema": 0.1, "accumulate": 2, "clip": 0.5, "decay": 0.3},
    },
    "mixup": {
        "schedule": {**BOTH, "mix_ratio": 0.5},
        "data": {**FEW, "augment": {"crop": [0.6, 1.0], "mixup": 0.4, "cutmix": 1.0, "mix_shared": True, "erase": 0.2}},
    },
    "whole_rows": {"schedule": {**BOTH, "mix_ratio": 0.5, "whole_rows": 0.25}},
    "streamed": {"schedule": {**BOTH, "mix_ratio": 0.5}, "data": {**FEW, "cache": "stream"}},
    # draws from torch's generator, which no checkpoint holds
    "dropout": {
        "backbone": {"type": "timm/test_vit", "args": {"patch_size": 2, "drop_path_rate": 0.3, "proj_drop_rate": 0.2}},
        "schedule": {**BOTH, "mix_ratio": 0.5},
    },
}


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_is_the_unbroken_one(digits: DigitsOf, name: str, tmp_path: Path) -> None:
    """Stopped twice; where there are several phases, the second stop is at the first one's end."""
    asked = digits(**RUNS[name], evaluate={"every": 0.5, "max_share": 1})
    rates, end_of_phase = asked.rates(3), asked.plan.phases[0].steps
    whole, heard = asked.run(tmp_path / "whole", rates=rates)
    in_phase = sum(r.segment.start < end_of_phase for r in heard.reports)
    stops = [1, in_phase - 1 if len(asked.plan.phases) > 1 else 1]
    for stop in stops:
        part, _ = asked.run(tmp_path / "parts", stop_after=stop, rates=rates)
        assert not part.complete
        assert part.correct == {}
    # the rates of the first attempt are history; other ones cannot change where the segments are cut
    rest, last = asked.run(tmp_path / "parts", rates=Rates(step_seconds=dict.fromkeys(asked.plan.kinds, 1e-9)))
    assert last.began.reports == part.history.reports
    assert [r.segment for r in rest.history.reports] == [r.segment for r in whole.history.reports]
    figures = [
        [(r.images, r.labelled, r.ssl_loss, r.sl_loss, r.train_top1, r.select_top1) for r in run.history.reports]
        for run in (rest, whole)
    ]
    assert figures[0] == figures[1]
    if name == "ssl":
        assert rest.correct == {}, "nothing was classified"
    else:
        assert np.array_equal(rest.correct["raw"], whole.correct["raw"])
    assert rest.seen == whole.seen
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole"), "equal states have equal hashes"


def hashes(folder: Path) -> tuple[str, str]:
    """Name and hash of the tensors of the newest checkpoint."""
    name, problems = checkpoint.newest(folder)
    assert name is not None
    assert not problems
    return name, json.loads((folder / name / "commit.json").read_text())["tensors.safetensors"]["sha256"]


def test_a_run_that_is_done_only_reads_val_again(digits: DigitsOf, tmp_path: Path) -> None:
    """Killed after the last checkpoint and before the report: nothing is trained, the answer is the same."""
    asked = digits(schedule=BOTH)
    first, _ = asked.run(tmp_path, rates=asked.rates(5))
    again, heard = asked.run(tmp_path)
    assert not heard.reports
    assert again.complete
    assert np.array_equal(again.correct["raw"], first.correct["raw"])


def test_a_stop_before_the_first_segment_can_be_resumed(digits: DigitsOf, tmp_path: Path) -> None:
    from raymix.train.execute import execute
    from raymix.train.task import Task

    asked = digits(schedule={"ssl_epochs": 0, "sl_epochs": 1})
    runtime = asked.runtime()
    runtime.stopping = True
    task = Task("digits", asked.plan, asked.splits, None, str(tmp_path))
    outcome = execute(task, runtime)
    assert not outcome.complete
    assert outcome.seen == {"all": 0, "labelled": 0, "unlabelled": 0}
    assert outcome.history.rates.step_seconds, "measured all the same"
    assert checkpoint.names(tmp_path) == ["step-000000000"]
    assert asked.run(tmp_path, rates=asked.rates(5))[0].complete


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["mix", "full", "simclr", "averaged", "drop_path"])
def test_on_a_gpu_it_is_too_with_deterministic_kernels(digits: DigitsOf, name: str, tmp_path: Path) -> None:
    device = torch.device("cuda", 0)
    compiled = "default" if name == "mix" else "off"  # which takes minutes
    asked = digits(speed={"deterministic": True, "compile": compiled}, **RUNS[name])
    try:
        for folder, stops in (("whole", (None,)), ("again", (None,)), ("parts", (2, 3, None))):
            for stop in stops:
                watcher = Watcher(stop)
                watcher.runtime = runtime = LocalRuntime(Cache(asked.images, device), device, watcher)
                execute(Task("digits", asked.plan, asked.splits, asked.rates(4), str(tmp_path / folder)), runtime)
    finally:
        repeat_exactly(False, device)
    assert hashes(tmp_path / "again") == hashes(tmp_path / "whole")
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")
