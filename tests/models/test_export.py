"""Every format gives the original's logits, in a fresh process too; one that does not is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml

import raymix
from raymix.models import export as exporting
from raymix.models.export import FORMATS
from raymix.train.exported import About, Format
from tests.conftest import Raymix

# what a stranger writes who has the folder, and neither Ray nor, but for safetensors, raymix
READ = {
    "safetensors": "import raymix; model = raymix.load_model(folder); logits = model(torch.from_numpy(images))",
    "onnx": "import onnxruntime; session = onnxruntime.InferenceSession(folder + '/model.onnx')\n"
    "logits = torch.from_numpy(session.run(None, {'images': images})[0])",
    "torch_export": "logits = torch.export.load(folder + '/model.pt2').module()(torch.from_numpy(images))",
}


def test_every_format_is_written() -> None:
    assert tuple(FORMATS) == get_args(Format) == tuple(READ)


@pytest.mark.parametrize("form", list(FORMATS))
def test_an_export_gives_the_same_in_a_process_without_ray(
    form: str, trained_run: Path, tmp_path: Path, command: Raymix
) -> None:
    out = tmp_path / form
    done = command(
        "export", trained_run, "--format", form, "--out", out, "--set", "licence=cc0-1.0", "--set", "batch=5"
    )
    assert done.code == 0, done.err
    about = About.model_validate_json((out / "model.json").read_bytes())
    assert about.max_difference <= 1e-4
    assert list(about.latency_ms) == [1, 5]
    assert about.bytes == (out / FORMATS[about.format].file).stat().st_size
    assert (about.transform.size, about.transform.dtype, about.class_names) == (
        16,
        "uint8",
        ("class0", "class1", "class2"),
    )

    model = raymix.load_model(trained_run)
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    hidden = "ray" if form == "safetensors" else "raymix"
    code = (
        f"import sys; sys.modules['ray'] = sys.modules[{hidden!r}] = None\nimport numpy as np, torch\n"
        f"folder, images = {str(out)!r}, np.load({str(tmp_path / 'images.npy')!r})\n{READ[form]}\n"
        f"np.save({str(tmp_path / 'logits.npy')!r}, logits.detach().numpy())"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    expected = model(torch.from_numpy(images)).numpy()
    assert np.ptp(expected) > 1e-3, "a model that says something"
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, atol=1e-4)

    card = (out / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "cc0-1.0"
    report = json.loads((trained_run / "report.json").read_text())
    assert f"Top-1 {report['final']['top1']:.1f} %" in text
    assert all(f"\n## {title}\n" in text for title in ("Use", "Data", "Schedule", "Results", "Cost"))


def test_one_that_differs_is_refused_and_nothing_is_left(
    trained_run: Path, tmp_path: Path, command: Raymix, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command("export", trained_run, "--format", "safetensors", "--out", tmp_path / "good")
    assert done.code == 0, done.err
    monkeypatch.setitem(exporting.FORMATS, "safetensors", exporting.FORMATS["safetensors"]._replace(write=_halved))
    done = command("export", trained_run, "--format", "safetensors", "--out", tmp_path / "bad")
    assert done.code == 3
    assert "more than tolerance=0.0001; nothing was written" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def _halved(trained, pixels, path) -> None:  # type: ignore[no-untyped-def]
    """Writes another model than it is given."""
    import copy

    other = copy.deepcopy(trained)
    with torch.no_grad():
        other.model.h.linear.weight.mul_(0.5)
    exporting._write_safetensors(other, pixels, path)


def test_a_missing_package_is_one_line_with_the_extra(
    trained_run: Path, tmp_path: Path, command: Raymix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = command("export", trained_run, "--format", "onnx", "--out", tmp_path / "out")
    assert done.code == 2
    assert done.err == "error: --format: needs onnxruntime, which is not installed (pip install 'raymix[export]')\n"
    assert not (tmp_path / "out").exists()


def test_what_is_there_stays(trained_run: Path, tmp_path: Path, command: Raymix) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for flags in ((), ("--overwrite",)):
        done = command("export", trained_run, "--out", tmp_path / "mine", *flags)
        assert done.code == 2, done.err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
