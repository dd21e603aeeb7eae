"""Runs on tiles: what a scaled-down image does not show is learnt, and everything that is told is told by image."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from raymix import load_model, run
from raymix.data.formats import index_data
from raymix.data.frame import Frame
from raymix.data.splits import split
from raymix.jobfile import load_spec
from raymix.report.html import page
from raymix.report.intervals import unpack_correct
from raymix.report.run import RunReport
from raymix.spec import Tile
from raymix.train import measure
from raymix.train.exported import About
from tests.conftest import JOB, Raymix
from tests.tiled import GRID, mark_of, marked_tree, tiled_job


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked_tree(tmp_path_factory.mktemp("tiled") / "images")


@pytest.fixture(scope="module")
def done(tree: Path) -> RunReport:
    """A run in tiles, in `runs/tiled` beside the images; one image is broken."""
    (tree / "good" / "003.png").write_bytes(b"no image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "TIMED", 2)
        return run(tiled_job(tree, "data.max_bad_fraction=0.1"), quiet=True)


@pytest.fixture
def folder(tree: Path, done: RunReport) -> Path:
    return tree.parent / "runs" / "tiled"


def test_what_an_image_of_16_pixels_cannot_show_is_learnt_from_its_tiles(tree: Path, done: RunReport) -> None:
    """As many steps on whole images see no more than noise, since the stripes become the grey that they lie on."""
    whole = run(tiled_job(tree, "name=whole", "data.max_bad_fraction=0.1", "schedule.sl_epochs=56", grid=None))
    assert done.final is not None
    assert whole.final is not None
    assert done.final.top1 > 85
    assert whole.final.top1 < 75


def test_rows_are_counted_by_image_and_steps_by_tile(done: RunReport, folder: Path) -> None:
    rows, final = done.rows, done.final
    assert final is not None
    assert (rows.train + rows.select + rows.val, rows.tiles) == (127, 4)
    assert rows.skipped == {"not an image": 1}
    assert final.num_val == rows.val == sum(num for num, _ in final.by_class)
    ssl, sl = done.phases
    assert ssl.images == pytest.approx(4 * rows.train, abs=12)
    assert sl.labelled == sl.images == pytest.approx(14 * 4 * rows.labelled, abs=12)
    assert done.images is not None
    assert done.images.bytes == 127 * 4 * 16 * 16
    shown = page(folder, done)
    assert "4 of each: what training sees" in shown
    assert "each in 4 tiles, which is what phases count, of 16 x 16 pixels" in shown
    assert f"{rows.val} val images" in shown


def test_an_image_is_judged_by_the_mean_of_its_tiles(tree: Path, done: RunReport, folder: Path) -> None:
    """As `load_model` gives it; the result of the run is image by image what its model says."""
    model = load_model(folder)
    assert model.frame == Frame(16, "gray", tile=Tile(grid=GRID))
    spec = tiled_job(tree)
    rows = index_data(spec.data)
    splits = split(rows, spec.data, spec.seed)
    ids = [row for row in splits.val if not rows.uris[row].endswith("good/003.png")]
    assert done.final is not None
    correct = unpack_correct(done.final.correct, done.final.num_val)
    for row, right in zip(ids, correct, strict=True):
        tiles = model.transform(rows.uris[row])
        assert tiles.shape == (4, 16, 16, 1)
        share = model(tiles).softmax(1).mean(0)
        torch.testing.assert_close(model(tiles[None]).softmax(1)[0], share)
        assert (int(share.argmax()) == rows.labels[row]) == right
        torch.testing.assert_close(model.embed(tiles[None])[0], model.embed(tiles).mean(0))


def test_the_highest_of_the_tiles_judge_where_asked(tree: Path, raymix: Raymix, tmp_path: Path) -> None:
    """In the run's result, in `load_model`, in `predict` and in what an export says of its output."""
    made = run(tiled_job(tree, "name=highest", "data.max_bad_fraction=0.1", "data.tile.pool=max"))
    folder = tree.parent / "runs" / "highest"
    model, spec = load_model(folder), tiled_job(tree)
    rows = index_data(spec.data)
    ids = [row for row in split(rows, spec.data, spec.seed).val if not rows.uris[row].endswith("good/003.png")]
    assert made.final is not None
    expected = {}
    for row, right in zip(ids, unpack_correct(made.final.correct, made.final.num_val), strict=True):
        tiles = model.transform(rows.uris[row])
        highest = model(tiles).softmax(1).amax(0)
        expected[rows.uris[row]] = float(highest.max() / highest.sum())
        torch.testing.assert_close(model(tiles[None]).softmax(1)[0], highest / highest.sum())
        assert (int(highest.argmax()) == rows.labels[row]) == right
    told = raymix("predict", folder, tree, "--out", tmp_path / "out.jsonl")
    assert told.code == 0, told.err
    scores = {row["uri"]: row["score"] for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
    assert {uri: scores[uri] for uri in expected} == pytest.approx(expected, abs=1e-5)
    told = raymix("export", folder, "--out", tmp_path / "model")
    assert told.code == 0, told.err
    about = About.model_validate_json((tmp_path / "model" / "model.json").read_bytes())
    assert "of each class the highest softmax" in about.output
    torch.testing.assert_close(load_model(tmp_path / "model")(tiles[None]), model(tiles[None]))


def test_streamed_tiles_are_those_that_are_kept(tree: Path, done: RunReport) -> None:
    """In another order, since the tiles of an image are read together; what is left of each epoch is the same."""
    streamed = run(tiled_job(tree, "name=streamed", "data.max_bad_fraction=0.1", "data.cache=stream"))
    assert streamed.images is not None
    assert streamed.images.kept == "stream"
    assert (streamed.rows, streamed.final is not None) == (done.rows, True)
    assert streamed.final is not None
    assert streamed.final.top1 > 85


def test_predict_tells_an_image_and_the_tile_that_shows_it(
    tree: Path, folder: Path, tmp_path: Path, raymix: Raymix
) -> None:
    out = tmp_path / "out.csv"
    told = raymix("predict", folder, tree, "--out", out, "--set", "batch=6")
    assert told.code == 0, told.err
    assert told.out.split()[:2] == ["images", "128"]
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "uri", "class", "score", "above", "left", "top", "right", "bottom", "problem"]
    assert len(rows) == 128
    broken = next(row for row in rows if row["problem"])
    assert (broken["class"], broken["left"]) == ("", "")
    found = [row for row in rows if row["class"] == "bad" and "/bad/" in row["uri"]]
    assert len(found) > 45
    places = [(float(row["top"]) * 2, float(row["left"]) * 2) for row in found]
    marks = [mark_of(int(Path(row["uri"]).stem)) for row in found]
    assert np.mean([place == mark for place, mark in zip(places, marks, strict=True)]) > 0.9
    assert all(float(row["right"]) - float(row["left"]) == 0.5 for row in found)
    told = raymix("predict", folder, tree, "--out", out, "--overwrite", "--set", "positive=good")
    with out.open(newline="") as file:
        good = [row for row in csv.DictReader(file) if "/bad/" in row["uri"]]
    shown = [mark_of(int(Path(row["uri"]).stem)) for row in good]
    places = [(float(row["top"]) * 2, float(row["left"]) * 2) for row in good]
    assert all(place != mark for place, mark in zip(places, shown, strict=True)), "a tile that looks good"


def test_evaluate_counts_images(tree: Path, folder: Path, tmp_path: Path, raymix: Raymix) -> None:
    told = raymix("evaluate", folder, tree, "--out", tmp_path / "judged", "--set", "batch=6", "--set", "gallery=2")
    assert told.code == 0, told.err
    found = json.loads((tmp_path / "judged" / "evaluation.json").read_text())
    assert found["images"] == 127
    assert found["skipped"] == {"not an image": 1}
    assert found["top1"]["value"] > 85
    assert all(mistake["picture"].startswith("data:image/png") for mistake in found["mistakes"])


def test_embed_gives_a_vector_an_image(tree: Path, folder: Path, tmp_path: Path, raymix: Raymix) -> None:
    out = tmp_path / "out.parquet"
    assert raymix("embed", folder, tree, "--out", out).code == 0
    rows = pq.read_table(out).to_pylist()
    assert len(rows) == 128
    model = load_model(folder)
    vector = model.embed(model.transform(rows[0]["uri"])[None])[0].detach().numpy()
    assert np.allclose(rows[0]["embedding"], vector, atol=1e-4)


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_an_export_says_that_it_works_on_tiles(form: str, folder: Path, tmp_path: Path, raymix: Raymix) -> None:
    out = tmp_path / form
    smaller = ("--set", "quantize=int8") if form == "onnx" else ("--set", "shrink.mlp=0.25")
    told = raymix("export", folder, "--format", form, "--out", out, "--set", "batch=6", *smaller)
    assert told.code == 0, told.err
    about = About.model_validate_json((out / "model.json").read_bytes())
    assert about.transform.frame == Frame(16, "gray", tile=Tile(grid=GRID))
    assert "cut into 2 rows of 2 equal tiles" in " ".join(about.transform.steps)
    assert "mean of the softmax of all of its tiles" in about.output
    assert "cut into 2 rows of 2 equal tiles" in (out / "README.md").read_text()
    report = json.loads((folder / "report.json").read_text())
    assert about.judged_images in (report["rows"]["val"], report["rows"]["val"] + 1)
    assert about.sides[0].top1 == pytest.approx(report["final"]["top1"])
    if form == "safetensors":
        model = load_model(out)
        tiles = model.transform(next((folder.parent.parent / "images" / "bad").glob("*.png")))
        assert model(tiles[None]).shape == (1, 2)


def test_arrays_are_cut_too(tmp_path: Path) -> None:
    """Digits in quarters: not by their files, of which there are none."""
    job: dict[str, Any] = {**JOB, "storage": str(tmp_path), "backbone": {"size": "nano", "patch": 2}}
    data = {**JOB["data"], "image_size": 4, "fraction": 0.1, "tile": {"grid": [2, 2]}}
    report = run(load_spec({**job, "data": data}), quiet=True)
    assert report.final is not None
    assert report.rows.tiles == 4
    assert report.final.num_val == report.rows.val == 449


def test_plan_and_check_say_what_is_cut(tree: Path, done: RunReport, raymix: Raymix, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(tiled_job(tree).model_dump(mode="json", exclude_unset=True)))
    assert "4 tiles of each image" in raymix("plan", job).out
    assert "4 tiles of each image" in raymix("validate", job).out
    auto = ("--set", "data.store_size=auto")
    told = raymix("data", "check", job, "--local", "--set", "data.image_size=300", "--json", *auto)
    assert json.loads(told.out)["sizes"]["below_image_size"] == 1, "a tile has 256 pixels"
    assert json.loads(told.out)["sizes"]["unseen"] == 0
    narrow = "data.tile={grid: [2, 4], overlap: 0.25}"
    told = raymix("data", "check", job, "--local", "--set", narrow)
    # tiles of 157.5 x 292.6: of each column the middle 157.5 twice, 219.4 apart
    assert "38.5% of their area lies outside of every tile's middle square" in " ".join(told.out.split())


def test_near_duplicates_are_told_by_image(tmp_path: Path) -> None:
    """Of a class that is there twice, under other names."""
    tree = marked_tree(tmp_path / "images", per_class=16)
    for path in sorted((tree / "bad").glob("*.png")):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    report = run(tiled_job(tree, "data.near_duplicates=2", "schedule.sl_epochs=1"), quiet=True)
    assert report.rows.near is not None
    with (tree.parent / "runs" / "tiled" / "near_duplicates.tsv").open(newline="") as file:
        found = list(csv.DictReader(file, delimiter="\t"))
    assert report.rows.near.val + report.rows.near.select == len(found) > 0
    for row in found:
        assert row["path"].removeprefix("copy-")[-7:] == row["train path"].removeprefix("copy-")[-7:]
        assert "/bad/" in row["path"]


def test_splits_are_of_images_and_can_be_kept(tree: Path, done: RunReport, folder: Path) -> None:
    """As without tiles, with groups too: the select and val rows are the same."""
    for more in ((), (r"data.group={pattern: '(\d)\.png'}", "data.label_fraction=0.5")):
        jobs = [tiled_job(tree, *more, grid=grid) for grid in (None, GRID)]
        whole, tiled = (split(index_data(job.data), job.data, job.seed) for job in jobs)
        for part in ("train", "labelled", "select", "val"):
            assert getattr(whole, part).tolist() == getattr(tiled, part).tolist()
    again = tiled_job(tree, "name=again", f"data.keep_splits={folder}", "data.max_bad_fraction=0.1")
    report = run(again.model_copy(update={"seed": 3}), quiet=True)
    assert (report.rows.select, report.rows.val) == (done.rows.select, done.rows.val)
