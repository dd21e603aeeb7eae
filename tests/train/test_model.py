"""What is loaded from a run folder: the newest weights, or the best; from nothing else than what fits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from saved_states import seal

import raymix
from raymix.data.reading import read_local
from raymix.runner import check
from raymix.train import measure
from raymix.train.checkpoint import COMMIT, TENSORS, names
from raymix.train.saving import BEST
from tests.conftest import spec_in


def test_the_best_is_loaded_where_it_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that ruins the last epochs: the run's result is that of its last weights, and the best ones are there."""
    monkeypatch.setattr(measure, "TIMED", 2)
    spec = spec_in(
        tmp_path,
        schedule={"ssl_epochs": 0, "sl_epochs": 6},
        optim={"batch": 24, "lr": 0.3, "warmup": 0},
        checkpoint={"every": 60, "keep": 1, "best": True},
    )
    report = raymix.run(spec, quiet=True)
    folder, rows = tmp_path / "runs" / "digits", check(spec)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = {line["step"]: line["select_top1"] for line in lines if line["select_top1"] is not None}
    step = max(told, key=lambda step: (told[step], -step))
    assert step < max(told), "it got worse"
    assert names(folder / "checkpoints") == [f"step-{lines[-1]['step']:09d}", f"step-{step:09d}"]

    def top1(best: bool, ids: torch.Tensor) -> float:
        trained = raymix.load_model(folder, best=best)
        images = read_local(rows.rows, ids.numpy(), trained.frame)
        logits = trained(torch.from_numpy(images.pixels[images.slots[ids.numpy()]]))
        return float(100 * (logits.argmax(1).numpy() == rows.splits.labels[ids.numpy()]).mean())

    select, val = torch.from_numpy(rows.splits.select), torch.from_numpy(rows.splits.val)
    assert top1(True, select) == pytest.approx(told[step])
    assert report.final is not None
    assert top1(False, val) == pytest.approx(report.final.top1)

    (folder / "checkpoints" / f"step-{step:09d}" / COMMIT).write_text("{}")
    with pytest.raises(raymix.JobError, match=rf"its best checkpoint step-{step:09d} does not verify: {COMMIT}"):
        raymix.load_model(folder, best=True)
    (folder / "checkpoints" / BEST).unlink()
    with pytest.raises(raymix.JobError, match=r"kept no best checkpoint \(train with checkpoint.best=true"):
        raymix.load_model(folder, best=True)

    newest = folder / "checkpoints" / names(folder / "checkpoints")[0]
    tensors = safetensors.torch.load_file(newest / TENSORS)
    safetensors.torch.save_file({**tensors, "model.h.weight": torch.zeros(1)}, newest / TENSORS)
    seal(newest)
    with pytest.raises(raymix.JobError, match="does not fit the run: ") as end:
        raymix.load_model(folder)
    assert "\n" not in str(end.value)
    (newest / TENSORS).write_bytes(b"no tensors")
    seal(newest)
    with pytest.raises(raymix.JobError, match="does not fit the run: "):
        raymix.load_model(folder)
    shutil.rmtree(newest)
    with pytest.raises(raymix.JobError, match="holds no checkpoint that verifies"):
        raymix.load_model(folder)
