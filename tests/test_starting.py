"""A retraining: what it takes over from an earlier run, what it refuses, and that going on asks for neither again."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import raymix as package
from raymix.data.formats import index_data
from raymix.data.kept import find, read_splits
from raymix.data.splits import Splits
from raymix.local import LocalRuntime
from raymix.method.backbones.weights import HEAD
from raymix.plan import Plan
from raymix.replay import replay
from raymix.report.run import RunReport
from raymix.report.start import WeightsReport, read_start
from raymix.report.start_words import kept_line, start_lines, weights_line
from raymix.runner import check, run
from raymix.session import RunFailed
from raymix.signals import Interrupted
from raymix.spec import JobError, JobSpec
from raymix.train import checkpoint
from raymix.train.begin import begin, found
from raymix.train.state import AVERAGED, MODEL, TrainState
from raymix.train.task import Task
from raymix.watch import Sinks
from tests.conftest import Raymix, image_tree_of, spec_in

PER_CLASS, MORE = 24, 12


def job(folder: Path, images: Path, name: str, data: dict[str, Any] | None = None, **sections: Any) -> JobSpec:
    """A job of a second on drawn images."""
    where = {"train": {"format": "image_folder", "path": str(images)}, "image_size": 16, "fraction": 1, "select": 0.25}
    rest = {"backbone": {"size": "nano", "patch": 4}, "optim": {"batch": 12}, **sections}
    return spec_in(folder, data={**where, **(data or {})}, name=name, **rest)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """October's images and a run on them, with averaged weights; and November's, which hold October's."""
    folder = tmp_path_factory.mktemp("world")
    image_tree_of(folder / "october", per_class=PER_CLASS)
    image_tree_of(folder / "more", per_class=MORE, seed=1)
    shutil.copytree(folder / "october", folder / "november")
    for file in sorted((folder / "more").rglob("*.jpg")):
        shutil.copy(file, folder / "november" / file.parent.name / f"new-{file.name}")
    optim = {"batch": 12, "ema": 0.1}
    run(job(folder, folder / "october", "october", optim=optim, evaluate={"weights": "ema"}), quiet=True)
    return folder


def october(world: Path) -> str:
    return str(world / "runs" / "october")


def again(world: Path, folder: Path, name: str = "november", **sections: Any) -> JobSpec:
    """The retraining on November's images, from October's run."""
    data = {"keep_splits": october(world), **sections.pop("data", {})}
    backbone = {"size": "nano", "patch": 4, "weights": october(world), **sections.pop("backbone", {})}
    return job(folder, world / "november", name, data=data, backbone=backbone, **sections)


def tensors_of(run_folder: Path) -> dict[str, torch.Tensor]:
    name, _ = checkpoint.newest(run_folder / "checkpoints")
    assert name is not None
    return load_file(run_folder / "checkpoints" / name / checkpoint.TENSORS)


def names_in(run_folder: Path, images: Path) -> dict[str, set[str]]:
    """Names of the rows of each part, as the run's folder tells them."""
    plan = Plan.model_validate_json((run_folder / "plan.json").read_text())
    rows = index_data(plan.spec.data)
    parts = find(read_splits(run_folder, "it"), rows).parts
    return {
        part: {str(Path(rows.uris[row]).relative_to(images)) for row in ids} for part, ids in parts._asdict().items()
    }


def first_loss(report: RunReport) -> float:
    loss = report.curve[0].ssl_loss
    assert loss is not None
    return loss


# ---- what is taken over -----------------------------------------------------------------------------------------


def test_a_retraining_keeps_splits_and_begins_with_the_weights(world: Path, tmp_path: Path, raymix: Raymix) -> None:
    spec = again(world, tmp_path)
    (tmp_path / "job.json").write_text(spec.model_dump_json())
    done = raymix("run", tmp_path / "job.json")
    assert done.code == 0, done.err
    folder = tmp_path / "runs" / "november"
    before, now = names_in(world / "runs" / "october", world / "october"), names_in(folder, world / "november")
    assert (before["val"], before["select"]) == (now["val"], now["select"])
    assert len(now["val"]) == 18
    assert before["train"] < now["train"]
    assert all(Path(name).name.startswith("new-") for name in now["train"] - before["train"])
    assert len(now["train"] - before["train"]) == 3 * MORE
    report = package.run(spec, resume=True, quiet=True)  # done: it is read
    assert report.start is not None
    weights, kept = report.start.weights, report.start.kept
    assert weights is not None
    assert kept is not None
    assert (weights.matched, weights.tensors, weights.left, weights.kind) == (
        weights.tensors,
        weights.tensors,
        2,
        "run",
    )
    assert (kept.val, kept.val_gone, kept.new, kept.relabelled, kept.left_out) == (18, 0, 3 * MORE, 0, 0)
    assert [(one.before, one.new) for one in kept.shares.classes] == [(PER_CLASS, MORE)] * 3
    assert kept.shares.p == pytest.approx(1)
    for line in start_lines(report.start):
        assert line in (folder / "report.html").read_text().replace("&#39;", "'")
        assert " ".join(line.split()) in " ".join((done.out + done.err).split())
    assert "Classes then and now" in (folder / "report.html").read_text()
    random = run(again(world, tmp_path, "random", backbone={"weights": None}), quiet=True)
    assert first_loss(report) != first_loss(random)
    assert random.start is not None
    assert random.start.weights is None


def begun(spec: JobSpec) -> tuple[dict[str, torch.Tensor], WeightsReport]:
    """The tensors that a run of that job begins with, and what is told of them."""
    plan = check(spec).plan
    weights = found(spec, plan.facts.class_names)
    assert weights is not None
    cpu = torch.device("cpu")
    state = TrainState.fresh(plan, cpu)
    no_rows = Splits(*(np.empty(0, dtype=np.int64) for _ in range(4)))
    begin(state, Task("it", plan, no_rows, weights=weights), LocalRuntime(cast(Any, None), cpu, Sinks([])))
    return state.tensors(), weights


def test_averaged_weights_are_taken_by_both_models_and_the_head_if_asked(world: Path, tmp_path: Path) -> None:
    given = tensors_of(world / "runs" / "october")
    began, weights = begun(again(world, tmp_path, backbone={"weights_head": True}, optim={"batch": 12, "ema": 0.1}))
    names = [name for name in began if name.startswith((MODEL + "f.", MODEL + HEAD))]
    assert len(names) > 50
    for name in names:
        averaged = AVERAGED + name.removeprefix(MODEL)
        assert torch.equal(began[name], given[averaged]), name
        assert torch.equal(began[averaged], given[averaged]), name
    assert not torch.equal(given[MODEL + "f.embed.weight"], given[AVERAGED + "f.embed.weight"])
    assert began[MODEL + "h.linear.weight"].abs().max() > 0
    assert weights_line(weights).endswith("step-000000006 (averaged weights), and the classifier")
    without, _ = begun(again(world, tmp_path))
    assert torch.equal(without[MODEL + "f.embed.weight"], began[MODEL + "f.embed.weight"])
    assert not without[MODEL + "h.linear.weight"].any()


def test_an_export_and_parts_of_a_file_do_as_well(world: Path, tmp_path: Path, raymix: Raymix) -> None:
    assert raymix("export", october(world), "--out", tmp_path / "export").code == 0
    exported = load_file(tmp_path / "export" / "model.safetensors")
    for source in ("export", "export/model.safetensors"):
        backbone = {"weights": str(tmp_path / source), "weights_head": True}
        began, weights = begun(again(world, tmp_path, backbone=backbone))
        assert (weights.kind, weights.head, weights.left) == ("export", True, 0)
        assert all(torch.equal(began[MODEL + name], value) for name, value in exported.items())
    some = {name.removeprefix("f."): value for name, value in exported.items() if name.startswith("f.blocks")}
    save_file({**some, "other": torch.zeros(1)}, tmp_path / "some.safetensors")
    began, weights = begun(again(world, tmp_path, backbone={"weights": str(tmp_path / "some.safetensors")}))
    assert all(torch.equal(began[f"{MODEL}f.{name}"], value) for name, value in some.items())
    line = f"{len(some)} of {len(some) + 5} tensors of the backbone from {tmp_path}/some.safetensors; not in it: "
    assert line + "position_1LD, embed.weight, embed.bias and 2 more; left aside: 1 tensor" in weights_line(weights)


def test_positions_of_another_image_size_are_interpolated(world: Path, tmp_path: Path) -> None:
    began, weights = begun(again(world, tmp_path, data={"image_size": 24}))
    given = tensors_of(world / "runs" / "october")[AVERAGED + "f.position_1LD"]
    positions = began[MODEL + "f.position_1LD"]
    assert (given.shape[1], positions.shape[1]) == (16, 36)
    corners = positions[0, [0, 5, 30, 35]]
    assert torch.nn.functional.cosine_similarity(corners, given[0, [0, 3, 12, 15]]).min() > 0.8
    assert weights.resized == ("position_1LD",)


def test_rows_that_are_gone_or_relabelled_or_new_in_a_validation_set_are_told(world: Path, tmp_path: Path) -> None:
    images = Path(shutil.copytree(world / "november", tmp_path / "images"))
    val = sorted(names_in(world / "runs" / "october", world / "october")["val"])
    for name in val[:3]:
        (images / name).unlink()
    checked = check(job(tmp_path, images, "less", data={"keep_splits": october(world)}))
    assert len(checked.splits.val) == 15
    report = run(checked.spec, quiet=True)
    assert report.start is not None
    assert report.start.kept is not None
    assert ", 3 val rows gone; 36 new training rows" in kept_line(report.start.kept)
    assert report.final is not None
    assert report.final.num_val == 15
    for name in val[3:10]:
        (images / name).unlink()
    with pytest.raises(JobError, match=r"^data.keep_splits: 10 of the 18 val rows of .* are not in the data any more"):
        check(checked.spec)


def test_the_same_names_for_other_images_are_refused(world: Path, tmp_path: Path) -> None:
    other = image_tree_of(tmp_path / "other", per_class=PER_CLASS, seed=5)
    with pytest.raises(JobError, match=r"^data.keep_splits: 32 of 32 rows that were looked at are other images"):
        check(job(tmp_path, other, "other", data={"keep_splits": october(world)}))


def test_a_validation_set_of_its_own_stays_as_it_was(tmp_path: Path) -> None:
    images = image_tree_of(tmp_path / "images", per_class=8)
    val = image_tree_of(tmp_path / "val", per_class=4, seed=1)
    data = {"val": {"format": "image_folder", "path": str(val)}, "select": 0.25}
    run(job(tmp_path, images, "first", data=data), quiet=True)
    shutil.copy(val / "class0" / "000.jpg", val / "class0" / "new.jpg")
    shutil.move(images / "class0" / "007.jpg", images / "class1" / "moved.jpg")
    report = run(
        job(tmp_path, images, "second", data={**data, "keep_splits": str(tmp_path / "runs/first")}), quiet=True
    )
    assert report.start is not None
    kept = report.start.kept
    assert kept is not None
    assert (kept.val, kept.val_gone, kept.left_out) == (12, 0, 1)
    assert "1 new rows of a validation set take no part" in kept_line(kept)


# ---- going on and once more -------------------------------------------------------------------------------------


def test_a_resumed_run_asks_for_nothing_again(
    world: Path, tmp_path: Path, interrupt: Callable[[int, int], None]
) -> None:
    source = Path(shutil.copytree(world / "runs" / "october", tmp_path / "source"))
    asked = {"data": {"keep_splits": str(source)}, "backbone": {"weights": str(source)}}
    run(again(world, tmp_path / "whole", **asked), quiet=True)
    spec = again(world, tmp_path / "broken", **{name: dict(section) for name, section in asked.items()})
    interrupt(1, signal.SIGINT)
    with pytest.raises(Interrupted):
        run(spec, quiet=True)
    interrupt(-1, signal.SIGINT)
    shutil.move(source, tmp_path / "gone")
    report = run(spec, quiet=True, resume=True)
    assert report.start is not None
    assert report.start.weights is not None
    whole, broken = (tensors_of(tmp_path / name / "runs" / "november") for name in ("whole", "broken"))
    assert all(torch.equal(value, broken[name]) for name, value in whole.items())
    folder = tmp_path / "broken" / "runs" / "november"
    with pytest.raises(JobError, match=r"^backbone.weights: .*: no such file"):
        replay(folder, quiet=True)
    shutil.move(tmp_path / "gone", source)
    done = replay(folder, quiet=True)
    assert done.equal, done.outcome
    name, _ = checkpoint.newest(source / "checkpoints")
    file = source / "checkpoints" / str(name) / checkpoint.TENSORS
    changed = load_file(file)
    changed[AVERAGED + "f.embed.bias"] += 1
    save_file(changed, file)
    with pytest.raises(JobError, match=r"^backbone.weights: .* is not what it was when the run began"):
        replay(folder, quiet=True, overwrite=True)


def test_a_start_that_has_changed_since_is_not_gone_on_from(world: Path, tmp_path: Path) -> None:
    spec = again(world, tmp_path)
    run(spec, quiet=True)
    folder = tmp_path / "runs" / "november"
    shutil.rmtree(folder / "checkpoints")
    (folder / "report.json").unlink()
    told = json.loads((folder / "start.json").read_text())
    told["weights"]["sha256"] = "0" * 64
    (folder / "start.json").write_text(json.dumps(told))
    with pytest.raises(RunFailed, match=r"november: backbone.weights: .* is not what it was when the run began"):
        run(spec, quiet=True, resume=True)


# ---- refused in a line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"backbone": {"patch": 8}}, r"backbone.patch: is 8, and 4 in .*october, step-\d+ \(averaged weights\)"),
        ({"backbone": {"size": "tiny"}}, r"backbone.size: is tiny, and nano in "),
        ({"backbone": {"weights": "none"}}, r"backbone.weights: none: no such file"),
        ({"backbone": {"weights": "gs://bucket/run"}}, r"backbone.weights: gs://bucket/run is no folder or file"),
        ({"backbone": {"weights": "."}}, r"backbone.weights: \. holds no run"),
        (
            {"backbone": {"weights": None, "weights_head": True}},
            r"backbone.weights_head: there are no backbone.weights",
        ),
        ({"data": {"channels": "gray"}}, r"data.channels: is gray, and rgb in "),
        ({"data": {"keep_splits": "none"}}, r"data.keep_splits: none holds no run"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(
    world: Path, tmp_path: Path, sections: dict[str, Any], line: str
) -> None:
    with pytest.raises(JobError, match=f"^{line}"):
        run(again(world, tmp_path, **sections), quiet=True)
    assert not (tmp_path / "runs").exists()


def test_a_classifier_of_other_classes_is_refused(world: Path, tmp_path: Path) -> None:
    images = Path(shutil.copytree(world / "november", tmp_path / "images"))
    (images / "class2").rename(images / "class9")
    backbone = {"size": "nano", "patch": 4, "weights": october(world), "weights_head": True}
    line = r"^backbone.weights_head: the classes of .* are not this job's: 'class2' is in one alone"
    with pytest.raises(JobError, match=line):
        check(job(tmp_path, images, "other", backbone=backbone))
    file = tmp_path / "bare.safetensors"
    given = tensors_of(world / "runs" / "october")
    save_file({name.removeprefix(MODEL): v for name, v in given.items() if name.startswith(MODEL + "f.")}, file)
    with pytest.raises(JobError, match=r"^backbone.weights_head: .*bare.safetensors names no classes"):
        check(job(tmp_path, images, "other", backbone={**backbone, "weights": str(file)}))
    narrow = {"f.norm.weight": torch.zeros(7)}
    save_file(narrow, file)
    with pytest.raises(JobError, match=r"^backbone.weights: norm.weight is \(7,\) in .* and \(64,\) in the backbone"):
        check(job(tmp_path, images, "other", backbone={**backbone, "weights": str(file), "weights_head": False}))


def test_a_run_does_not_begin_with_itself(world: Path) -> None:
    spec = again(world, world, "october")
    with pytest.raises(JobError, match=r"^backbone.weights: .* is in the folder of this run itself"):
        run(spec, quiet=True, overwrite=True)
    assert (world / "runs" / "october" / "checkpoints").is_dir()


def test_a_run_of_an_older_raymix_kept_no_names(world: Path, tmp_path: Path) -> None:
    older = Path(shutil.copytree(world / "runs" / "october", tmp_path / "older"))
    (older / "splits.npz").unlink()
    with pytest.raises(JobError, match=r"has no splits.npz: .* \(raymix run --replay .*older repeats it and leaves"):
        check(job(tmp_path, world / "november", "n", data={"keep_splits": str(older)}))
    (older / "splits.npz").write_bytes(b"PK no archive")
    with pytest.raises(JobError, match=r"^data.keep_splits: .*splits.npz cannot be read"):
        check(job(tmp_path, world / "november", "n", data={"keep_splits": str(older)}))


# ---- an arm of a pilot ------------------------------------------------------------------------------------------


def test_the_weights_of_a_run_are_an_arm_of_a_pilot(world: Path, tmp_path: Path) -> None:
    pilot = {"preset": "quick", "arms": ["sl", "pretrained"], "weights": october(world)}
    report = package.pilot(again(world, tmp_path, backbone={"weights": None}, pilot=pilot), quiet=True)
    assert list(report.arms) == ["sl", "pretrained"]
    began = {
        arm: read_start(tmp_path / "runs" / "november" / runs[0].report.removesuffix("/report.json"))
        for arm, runs in report.arms.items()
    }
    assert {arm: bool(start and start.weights) for arm, start in began.items()} == {"sl": False, "pretrained": True}
    assert {arm: bool(start and start.kept) for arm, start in began.items()} == {"sl": True, "pretrained": True}
    bad = {**pilot, "weights": str(tmp_path / "none")}
    with pytest.raises(JobError, match=r"^pilot.weights: .*none: no such file"):
        package.pilot(again(world, tmp_path, "bad", backbone={"weights": None}, pilot=bad), quiet=True)


# ---- drift ------------------------------------------------------------------------------------------------------


def test_drift_tells_new_rows_and_classes(world: Path, tmp_path: Path, raymix: Raymix) -> None:
    done = raymix("data", "drift", october(world), world / "november", "--json")
    assert done.code == 0, done.err
    same = json.loads(done.out)
    assert (same["earlier"], same["new"]) == (3 * PER_CLASS, 3 * MORE)
    assert same["embeddings"]["rows"] == 3 * MORE
    assert same["embeddings"]["held_out"] is False
    assert same["shares"]["p"] == pytest.approx(1)
    moved = Path(shutil.copytree(world / "runs" / "october", tmp_path / "moved"))
    plan = json.loads((moved / "plan.json").read_text())
    plan["spec"]["data"]["train"]["path"] = str(tmp_path / "gone")
    (moved / "plan.json").write_text(json.dumps(plan))
    done = raymix("data", "drift", moved, world / "november", "--json")
    assert json.loads(done.out)["embeddings"] == same["embeddings"], "the earlier images are in SOURCE, too"
    dark = image_tree_of(tmp_path / "dark", classes=2, per_class=30, seed=7)
    for file in dark.rglob("*.jpg"):
        _darken(file)
    done = raymix("data", "drift", october(world), dark, "--json")
    other = json.loads(done.out)
    assert other["embeddings"]["auc"]["value"] > 0.9 > same["embeddings"]["auc"]["value"]
    assert 0.2 < other["embeddings"]["null"]["value"] < 0.8
    assert [(one["name"], one["before"], one["new"]) for one in other["shares"]["classes"]][2] == ("class2", 24, 0)
    assert other["shares"]["p"] < 0.001
    done = raymix("data", "drift", moved, dark)
    assert done.err.startswith(f"error: RUN: the images of {moved} are not where they were")
    done = raymix("data", "drift", october(world), dark)
    assert "new rows can be told from earlier ones, which may come of having been trained on these" in done.out
    assert "chi-square test p below 0.001, Cramér's V" in done.out
    assert "class2    24 (33.3 %)     0 (0.0 %)" in done.out


def _darken(file: Path) -> None:
    from PIL import Image

    Image.fromarray(np.asarray(Image.open(file).convert("RGB")) // 4).save(file)


@pytest.mark.parametrize(
    ("run_name", "source", "line"),
    [
        ("october", "october", "SOURCE: 72 earlier and 0 new rows are too few to compare"),
        ("october", "none", "SOURCE: no such file or folder"),
        ("none", "november", "RUN: "),
    ],
)
def test_drift_refuses_in_a_line(world: Path, raymix: Raymix, run_name: str, source: str, line: str) -> None:
    done = raymix("data", "drift", world / "runs" / run_name, world / source)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: {line}")
