"""Shards: every row once and well mixed, images as asked, columns as Hugging Face has them, damage noticed."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pictures import data, drawn, encoded, rows_of
from PIL import Image

from raymix.data.decode import decode
from raymix.data.encoded import BadImage
from raymix.data.formats import index_data
from raymix.data.frame import Frame
from raymix.data.picture import rewritten
from raymix.data.prepare import (
    MANIFEST,
    Made,
    Options,
    index_digest,
    manifest_of,
    rows_of_shard,
    shards_of,
    shuffled_shards,
    verified,
)
from raymix.data.rows import Rows
from raymix.data.shardfile import GROUP_ROWS, WORK, Writing, Written, is_sound, write_shard
from raymix.spec import JobError, ParquetSource

KEEP = Writing(size=None, codec=None, quality=None, channels="rgb")


def digits() -> Rows:
    return index_data(data({"format": "digits"}))


def written(rows: Rows, folder: Path, num_rows: int = 500, writing: Writing = KEEP) -> list[Written]:
    (folder / WORK).mkdir(parents=True, exist_ok=True)
    return [write_shard(shard, str(folder), writing) for shard in shards_of(rows, num_rows, seed=0)]


def opened(raw: bytes) -> Image.Image:
    return Image.open(io.BytesIO(raw))


# ---- which rows go where ----------------------------------------------------------------------------------------


def test_every_row_is_in_one_shard() -> None:
    rows = rows_of([40, 30], num_val=25, num_unlabelled=10)
    shards = shards_of(rows, 16, seed=0)
    assert [shard.file for shard in shards[:2]] == ["train-00000-of-00005.parquet", "train-00001-of-00005.parquet"]
    assert [shard.file for shard in shards[5:]] == ["val-00000-of-00002.parquet", "val-00001-of-00002.parquet"]
    ids = np.concatenate([shard.block.ids for shard in shards])
    assert sorted(ids) == list(range(105))
    assert max(len(shard.block) for shard in shards) == 16
    assert np.array_equal(ids[80:], np.arange(80, 105)), "the order of val makes no difference, so it stays"
    for shard in shards:
        assert shard.block.rows.uris == tuple(rows.uris[row] for row in shard.block.ids)


def test_the_order_follows_from_the_seed() -> None:
    ids = np.arange(1000)
    same, again, other = (shuffled_shards(ids, 1, 100, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one, two) for one, two in zip(same, again, strict=True))
    assert not np.array_equal(same[0], other[0])


@pytest.mark.parametrize("run", [1, 16, 1000])
def test_classes_are_mixed_in_every_shard(run: int) -> None:
    labels = np.repeat(np.arange(10), 1000)  # sorted by class, as folders give them
    for shard in shuffled_shards(np.arange(10_000), run, 1000, seed=0):
        assert np.bincount(labels[shard], minlength=10).max() < 400, "in order it were 1000 of one class"
        neighbours = labels[shard]
        assert (neighbours[1:] == neighbours[:-1]).mean() < 0.4


def test_rows_that_lie_together_are_read_by_few_shards() -> None:
    shards = shuffled_shards(np.arange(10_000), 50, 1000, seed=0)
    readers = sum(len(np.unique(shard // 50)) for shard in shards)
    assert readers < 2 * 200, "200 pieces of a file; with single rows each shard would read nearly all of them"


def test_rows_of_a_shard() -> None:
    rows = digits()
    assert rows_of_shard(rows, None, KEEP) == 1024
    assert rows_of_shard(rows, 7, KEEP) == 7


def test_rows_of_a_shard_go_by_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raymix.data.prepare.SHARD_BYTES", 20_000)
    assert 50 < rows_of_shard(digits(), None, KEEP) < 300, "of 70 to 400 bytes each"


def test_shards_that_do_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raymix.data.prepare._MAX_SHARD_BYTES", 10_000)
    with pytest.raises(JobError, match=r"^--rows: 1,000 rows take about 0.0 GB \(\d+ or fewer"):
        rows_of_shard(digits(), 1000, KEEP)


def test_the_digest_knows_every_part_of_an_index() -> None:
    rows = rows_of([3, 3], num_val=2)
    labels = rows.labels.copy()
    labels[0] = 1
    others = [
        {"labels": labels},
        {"class_names": ("x", "y")},
        {"uris": (*rows.uris[:-1], "other")},
        {"is_val": ~rows.is_val},
    ]
    digests = [index_digest(Rows(**{**vars(rows), **other})) for other in [{}, *others]]
    assert len(set(digests)) == 5
    assert index_digest(rows_of([3, 3], num_val=2)) == digests[0]


# ---- one image --------------------------------------------------------------------------------------------------


def test_what_is_as_asked_keeps_its_bytes() -> None:
    for kind, codec in (("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp")):
        raw = encoded(drawn(1, 40, 30), kind)
        assert rewritten(raw, None, None, None, "rgb") is raw
        assert rewritten(raw, 30, codec, None, "rgb") is raw  # type: ignore[arg-type]
    tiff = encoded(drawn(1, 40, 30), "TIFF")
    assert rewritten(tiff, 64, None, None, "rgb") is not tiff
    assert opened(rewritten(tiff, 64, None, None, "rgb")).format == "PNG"


@pytest.mark.parametrize("codec", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_codec_from_every_kind(kind: str, codec: Any) -> None:
    image = opened(rewritten(encoded(drawn(1, 40, 30), kind), 20, codec, None, "rgb"))
    assert (image.format, image.size) == (codec.upper(), (27, 20))


def test_the_shape_stays_and_nothing_is_enlarged() -> None:
    def size(width: int, height: int, asked: int) -> tuple[int, int]:
        return opened(rewritten(encoded(drawn(0, width, height)), asked, None, None, "rgb")).size

    assert size(200, 100, 50) == (100, 50)
    assert size(100, 300, 50) == (50, 150)
    assert size(20, 300, 50) == (20, 300)
    assert size(50, 50, 50) == (50, 50)


def test_resized_as_a_run_would_see_it() -> None:
    ramp = np.add.outer(np.linspace(0, 120, 300), np.linspace(0, 130, 400)).astype(np.uint8)
    raw = encoded(Image.fromarray(ramp).convert("RGB"))
    small = rewritten(raw, 64, "png", None, "rgb")
    difference = decode(raw, Frame(64)).astype(int) - decode(small, Frame(64))
    assert np.abs(difference).max() <= 2


def test_quality_writes_anew() -> None:
    raw = encoded(drawn(1, 64, 64), "JPEG", quality=95)
    assert len(rewritten(raw, None, None, 30, "rgb")) < len(raw) / 2
    png = encoded(drawn(1, 64, 64))
    assert rewritten(png, None, None, 30, "rgb") is png


def test_orientation_is_applied_where_an_image_is_written_anew() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = encoded(drawn(1, 80, 40), "JPEG", exif=exif)
    turned = opened(rewritten(raw, 20, None, None, "rgb"))
    assert turned.size == (20, 40)
    assert turned.getexif().get(0x0112) is None
    assert rewritten(raw, None, None, None, "rgb") is raw, "kept whole, with what says how it is turned"


def test_grey_stays_grey_and_deep_grey_deep() -> None:
    grey = rewritten(encoded(drawn(1, 60, 40).convert("L"), "JPEG"), 20, None, None, "rgb")
    assert opened(grey).mode == "L"
    deep = (np.add.outer(np.arange(40), np.arange(60)) * 600).astype(np.uint16)
    raw = encoded(Image.fromarray(deep))
    small = opened(rewritten(raw, 20, None, None, "gray16"))
    assert small.mode == "I;16"
    assert abs(int(np.asarray(small)[10, 15]) - 600 * (20 + 30)) < 1000
    assert opened(rewritten(raw, 20, "jpeg", None, "rgb")).mode == "L"


def test_transparency_is_on_white() -> None:
    clear = Image.new("RGBA", (30, 30), (0, 0, 0, 0))
    assert np.asarray(opened(rewritten(encoded(clear), 20, None, None, "rgb"))).min() == 255


def test_pixels_without_an_encoding() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(opened(rewritten(pixels, None, None, None, "rgb"))), pixels)
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30), dtype=np.uint16)
    assert np.array_equal(np.asarray(opened(rewritten(deep, None, None, None, "gray16"))), deep)
    assert opened(rewritten(pixels[..., :1], 10, "jpeg", None, "rgb")).mode == "L"


@pytest.mark.parametrize("size", [None, 8])
def test_what_cannot_be_read_is_refused(size: int | None) -> None:
    whole = encoded(drawn(3, 64, 64), "JPEG")
    for raw in (b"", b"PK\3\4" + b"x" * 100, whole[: len(whole) // 2]):
        with pytest.raises(BadImage):
            rewritten(raw, size, None, None, "rgb")
    with pytest.raises(BadImage, match="too long for webp"):
        rewritten(encoded(Image.new("L", (30_000, 1))), None, "webp", None, "rgb")


# ---- one shard --------------------------------------------------------------------------------------------------


def test_columns_are_those_of_hugging_face(tiny_imagenet: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    rows = index_data(data({"format": "tiny_imagenet", "path": str(tiny_imagenet)}))
    written(rows, tmp_path / "out")
    found = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert (found["train"].num_rows, found["validation"].num_rows) == (4, 2)
    assert found["train"].features["label"].names == ["n01", "n02"]
    row = next(row for row in found["train"] if row["label"] == 1)
    assert row["image"].size == (12, 9)


def test_the_parquet_format_reads_them_back(table: Path, tmp_path: Path) -> None:
    rows = index_data(data({"format": "table", "path": str(table)}))
    shards = written(rows, tmp_path / "out", num_rows=4)
    assert [shard.rows for shard in shards] == [3, 3]
    assert sum(shard.labelled for shard in shards) == 5
    back = index_data(data({"format": "parquet", "path": str(tmp_path / "out")}))
    assert back.class_names == ("a", "b")
    assert sorted(back.labels) == [-1, 0, 0, 0, 1, 1]


def test_a_shard_holds_the_files_own_bytes_in_small_groups(tmp_path: Path) -> None:
    rows = digits()
    (shard,) = written(rows, tmp_path, num_rows=5000)
    file = pq.ParquetFile(tmp_path / shard.file)
    assert file.metadata.num_row_groups == -(-1797 // GROUP_ROWS)
    assert file.schema_arrow.names == ["image", "label"]
    names = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    assert names == list(rows.class_names)
    first = file.read_row_group(0).to_pylist()[0]
    row = shards_of(rows, 5000, 0)[0].block.ids[0]
    assert (first["label"], first["image"]["path"]) == (rows.labels[row], rows.uris[row])


def test_paths_are_relative_and_labels_may_be_absent(image_folder: Path, tmp_path: Path) -> None:
    from raymix.data.formats import index_source
    from raymix.spec import ImagesSource

    rows = index_source(ImagesSource(format="images", path=str(image_folder)), "data.unlabelled")
    (shard,) = written(rows, tmp_path / "out")
    found = pq.read_table(tmp_path / "out" / shard.file)
    assert found.column_names == ["image"]
    paths = sorted(row["image"]["path"] for row in found.to_pylist())
    assert paths[0] == "a/1.png"
    raws = {row["image"]["path"]: row["image"]["bytes"] for row in found.to_pylist()}
    assert raws["b/3.png"] == (image_folder / "b" / "3.png").read_bytes()


def test_bad_rows_are_left_out_and_named(image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "a" / "2.png").write_bytes(b"")
    (image_folder / "b" / "1.png").unlink()
    (image_folder / "b" / "1.png").symlink_to("nowhere")
    rows = index_data(data({"format": "image_folder", "path": str(image_folder)}))
    (shard,) = written(rows, tmp_path / "out")
    assert (shard.rows, shard.labelled) == (4, 4)
    assert {(Path(image.path).name, image.cause, image.part) for image in shard.skipped} == {
        ("2.png", "empty", "train"),
        ("1.png", "missing", "train"),
    }
    assert pq.read_metadata(tmp_path / "out" / shard.file).num_rows == 4


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    rows = digits()
    first, second = written(rows, tmp_path / "a"), written(rows, tmp_path / "b")
    assert first == second
    assert all((tmp_path / "a" / s.file).read_bytes() == (tmp_path / "b" / s.file).read_bytes() for s in first)


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"^DIR: .*train-00000-of-00001.parquet cannot be written: No such file"):
        write_shard(shards_of(digits(), 5000, 0)[0], str(tmp_path / "gone"), KEEP)


@pytest.mark.parametrize("damage", ["gone", "cut", "one bit", "longer"])
def test_damage_is_noticed(damage: str, tmp_path: Path) -> None:
    (shard,) = written(digits(), tmp_path, num_rows=5000)
    path = tmp_path / shard.file
    assert is_sound(shard, str(tmp_path))
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-100], "one bit": content, "longer": content + b"x"}[damage])
    assert not is_sound(shard, str(tmp_path))


# ---- what a later run may trust ---------------------------------------------------------------------------------


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Digits as shards with their manifest."""
    rows, folder = digits(), tmp_path / "prepared"
    shards = written(rows, folder)
    made = Made(sources=rows.sources, index=index_digest(rows), channels="rgb", options=Options(), rows=500)
    manifest = manifest_of(made, rows.class_names, shards)
    assert (manifest.totals.train, manifest.totals.labelled, manifest.totals.val) == (1797, 1797, 0)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return folder


def is_verified(*paths: Path | str) -> bool:
    path = str(paths[0]) if len(paths) == 1 else tuple(map(str, paths))
    return verified(ParquetSource(format="parquet", path=path))


def test_a_prepared_folder_is_known(prepared: Path, image_folder: Path) -> None:
    assert is_verified(prepared)
    assert is_verified(prepared / "train-*.parquet")
    assert is_verified(prepared / "train-00000-of-00004.parquet", prepared / "train-00001-of-00004.parquet")
    assert not is_verified(image_folder)
    assert not is_verified(prepared / "nothing-*.parquet")
    assert not is_verified("s3://bucket/prepared")
    assert not verified(index_data(data({"format": "digits"})).sources[0])


def test_a_folder_that_has_changed_is_not(prepared: Path) -> None:
    shutil.copy(prepared / "train-00000-of-00004.parquet", prepared / "more.parquet")
    assert not is_verified(prepared)
    (prepared / "more.parquet").unlink()
    assert is_verified(prepared)
    with (prepared / "train-00001-of-00004.parquet").open("ab") as file:
        file.write(b"x")
    assert not is_verified(prepared)
    assert is_verified(prepared / "train-00000-of-00004.parquet")
    (prepared / MANIFEST).write_text("{}")
    assert not is_verified(prepared / "train-00000-of-00004.parquet")


def test_a_shard_that_is_gone_is_noticed(prepared: Path) -> None:
    (prepared / "train-00001-of-00004.parquet").unlink()
    assert not is_verified(prepared)
    assert is_verified(prepared / "train-*.parquet"), "what a pattern names is sound"
