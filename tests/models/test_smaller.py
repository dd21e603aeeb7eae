"""Exports that are smaller than their run: what they lose is measured on val images, beside size and latency."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

import raymix
from raymix.data.frame import Pixels
from raymix.data.reading import read_in_order
from raymix.models.forms import Form, side_by_side
from raymix.models.own import own_rows
from raymix.report.judging import METRIC_WORDS
from raymix.session import RunFailed
from raymix.spec import Export
from raymix.train.exported import About
from tests.conftest import Raymix, spec_in


def about_of(folder: Path) -> About:
    return About.model_validate_json((folder / "model.json").read_bytes())


def test_int8_is_smaller_and_judged_on_all_val_rows(trained_run: Path, tmp_path: Path, command: Raymix) -> None:
    out = tmp_path / "int8"
    done = command(
        *("export", trained_run, "--format", "onnx", "--out", out, "--set", "quantize=int8", "--set", "calibrate=20"),
        *("--set", "shrink.mlp=0.25"),
    )
    assert done.code == 0, done.err
    about = about_of(out)
    assert (about.quantize, about.cut) == ("int8", about.cut)
    assert about.cut is not None
    assert (about.cut.units, about.cut.heads) == (192, 4)
    names = ["torch, fp32", "torch, fp32, pruned", "onnx, fp32, pruned", "onnx, int8, pruned"]
    assert [side.name for side in about.sides] == names
    assert about.judged_images == len(own_rows(trained_run).val)
    whole, pruned, as_float, as_int8 = about.sides
    assert whole.bytes > pruned.bytes
    assert as_int8.bytes == about.bytes == (out / "model.onnx").stat().st_size < 0.6 * as_float.bytes
    assert whole.lost is None
    for side in about.sides[1:]:
        assert side.top1 is not None
        assert side.lost is not None
        assert side.lost.value == pytest.approx(whole.top1 - side.top1)
    assert 0 < about.max_difference < 0.5, "it is not the same, and not another"
    for name in names:
        assert name in (out / "README.md").read_text()
        assert name in done.out

    import onnxruntime

    session = onnxruntime.InferenceSession(str(out / "model.onnx"))
    assert session.run(None, {"images": np.zeros((3, 16, 16, 3), np.uint8)})[0].shape == (3, 3)
    kinds = [node.op_type for node in _nodes(out / "model.onnx")]
    assert kinds.count("DequantizeLinear") > 4 * 4, "weights and inputs of four blocks"


def _nodes(path: Path) -> list[object]:
    import onnx

    return list(onnx.load(path).graph.node)


def test_a_pruned_export_is_loaded_as_others_are(trained_run: Path, tmp_path: Path, command: Raymix) -> None:
    out = tmp_path / "pruned"
    done = command("export", trained_run, "--out", out, "--set", "shrink={mlp: 0.5, heads: 0.5}", "--json")
    assert done.code == 0, done.err
    about, model = About.model_validate_json(done.out), raymix.load_model(out)
    assert about == about_of(out)
    assert about.sides[-1].bytes < 0.7 * about.sides[0].bytes
    assert model.model.f.blocks[0].up.out_features == 128
    images = torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8)
    assert (model(images) - raymix.load_model(trained_run)(images)).abs().max() > 1e-3, "the run's own is whole"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["quantize=int8"], "quantize: int8 is written as ONNX, not as safetensors (pass --format onnx)"),
        (["shrink.heads=0.1"], "shrink.heads: 0.1 of 4 heads is none"),
        (["quantize=int4"], "quantize: "),
    ],
)
def test_what_cannot_be_made_is_one_line(
    options: list[str], problem: str, trained_run: Path, tmp_path: Path, command: Raymix
) -> None:
    done = command("export", trained_run, "--out", tmp_path / "out", *(f"--set={option}" for option in options))
    assert done.code == 2
    assert done.err.startswith(f"error: {problem}")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_one_that_loses_too_much_is_refused(trained_run: Path) -> None:
    """Two forms of a model, of which the first is right on the first class alone, and the second on the last."""
    own, frame = own_rows(trained_run), raymix.load_model(trained_run).frame
    own = own._replace(val=own.val[own.rows.labels[own.val] == 0][[0, 0, 0]])

    def right(pixels: Pixels) -> np.ndarray:
        return np.tile(np.float32([1, 0, 0]), (len(pixels), 1))

    def wrong(pixels: Pixels) -> np.ndarray:
        return -right(pixels)

    forms, some = [Form("right", right, 2), Form("wrong", wrong, 1)], frame.empty(4)
    (first, second), num = side_by_side(forms, own, frame, Export(val_images=3), some, always=False)
    assert num == 3
    assert (first.top1, first.lost, second.top1) == (100, None, 0)
    assert second.lost is not None
    assert second.lost.value == pytest.approx(100)
    with pytest.raises(RunFailed, match=r"wrong loses 100\.00 points of top-1 on 3 val images, more than max_lost=1"):
        side_by_side(forms, own, frame, Export(val_images=3, max_lost=1), some, always=False)


def test_arms_of_a_pilot_are_exported_side_by_side(tmp_path: Path, command: Raymix) -> None:
    define = {"half": {"base": "mix", "set": {"shrink.mlp": 0.5}}}
    pilot = {"arms": ["mix", "half"], "preset": "quick", "lengths": [1], "define": define}
    spec = spec_in(tmp_path, pilot=pilot, optim={"batch": 48})
    report, folder = raymix.pilot(spec, quiet=True), tmp_path / "runs" / "digits"
    assert list(report.own_step_seconds) == ["half"]
    done = command("export", folder, "--json")
    assert done.code == 0, done.err
    whole, half = json.loads(done.out)
    assert [(one["arm"], one["num_seeds"]) for one in (whole, half)] == [("mix", 1), ("half", 1)]
    assert whole["about"]["cut"] is None
    assert half["about"]["cut"] == {"units": 128, "heads": 4}
    assert half["about"]["bytes"] < 0.8 * whole["about"]["bytes"]
    assert half["mean_top1"] == half["about"]["sides"][-1]["top1"] == report.arms["half"][0].top1
    shown = command("export", folder, "--out", tmp_path / "out")
    assert shown.code == 0, shown.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["half", "mix"]
    assert "top-1, mean" in shown.out


def test_a_form_that_answers_for_another_is_asked_once(trained_run: Path) -> None:
    own, frame = own_rows(trained_run), raymix.load_model(trained_run).frame
    asked = {"slow": 0, "same": 0}

    def logits(name: str, pixels: Pixels) -> np.ndarray:
        asked[name] += len(pixels) not in (1, 8)  # those are timed
        return np.eye(3, dtype=np.float32)[np.zeros(len(pixels), int)]

    slow, same = (partial(logits, name) for name in asked)
    forms = [Form("slow", slow, 1, answers=same), Form("same", same, 1)]
    some = next(iter(read_in_order(own.rows, own.val, frame, 8))).pixels
    sides, num = side_by_side(forms, own, frame, Export(batch=8, val_images=3), some, always=True)
    assert (asked, num) == ({"slow": 0, "same": 1}, 3)
    assert sides[0].top1 == sides[1].top1


def test_an_export_is_judged_by_the_jobs_metric(trained_run: Path, tmp_path: Path, command: Raymix) -> None:
    """The points lost are of the metric, and top-1 stands beside it."""
    run = shutil.copytree(trained_run, tmp_path / "run")
    plan = json.loads((run / "plan.json").read_text())
    own, trained = own_rows(trained_run), raymix.load_model(trained_run)
    pixels = np.concatenate([part.pixels for part in read_in_order(own.rows, own.val, trained.frame, 64)])
    labels = own.rows.labels[own.val]
    with torch.inference_mode():
        p = trained(torch.from_numpy(pixels)).softmax(1).numpy()
    expected = {
        "auroc": np.mean([roc_auc_score(labels == label, p[:, label]) for label in range(3)]),
        "brier": 1 - sum(brier_score_loss(labels == label, p[:, label]) for label in range(3)) / 2,
        "balanced_accuracy": balanced_accuracy_score(labels, p.argmax(1)),
    }
    for metric, value in expected.items():
        plan["spec"]["metric"] = metric
        (run / "plan.json").write_text(json.dumps(plan))
        out = tmp_path / metric
        done = command("export", run, "--out", out, "--set", "shrink.mlp=0.9")
        assert done.code == 0, done.err
        about = about_of(out)
        whole, pruned = about.sides[0], about.sides[-1]
        assert whole.score == pytest.approx(100 * value, abs=1e-3)
        assert whole.top1 == pytest.approx(100 * (p.argmax(1) == labels).mean())
        assert pruned.score is not None
        assert pruned.lost is not None
        assert pruned.lost.value == pytest.approx(whole.score - pruned.score)
        text = (out / "README.md").read_text()
        assert f"|  | {METRIC_WORDS[metric]} | top-1 | points lost |" in text
        assert f"points of {METRIC_WORDS[metric]} lost with their 95 % interval" in text
