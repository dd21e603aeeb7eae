"""predict and embed: a row for each image, in order, broken ones listed; the same as the model says."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import raymix
from raymix.data.formats import index_source
from raymix.data.frame import Frame
from raymix.data.reading import read_in_order
from raymix.models.writing import WRITERS
from raymix.spec import ImageFolderSource
from tests.conftest import Raymix


def _csv(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    empty = {"": None, "true": True, "false": False}
    return [{k: empty.get(v, v) for k, v in row.items()} for row in rows]


READ: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".csv": _csv,
    ".parquet": lambda path: pq.read_table(path).to_pylist(),
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
}


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_predict_says_what_the_model_says(
    suffix: str, trained_run: Path, images: Path, tmp_path: Path, command: Raymix
) -> None:
    out = tmp_path / f"out{suffix}"
    done = command("predict", trained_run, images, "--out", out, "--set", "batch=4", "--set", "threshold=0.4")
    assert done.code == 0, done.err
    rows = READ[suffix](out)
    assert [int(row["id"]) for row in rows] == list(range(21))
    assert list(rows[0]) == ["id", "uri", "class", "score", "above", "problem"]
    model = raymix.load_model(trained_run)
    for row in rows:
        if row["uri"].endswith("class0/001.jpg"):
            assert (row["class"], row["score"], row["above"]) == (None, None, None)
            assert row["problem"] == "not an image"
            continue
        share = torch.softmax(model(model.transform(row["uri"])[None])[0], 0)
        assert row["class"] == model.class_names[int(share.argmax())]
        assert float(row["score"]) == pytest.approx(float(share.max()), rel=1e-4)
        assert row["above"] is (float(row["score"]) >= 0.4)
        assert row["problem"] is None
    assert "not an image 1" in done.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", out.name], "nothing else is left"


def test_the_score_may_be_that_of_one_class(trained_run: Path, images: Path, tmp_path: Path, command: Raymix) -> None:
    out = tmp_path / "out.jsonl"
    done = command("predict", trained_run, images, "--out", out, "--set", "positive=class1", "--json")
    told, rows = json.loads(done.out), [row for row in READ[".jsonl"](out) if row["problem"] is None]
    model = raymix.load_model(trained_run)
    for row in rows:
        share = torch.softmax(model(model.transform(row["uri"])[None])[0], 0)
        assert row["score"] == pytest.approx(float(share[1]), rel=1e-4)
    assert told["above"] == sum(row["above"] for row in rows)
    assert (told["images"], told["skipped"]) == (21, {"not an image": 1})
    assert sum(told["classes"].values()) == 20


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_embed_writes_vectors_of_fixed_size(
    dtype: str, trained_run: Path, images: Path, tmp_path: Path, command: Raymix
) -> None:
    out = tmp_path / "out.parquet"
    assert command("embed", trained_run, images, "--out", out, "--set", f"dtype={dtype}").code == 0
    table = pq.read_table(out)
    model = raymix.load_model(trained_run)
    kind = table.schema.field("embedding").type
    assert (kind.list_size, kind.value_type.bit_width) == (model.model.f.width, np.dtype(dtype).itemsize * 8)
    rows = table.to_pylist()
    assert [row["embedding"] is None for row in rows] == [row["problem"] is not None for row in rows]
    with torch.no_grad():
        last = model.embed(model.transform(rows[-1]["uri"])[None])[0]
    np.testing.assert_allclose(np.array(rows[-1]["embedding"], dtype=np.float32), last, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("out", "options", "line"),
    [
        ("there.csv", [], "--out: .*there.csv exists"),
        ("out.txt", [], "--out: .*does not end in .csv or .parquet or .jsonl"),
        ("none/out.csv", [], "--out: no such folder"),
        ("out.csv", ["treshold=1"], r"treshold: unknown key \(did you mean threshold\?\)"),
        ("out.csv", ["positive=cat"], r"positive: the model has no class cat \(it has class0, class1, class2\)"),
        ("out.csv", ["part=val"], "part: val of the source holds no image"),
        ("out.csv", ["checkpoint=best"], "kept no best checkpoint"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    out: str, options: list[str], line: str, trained_run: Path, images: Path, tmp_path: Path, command: Raymix
) -> None:
    import re

    (tmp_path / "there.csv").write_text("mine")
    options = [text for option in options for text in ("--set", option)]
    done = command("predict", trained_run, images, "--out", tmp_path / out, *options)
    assert done.code == 2
    assert re.search(line, done.err), done.err
    assert done.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_rows_come_in_order_and_few_are_read_ahead(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raymix.data import reading

    rows = index_source(ImageFolderSource(format="image_folder", path=str(images)), "source")
    ids, frame, read = np.arange(len(rows))[::-1], Frame(16), []
    before = reading._read_few

    def counted(*arguments: Any) -> Any:
        read.append(len(arguments[1]))
        return before(*arguments)

    monkeypatch.setattr(reading, "_read_few", counted)
    monkeypatch.setattr(reading, "_AHEAD", 2 * 3 * frame.nbytes)
    parts = read_in_order(rows, ids, frame, 3)
    first = next(parts)
    assert len(read) <= 3, "two parts ahead of the first"
    parts = [first, *parts]
    assert sum(read) == len(rows)
    assert np.concatenate([part.ids for part in parts]).tolist() == [i for i in ids.tolist() if i != 1]
    assert [part.skipped for part in parts if part.skipped] == [{1: "not an image"}]


def test_a_process_without_ray_predicts_the_same(trained_run: Path, images: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    outcomes = []
    for out, hidden in ((here, ""), (there, "sys.modules['ray'] = None\n")):
        command = ["predict", str(trained_run), str(images), "--out", str(out)]
        code = f"import sys\n{hidden}from raymix.__main__ import main\nmain({command!r})"
        outcomes.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True))
    assert [done.returncode for done in outcomes] == [0, 0], outcomes
    assert here.read_bytes() == there.read_bytes()
