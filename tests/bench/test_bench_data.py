"""`raymix bench data` at tiny sizes: its parts run, its figures follow from what was measured, its JSON can be read."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torchvision.datasets import ImageFolder
from typer.testing import CliRunner

from raymix.bench import cached, data, memory, resident
from raymix.bench.figures import Asked, Figure, median_ratio, table
from raymix.bench.pictures import NUM_CLASSES, SIZE, Pictures, drawn, found
from raymix.bench.setting import KINDS
from raymix.cli import app
from raymix.spec import Data, DigitsSource, JobError, JobSpec, Mae, Optim, Vit
from tests.on_ray.conftest import ray_of

TINY = data.Sizes(
    rounds=1,
    epochs=2,
    read=150,
    cache_bytes=4 * 2**20,
    stream_bytes=2**20,
    store_bytes=100 * 2**20,
    cached_rows=64,
    cached_seconds=0.02,
    hostile=16,
    bombs=1,
)


@pytest.fixture(scope="module")
def attached() -> Iterator[None]:
    """One Ray for all parts; left to itself each starts its own."""
    with ray_of(3, TINY.store_bytes):
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return drawn(tmp_path_factory.mktemp("drawn") / "images", 60)


def small() -> JobSpec:
    """A job whose steps take milliseconds."""
    return JobSpec(
        name="bench-data",
        data=Data(train=DigitsSource(format="digits"), image_size=8),
        backbone=Vit(size="nano", patch=2),
        objective=Mae(type="mae", mask_ratio=0.75, mix_mask_ratio=0.5, decoder_width=32, decoder_depth=1),
        optim=Optim(batch=32),
    )


@pytest.mark.ray
@pytest.mark.usefixtures("attached")
def test_parts_that_read_run_and_their_figures_follow(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(memory, "WORKERS", (1, 2))
    parts = ("memory", "stream", "read")
    result = data.measure(Path(pictures.root), parts, 0, torch.device("cpu"), TINY)
    assert tuple(result["parts"]) == parts
    assert result["cores"] >= 1
    stream, read, kept = (result["parts"][part] for part in ("stream", "read", "memory"))

    assert {side: len(rates) for side, rates in stream["rates"].items()} == dict.fromkeys(stream["rates"], TINY.rounds)
    assert set(stream["rates"]) == {"raymix", "DataLoader", "read_images"}
    assert all(rate > 0 for rates in stream["rates"].values() for rate in rates)
    assert len(stream["first"]["raymix"]) >= TINY.epochs
    ratios = {figure.rival: figure.ratio for figure in stream["figures"] if figure.what == "streamed"}
    assert list(ratios.values()) == [
        median_ratio(stream["rates"]["raymix"], stream["rates"][side]) for side in ("DataLoader", "read_images")
    ]
    assert (stream["images"], stream["processes"]) == (60, 2)

    assert read["images"] == TINY.read
    (figure,) = read["figures"]
    (mine,), (bare,) = read["rates"]["raymix"], read["rates"]["bare"]
    assert figure.ratio == pytest.approx(mine / bare / read["cores"])

    assert kept["cache"]["image_bytes"] == TINY.cache_bytes // (3 * SIZE**2) * (3 * SIZE**2)
    assert set(kept["cache"]["steady_bytes"]) == {1, 2}
    assert kept["stream"]["peak_bytes"] >= 0
    assert kept["stream"]["object_store_bytes"] == TINY.store_bytes


def test_waiting_for_data_is_a_share_of_the_step() -> None:
    result = cached.bench_cached(small(), torch.device("cpu"), TINY.cached_rows, TINY.cached_seconds)
    assert tuple(result["kinds"]) == KINDS
    for figure, row in zip(result["figures"], result["kinds"].values(), strict=True):
        assert 0 <= row["data_seconds"] <= row["seconds"]
        assert row["steps"] >= 2
        assert figure.ratio == pytest.approx(row["data_seconds"] / row["seconds"])
        assert figure.ok is None  # on a CPU nothing is asked


def test_the_gpu_setting_is_the_one_that_is_asked_for() -> None:
    spec = cached.setting(torch.device("cuda"))
    assert (spec.optim.batch, spec.data.image_size, spec.backbone.size) == (1024, 64, "tiny")


def test_command_prints_json_alone_or_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    part = {"figures": [Figure("streamed", "images/s", 9000.0, "a rival", 6000.0, 1.5, Asked(">=", 2))], "more": [1]}
    monkeypatch.setitem(data.PARTS, "cached", lambda bench: {**part})
    run = CliRunner().invoke(app, ["bench", "data", "--part", "cached", "--json"])
    assert run.exit_code == 0, run.output
    printed: dict[str, Any] = json.loads(run.stdout)
    assert set(printed) == {"parts", "device", "cores", "python", "torch", "ray"}
    assert printed["parts"]["cached"]["more"] == [1]
    assert printed["parts"]["cached"]["figures"][0] == {
        "what": "streamed",
        "unit": "images/s",
        "measured": 9000.0,
        "rival": "a rival",
        "than": 6000.0,
        "ratio": 1.5,
        "asked": ">= 2",
        "asked_of": "ratio",
        "ok": False,
    }
    run = CliRunner().invoke(app, ["bench", "data", "--part", "cached"])
    assert run.exit_code == 0, run.output
    text = " ".join(run.stdout.split())
    assert "cached streamed 9,000 images/s a rival: 6,000 images/s 1.5 >= 2 missed" in text
    assert "0 of 1 figures reach what they must" in text


@pytest.mark.parametrize("part", ["hostile", "augment"])
def test_parts_of_others_become_figures(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from raymix.bench import augment

    monkeypatch.setattr(augment, "WINDOW_SECONDS", 0.01)
    monkeypatch.setattr(augment, "WINDOWS", 1)
    result = data.measure(None, (part,), 0, torch.device("cpu"), TINY)
    figures = result["parts"][part]["figures"]
    assert len(figures) >= 2
    assert all((figure.ok is None) == (part == "augment") for figure in figures)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "steam"], "no part is called steam"),
        (["--part", "read", "--path", "/nowhere/at/all"], "no such file or folder"),
    ],
)
def test_what_is_not_there_is_refused(options: list[str], message: str) -> None:
    run = CliRunner().invoke(app, ["bench", "data", *options])
    assert isinstance(run.exception, JobError)
    assert message in str(run.exception)


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.zeros(2))
    with pytest.raises(JobError, match="class folders"):
        found(tmp_path / "train.npz")


# ---- pictures and figures -------------------------------------------------------------------------------------------


def test_drawn_images_are_what_the_rivals_read_too(pictures: Pictures) -> None:
    assert pictures.uniform
    assert pictures.frame.size == SIZE
    theirs = ImageFolder(pictures.root)
    assert list(pictures.rows.uris) == [path for path, _ in theirs.samples]
    assert len(theirs.classes) == NUM_CLASSES
    sizes = [os.path.getsize(path) for path in pictures.rows.uris]
    assert 1_500 < np.mean(sizes) < 2_500


def test_several_sizes_are_resized_by_all(tmp_path: Path) -> None:
    for i, size in enumerate([(80, 60), (70, 90)]):
        (tmp_path / f"class{i}").mkdir()
        Image.new("RGB", size).save(tmp_path / f"class{i}" / "a.png")
    mixed = found(tmp_path)
    assert (mixed.uniform, mixed.frame.size) == (False, SIZE)


def test_validation_images_are_left_out(tmp_path: Path) -> None:
    for split, num in (("train", 3), ("val", 2)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(num):
                Image.new("RGB", (16, 16), (i, i, i)).save(tmp_path / split / name / f"{i}.png")
    mine = found(tmp_path)
    assert (len(mine.rows), mine.frame.size) == (6, 16)
    assert list(mine.rows.uris) == [path for path, _ in ImageFolder(mine.root).samples]


def test_a_list_is_repeated_up_to_any_length(pictures: Pictures) -> None:
    many = pictures.times(150)
    assert many.rows.uris == (pictures.rows.uris * 3)[:150]
    assert len(many.rows.labels) == len(many.rows.source_of) == len(many.ids) == 150


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, None),
        (Asked(">=", 2), True),
        (Asked("<=", 2), True),
        (Asked("<", 2), False),
        (Asked("<=", 5, "measured"), False),
        (Asked(">=", 5, "measured"), True),
    ],
)
def test_bounds_are_of_the_ratio_or_of_the_measured(asked: Asked | None, expected: bool | None) -> None:
    assert Figure("a", "s", 6.0, "b", 3.0, 2.0, asked).ok is expected


def test_the_ratio_is_the_median_of_pairs() -> None:
    assert median_ratio([10, 20, 90], [10, 10, 10]) == 2


def test_the_table_names_a_part_once() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table([("stream", Figure("a", "s", 0.25)), ("stream", Figure("b", "MiB", 1234.0))]))
    text = console.export_text()
    assert text.count("stream") == 1
    assert "0.25 s" in text
    assert "1,234 MiB" in text
