"""Runs of backbones that are not raymix's own, from end to end without Ray, and the permission to import one."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

import raymix
from raymix.arms import arms_of
from raymix.session import Failure, RunFailed
from raymix.spec import JobError
from tests.conftest import Raymix

SMALL_VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}
BACKBONES: dict[str, dict[str, Any]] = {
    "timm resnet18": {"type": "timm/resnet18", "args": {"channels": [8, 8, 16, 16], "output_stride": 8}},
    "timm vit": {"type": "timm/vit_tiny_patch16_224", "args": SMALL_VIT},
}
FACTORY = "tests.method.own_backbones:conv"
OWN = {"type": "import", "factory": FACTORY}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small convolutions are quickest on one thread, most of all beside other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def drawn_job(image_tree: Callable[..., Path], tmp_path: Path) -> dict[str, Any]:
    """90 drawn images of 32 pixels."""
    source = {"format": "image_folder", "path": str(image_tree(tmp_path / "images", per_class=30, size=32))}
    return {
        "name": "drawn",
        "storage": str(tmp_path / "runs"),
        "data": {"train": source, "holdout": 0.2, "image_size": 32},
        "objective": {"type": "mae", "mask_ratio": 0.5, "decoder_width": 32, "decoder_depth": 1},
        "schedule": {"ssl_epochs": 1, "sl_epochs": 1, "mix_ratio": 0.5},
        "optim": {"batch": 12},
        "cluster": {"workers": 0},
    }


def weights(run: Path) -> bytes:
    """The newest checkpoint's tensors."""
    return (max((run / "checkpoints").glob("step-*")) / "tensors.safetensors").read_bytes()


@pytest.mark.parametrize("row", ["timm resnet18", "timm vit"])
def test_a_librarys_backbone_trains_alike_each_time(row: str, drawn_job: dict[str, Any], tmp_path: Path) -> None:
    drawn_job["backbone"] = BACKBONES[row]
    for name in ("one", "two"):
        report = raymix.run(drawn_job, [f"name={name}"], quiet=True)
        assert report.status == "done"
        assert report.final is not None
        assert [phase.kind for phase in report.phases] == ["ssl", "mix", "sl"]
    assert weights(tmp_path / "runs" / "one") == weights(tmp_path / "runs" / "two")
    model = raymix.load_model(tmp_path / "runs" / "one")
    image = next((tmp_path / "images").rglob("*.jpg"))
    assert model(model.transform(image)[None]).shape == (1, 3)
    assert model.embed(model.transform(image)[None]).shape == (1, model.model.f.width)


def test_a_cnn_goes_on_where_it_was_stopped(drawn_job: dict[str, Any], tmp_path: Path) -> None:
    """The part of a run that a checkpoint holds is enough also where there is BatchNorm."""
    drawn_job |= {"backbone": BACKBONES["timm resnet18"], "checkpoint": {"every": 0, "keep": 100}}
    raymix.run(drawn_job, quiet=True)
    whole, run = weights(tmp_path / "runs" / "drawn"), tmp_path / "runs" / "drawn"
    for name in ("report.json", "report.html"):
        (run / name).unlink()
    saved = sorted((run / "checkpoints").glob("step-*"))
    for late in saved[1:]:
        for file in late.iterdir():
            file.unlink()
        late.rmdir()
    assert raymix.run(drawn_job, resume=True, quiet=True).status == "done"
    assert weights(run) == whole


def test_a_job_that_does_not_fit_starts_nothing(drawn_job: dict[str, Any], tmp_path: Path, raymix: Raymix) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump({**drawn_job, "backbone": "timm/resnet18"}))
    for command in ("validate", "plan", "run", "pilot"):
        done = raymix(command, job)
        assert done.code == 2
        assert done.err.startswith("error: objective.mask_ratio: 0.5 leaves no visible patch of 1 (change it, or take")
    assert not (tmp_path / "runs").exists()
    done = raymix("validate", job, "--set", "backbone.args={output_stride: 8}")
    assert (done.code, done.out[:10]) == (0, "ok: drawn,")


def test_a_pilot_leaves_out_the_arm_that_drops_patches(drawn_job: dict[str, Any]) -> None:
    spec = raymix.load_spec({**drawn_job, "backbone": BACKBONES["timm resnet18"]})
    assert "ssl_sl_drop" in arms_of(spec, drops=True)
    assert arms_of(spec, drops=False) == ("sl", "ssl_sl", "ssl_sl_one", "mix")


def test_given_weights_are_an_arm_of_a_pilot(drawn_job: dict[str, Any], tmp_path: Path) -> None:
    file, storage = tmp_path / "given.safetensors", tmp_path / "runs"
    net = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, **SMALL_VIT)
    save_file(net.state_dict(), file)
    drawn_job |= {"backbone": BACKBONES["timm vit"], "pilot": {"preset": "quick", "arms": ["sl", "pretrained"]}}
    with pytest.raises(JobError, match=r"^pilot\.arms: pretrained fine-tunes given weights, and there are none"):
        raymix.pilot(drawn_job, quiet=True)
    drawn_job["pilot"]["weights"] = str(tmp_path / "none.safetensors")
    with pytest.raises(JobError, match=r"none\.safetensors"):
        raymix.pilot(drawn_job, quiet=True)
    assert not storage.exists()
    drawn_job["pilot"]["weights"] = str(file)
    report = raymix.pilot(drawn_job, quiet=True)
    assert list(report.arms) == ["sl", "pretrained"]
    asked = {
        arm: raymix.load_spec(storage / "drawn" / run.report.replace("report.json", "job.yaml")).backbone
        for arm, (run,) in report.arms.items()
    }
    assert asked["sl"].weights is None
    assert asked["pretrained"].weights == str(file)
    assert raymix.load_spec(storage / "drawn" / "recommended.yaml").backbone in asked.values()


@pytest.mark.parametrize(
    ("backbone", "line"),
    [
        (
            {"type": "vit", "weights": "some.safetensors"},
            "pilot.weights: with backbone.weights all arms start from weights",
        ),
        ({"type": "timm/resnet18", "pretrained": True}, "pilot.weights: with backbone.pretrained all arms start from"),
    ],
)
def test_weights_that_make_no_arm_are_refused(drawn_job: dict[str, Any], backbone: Any, line: str) -> None:
    with pytest.raises(JobError) as refused:
        raymix.load_spec({**drawn_job, "backbone": backbone, "pilot": {"weights": "w.safetensors"}})
    assert str(refused.value).startswith(line)


# ---- a module of the user's own ---------------------------------------------------------------------------------


def test_only_the_command_allows_an_import(drawn_job: dict[str, Any], tmp_path: Path) -> None:
    job, run = {**drawn_job, "backbone": OWN}, tmp_path / "runs" / "drawn"
    allow = {"allow_import": [FACTORY]}
    calls: list[Callable[..., Any]] = [raymix.plan, raymix.run, raymix.pilot]
    for call in calls:
        with pytest.raises(JobError, match=r"^backbone.factory: .* is code that no job may run by itself"):
            call(copy.deepcopy(job))
    assert not run.exists()
    assert raymix.run(job, quiet=True, **allow).status == "done"
    # nothing that a run leaves behind allows it
    with pytest.raises(JobError, match=r"^backbone.factory"):
        raymix.load_model(run)
    with pytest.raises(JobError, match=r"^backbone.factory"):
        raymix.run(run / "job.yaml", resume=True, quiet=True)
    assert raymix.run(run / "job.yaml", resume=True, quiet=True, **allow).status == "done"
    model = raymix.load_model(run, **allow)
    assert model.model.f.width == 16
    assert model(torch.zeros(1, 36, 36, 3, dtype=torch.uint8)).shape == (1, 3)


def test_the_command_finds_a_module_in_its_folder(drawn_job: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef make(image_size, num_channels):\n    return nn.Conv2d(num_channels, 8, 8, 8)\n"
    )
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**drawn_job, "backbone": {**OWN, "factory": "mine:make"}}))
    call = [sys.executable, "-c", "from raymix.__main__ import main; main()", "validate", "job.yaml"]
    for options, code in (([], 2), (["--allow-import", "mine:make"], 0)):
        done = subprocess.run([*call, *options], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr


def test_a_backbone_that_fills_the_memory_fails_the_run(drawn_job: dict[str, Any], tmp_path: Path) -> None:
    """One line, no traceback and no second attempt; the books are kept."""
    factory = "tests.planted:network"
    job = {**drawn_job, "backbone": {"type": "import", "factory": factory, "args": {"most": 7}}}
    with pytest.raises(RunFailed, match=r"^drawn: optim\.batch: \d+ images a step do not fit .* 7 would fit") as failed:
        raymix.run(job, quiet=True, allow_import=(factory,))
    assert not Failure.of(failed.value).again
    assert json.loads((tmp_path / "runs" / "drawn" / "report.json").read_text())["status"] == "failed"
