"""The three ways in, pasted from the README into fresh shells: minutes of pilots, runs and Ray."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from raymix.report.folder import read_pilot, read_run
from tests.conftest import REPOSITORY, image_tree_of
from tests.test_docs import Block, blocks, environment, paste
from tests.test_ways_in import Head

pytestmark = [pytest.mark.chaos, pytest.mark.ray]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git would clone."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith("tests/") and (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


def block(start: str) -> Block:
    """The README's block that begins so."""
    (found,) = (block for block in blocks() if block.text.startswith(start))
    return found


@pytest.fixture(scope="module")
def compared(clone: Path) -> Path:
    """The folder of the pilot of the two commands, which what stands below "Shell, one machine" looks at, too."""
    paste(block("pip install -e . &&").text.replace("pip install -e . && ", ""), clone, 320)
    return clone / "runs" / "digits"


def test_the_pilot_of_the_two_commands(compared: Path) -> None:
    report = read_pilot(compared)
    assert (report.status, report.workers, list(report.arms)) == ("done", 2, ["sl", "ssl_sl", "mix"])
    assert (compared / "report.html").is_file()


def test_the_shell(clone: Path, compared: Path) -> None:
    """All that stands below "Shell, one machine", in one shell."""
    assert compared.is_dir()
    said = paste(block("raymix doctor jobs/digits.yaml").text, clone, 320)
    report = read_run(clone / "runs" / "try")
    assert (report.status, report.workers) == ("done", 2)
    assert report.asked is not None
    assert report.asked.sl_epochs == 60, "made longer"
    assert read_run(clone / "runs" / "try-replay").status == "done"
    assert "try-replay" in said


def test_a_job_of_a_cluster(clone: Path, tmp_path: Path) -> None:
    """`ray job submit` to a head of other ports: those of the README may be taken."""
    import tempfile

    temporary = Path(tempfile.mkdtemp(prefix="rx"))  # a short path, for Ray's sockets
    head = Head(tmp_path, temporary)
    try:
        head.wait()
        start, submit = block("RAYMIX_STORAGE=").commands
        assert start == "RAYMIX_STORAGE=/shared/raymix ray start --head", "what the head of this test does"
        assert submit.startswith("ray job submit --address http://127.0.0.1:8265 ")
        said = paste(submit.replace("http://127.0.0.1:8265", head.url), clone, 300, RAY_AUTH_MODE="disabled")
    finally:
        head.end()
        shutil.rmtree(temporary, ignore_errors=True)
    assert "succeeded" in said
    assert read_run(tmp_path / "runs" / "digits").status == "done"
    assert not (clone / "runs" / "digits" / "report.json").exists()


def test_a_trained_model_at_work(tmp_path: Path) -> None:
    """Of a run of the README's own job, made small."""
    data = tmp_path / "data"
    image_tree_of(data / "parts", per_class=60)
    image_tree_of(tmp_path / "more", classes=1, per_class=30)
    next((tmp_path / "more").iterdir()).rename(tmp_path / "new")
    image_tree_of(tmp_path / "labelled", per_class=5)
    sections = {
        **{
            "name": "parts",
            "data": {"train": {"format": "image_folder", "path": str(data / "parts")}, "image_size": 64},
        },
        **{"backbone": {"type": "vit", "size": "tiny", "patch": 16}, "schedule": {"ssl_epochs": 1, "sl_epochs": 1}},
        **{"optim": {"batch": 16}, "cluster": {"workers": 0}},
    }
    (tmp_path / "my-job.yaml").write_text(yaml.safe_dump(sections))
    paste("raymix run my-job.yaml", tmp_path, 300)
    paste(block("raymix predict runs/parts").text, tmp_path, 600)
    assert len((tmp_path / "new.csv").read_text().splitlines()) == 31
    assert pq.read_metadata(tmp_path / "new.parquet").num_rows == 30
    assert (tmp_path / "runs" / "parts" / "evaluation" / "evaluation.html").is_file()
    assert list((tmp_path / "runs" / "parts").rglob("*.onnx"))
    paste(block("raymix export runs/parts").text, tmp_path, 600)
    assert (tmp_path / "runs" / "parts" / "export" / "onnx-int8" / "model.onnx").is_file()
    assert read_run(tmp_path / "runs" / "half").status == read_run(tmp_path / "runs" / "adapted").status == "done"


def test_python(clone: Path) -> None:
    """All of the block but its search and its sweep, which take minutes each, in a fresh interpreter."""
    from PIL import Image

    lines = block("import raymix").text.splitlines()
    left_out = [line for line in lines if line.startswith(("raymix.tune(", "raymix.sweep("))]
    assert len(left_out) == 2
    Image.new("L", (8, 8)).save(clone / "digit.png")
    code = "\n".join(line for line in lines if line not in left_out) + "\nprint(tuple(report.final.by_weights))"
    shutil.rmtree(clone / "runs", ignore_errors=True)
    done = subprocess.run(
        ["python", "-"],
        input=code,
        cwd=clone,
        env={**environment(clone), "PYTHONPATH": os.pathsep.join([str(clone)])},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (clone / "runs").iterdir()} == {"notebook", "later", "digits", "notebook-replay"}
