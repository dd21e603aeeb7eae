"""jobs/examples run as they are shipped, and say how little of a loop MixTraining changes."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import raymix
from tests.conftest import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "jobs" / "examples").glob("*.py"))


def test_there_are_examples() -> None:
    assert {path.stem for path in EXAMPLES} == {"lightning_module", "plain_pytorch"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_learns(path: Path, tmp_path: Path) -> None:
    if path.stem == "lightning_module":
        pytest.importorskip("lightning")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, cwd=tmp_path, timeout=200)
    assert done.returncode == 0, done.stderr
    found = [float(percent) for percent in re.findall(r": ([\d.]+) %", done.stdout)]
    assert found, done.stdout
    assert min(found) > 80, "of ten digits one in ten is right by chance"
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"
    for number in re.findall(r"about ([\d ,and]+) %", path.read_text()):
        said = [int(percent) for percent in re.findall(r"\d+", number)]
        assert all(abs(a - b) < 5 for a, b in zip(said, found, strict=True)), "what it says of itself"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_about_ten_lines_differ(path: Path) -> None:
    text = path.read_text()
    assert f"python jobs/examples/{path.name}" in text.splitlines()[0]
    body = text.partition("import raymix\n")[2]
    marked = [line for line in body.splitlines() if "# <-" in line]
    assert 8 <= len(marked) <= 12
    unmarked = "\n".join(line for line in body.splitlines() if line not in marked)
    assert "raymix" not in re.sub(r'""".*?"""', "", unmarked, flags=re.DOTALL)
    assert not re.search(r"\bstep\.|schedule", re.sub(r'""".*?"""', "", unmarked, flags=re.DOTALL))


def module_of(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "jobs" / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
def test_a_broken_off_lightning_run_goes_on_with_its_images(tmp_path: Path) -> None:
    """Lightning's own checkpoint in the middle of the schedule, and `ckpt_path`: each step's images, once."""
    pl = pytest.importorskip("lightning.pytorch")
    import torch
    from torch.utils.data import TensorDataset

    torch.set_num_threads(1)
    example = module_of("lightning_module")
    labels = np.where(np.arange(256) % 4 == 0, np.arange(256) % 10, -1)

    class BrokenError(Exception):
        pass

    class Watched(example.MixedContrast):  # type: ignore[name-defined, misc]
        def __init__(self, break_at: int | None = None) -> None:
            super().__init__(
                TensorDataset(torch.rand(256, 1, 8, 8), torch.from_numpy(labels), torch.arange(256)), labels
            )
            self.seen: list[tuple[int, float, list[int]]] = []
            self.break_at = break_at
            self.schedule = raymix.Schedule(
                num_images=256, num_labelled=64, batch=16, ssl_epochs=2, sl_epochs=4, mix_ratio=0.5
            )

        def training_step(self, batch: list[Any], batch_idx: int) -> Any:
            if self.global_step == self.break_at:
                raise BrokenError
            loss = super().training_step(batch[:2], batch_idx)
            self.seen.append((self.global_step, self.optimizers().param_groups[0]["lr"], batch[2].tolist()))
            return loss

    def fit(module: Any, *callbacks: Any, **options: Any) -> Any:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", enable_checkpointing=bool(callbacks), callbacks=list(callbacks), **quiet
        )
        trainer.fit(module, **options)
        return module

    whole = fit(Watched()).seen
    assert len(whole) > 30
    assert [(number, lr) for number, lr, _ in whole] == [(step.number, step.lr) for step in Watched().schedule]
    broken = Watched(break_at=25)
    saving = pl.callbacks.ModelCheckpoint(tmp_path, "at-{step}", every_n_train_steps=19, save_top_k=-1)
    with pytest.raises(BrokenError):
        fit(broken, saving)
    resumed = fit(Watched(), ckpt_path=tmp_path / "at-step=19.ckpt")
    assert broken.seen[:19] + resumed.seen == whole
