"""Shards as webdataset, tar and tarfile write them; every sample found, every broken shard named."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from containers import error_of, tar
from pictures import data, drawn, encoded

from raymix.data.formats import fetch, index_data
from raymix.data.rows import Rows
from raymix.spec import JobError


def index(path: Any, **fields: Any) -> Rows:
    return index_data(data({"format": "webdataset", "path": path if isinstance(path, list) else str(path), **fields}))


def written(path: Path, *samples: dict[str, Any]) -> Path:
    with webdataset.TarWriter(str(path)) as writer:
        for number, sample in enumerate(samples):
            writer.write({"__key__": f"s{number}", **sample})
    return path


def archive(path: Path, members: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def test_what_webdataset_wrote_and_reads(tmp_path: Path) -> None:
    pattern = str(tmp_path / "shard-%03d.tar")
    with webdataset.ShardWriter(pattern, maxcount=4, verbose=0) as writer:
        for i in range(10):
            writer.write(
                {"__key__": f"images/{i:03}", "jpg": encoded(drawn(i), "JPEG"), "cls": i % 3, "json": {"i": i}}
            )
    shards = sorted(str(path) for path in tmp_path.glob("*.tar"))
    known = list(webdataset.WebDataset(shards, shardshuffle=False))
    for path in (tmp_path, tmp_path / "shard-*.tar", tmp_path / "shard-{000..002}.tar", shards):
        rows = index(path)
        assert rows.class_names == ("0", "1", "2")
        assert rows.labels.tolist() == [int(sample["cls"]) for sample in known]
        assert fetch(rows, np.arange(10)) == [sample["jpg"] for sample in known]
    places = np.array([9, 0, 5, 5, 3])
    assert fetch(rows, places) == [known[i]["jpg"] for i in places]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("folder", ["", "train/", "x" * 60 + "/" + "y" * 60 + "/", "ä/"])
def test_what_tarfile_wrote(tmp_path: Path, form: int, folder: str) -> None:
    pictures = [encoded(drawn(i)) for i in range(6)]
    members = {}
    for i, picture in enumerate(pictures):
        members |= {f"{folder}{i:03}.png": picture, f"{folder}{i:03}.cls": b"%d\n" % (i % 2)}
    rows = index(archive(tmp_path / "shard.tar", members, form))
    assert rows.labels.tolist() == [0, 1] * 3
    assert fetch(rows, np.arange(6)) == pictures


def test_what_tar_wrote(tmp_path: Path) -> None:
    for i in range(4):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{i}.jpeg").write_bytes(encoded(drawn(i), "JPEG"))
        (tmp_path / "in" / f"{i}.cls").write_text(f"{'cat' if i % 2 else 'dog'}\n")
    (tmp_path / "in" / "link.png").symlink_to("0.jpeg")
    subprocess.run(["tar", "--sort=name", "-cf", tmp_path / "shard.tar", "-C", tmp_path / "in", "."], check=True)
    rows = index(tmp_path / "shard.tar")
    assert (rows.class_names, rows.labels.tolist()) == (("cat", "dog"), [1, 0, 1, 0])
    assert fetch(rows, np.arange(4))[3] == (tmp_path / "in" / "3.jpeg").read_bytes()


def test_which_member_is_the_image(tmp_path: Path) -> None:
    sample = {"seg.png": b"mask", "WEBP": b"second", "Png": b"first", "txt": b"words", "cls": b"a"}
    members = {f"{key}.{extension}": content for key in "ab" for extension, content in sample.items()}
    rows = index(archive(tmp_path / "shard.tar", {**members, "__meta__.json": b"{}", "b.cls": b"b"}))
    assert fetch(rows, np.arange(2)) == [b"first", b"first"]


def test_labels(tmp_path: Path) -> None:
    notes = [{"label": 10}, {"label": 9}, {"label": None}, {}, {"label": -1}, {"label": 10}]
    images = [{"png": encoded(drawn(i)), "json": note, "kind": f"k{i % 2}"} for i, note in enumerate(notes)]
    path = written(tmp_path / "shard.tar", *[{**image, "kind": image["kind"].encode()} for image in images])
    rows = index(path, label="json:label")
    assert (rows.class_names, rows.labels.tolist()) == (("9", "10"), [1, 0, -1, -1, -1, 1])
    rows = index(path, label="kind")
    assert (rows.class_names, rows.labels.tolist()) == (("k0", "k1"), [0, 1, 0, 1, 0, 1])


def test_validation_shards_by_name(tmp_path: Path) -> None:
    for name, first in (("set-train-0", 0), ("set-train-1", 6), ("set-val-0", 12), ("set-test-0", 18)):
        tar(tmp_path / f"{name}.tar", first)
    rows = index(tmp_path)
    assert rows.is_val.tolist() == [False] * 12 + [True] * 6
    assert fetch(rows, np.array([0, 12])) == [encoded(drawn(0)), encoded(drawn(12))]


def test_ranges_far_apart_are_not_read_together(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    samples = [{"jpg": noise.bytes(size), "cls": i % 2} for i, size in enumerate((10, 9_000_000, 10, 200_000, 10))]
    rows = index(written(tmp_path / "shard.tar", *samples))
    assert fetch(rows, np.array([4, 0, 2, 1, 3])) == [samples[i]["jpg"] for i in (4, 0, 2, 1, 3)]
    assert fetch(rows, np.array([0, 4])) == [samples[i]["jpg"] for i in (0, 4)]


def test_a_member_that_claims_to_be_sparse_is_passed_over(tmp_path: Path) -> None:
    """Its size is what its writer liked, and an index that believed it would have so many bytes read."""
    raw = encoded(drawn(), "PNG")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as file:
        for name, told in (("0.png", {}), ("1.png", {"GNU.sparse.major": "1", "GNU.sparse.realsize": "9" * 15})):
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(raw), told
            file.addfile(info, io.BytesIO(raw))
            label = tarfile.TarInfo(name.replace("png", "cls"))
            label.size = 1
            file.addfile(label, io.BytesIO(name[:1].encode()))
    with pytest.raises(JobError, match=r"sample '1' has no image, only cls"):
        index(tmp_path / "a.tar")


def test_a_shard_that_became_shorter_or_is_gone(tmp_path: Path) -> None:
    path = tar(tmp_path / "shard.tar")
    rows = index(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(rows.uris[3].rpartition("#")[2].partition(":")[0]) + 5])
    raws = fetch(rows, np.arange(6))
    assert [type(raw) for raw in raws] == [bytes] * 3 + [OSError] * 3
    path.unlink()
    assert [type(raw) for raw in fetch(rows, np.arange(2))] == [FileNotFoundError] * 2


# ---- mistakes ---------------------------------------------------------------------------------------------------


def error(path: Path, **fields: Any) -> str:
    return error_of({"format": "webdataset", "path": str(path), **fields})


def test_a_broken_shard_is_named_wherever_it_is_cut(tmp_path: Path) -> None:
    path = tar(tmp_path / "shard.tar")
    whole = path.read_bytes()
    last = len(whole.rstrip(b"\0"))
    for length in [*range(0, last, 128), last - 1, last]:  # in headers, in content, in padding and between members
        path.write_bytes(whole[:length])
        assert error(path).startswith(f"data.train.path: {path} ")
    headers = [at for at in range(0, last, 512) if whole[at + 257 : at + 262] == b"ustar"]
    assert len(headers) == 24  # of webdataset, two a member
    for at in headers:
        path.write_bytes(whole[:at] + b"\xff" * 512 + whole[at + 512 :])
        assert error(path).startswith(f"data.train.path: {path} is not a whole tar file")


def test_wrong_shards(tmp_path: Path) -> None:
    packed = tmp_path / "shard.tar.gz"
    tar(packed)
    assert f"{packed} is compressed, so no image in it can be read alone (unpack it once" in error(packed)
    assert "is compressed" in error(tmp_path)
    zipped = tmp_path / "shard.tar"
    zipped.write_bytes(b"PK\3\4" + bytes(2000))
    assert f"{zipped} is not a whole tar file" in error(zipped)
    zipped.write_bytes(b"")
    assert f"{zipped} is not a whole tar file" in error(zipped)
    archive(zipped, {})
    assert "holds no sample" in error(zipped)
    assert "no such file or folder" in error(tmp_path / "none.tar")
    path = written(tmp_path / "a.tar", {"png": encoded(drawn()), "cls": 0}, {"txt": "words", "cls": 1})
    assert error(path).endswith(f"{path}: sample 's1' has no image, only cls, txt (images are {IMAGES})")


IMAGES = "jpg, jpeg, png, bmp, webp, gif, tif, tiff"


def test_wrong_labels(tmp_path: Path) -> None:
    def path(**members: bytes) -> Path:
        content = {f"0.{extension}": raw for extension, raw in members.items()}
        return archive(tmp_path / "shard.tar", {"0.png": b"x", **content})

    assert error(path(cls=b"\xff")).startswith("data.train.label: ")
    assert "0.cls is not UTF-8 text" in error(path(cls=b"\xff"))
    assert "0.json is not JSON" in error(path(json=b"{"), label="json:label")
    listed = json.dumps({"label": [1, 2]}).encode()
    assert "0.json has [1, 2] as label (a label is an integer or a text)" in error(
        path(json=listed), label="json:label"
    )
    assert "its images have no labels" in error(path(), label="nothing")


@pytest.mark.bench
def test_speed_of_an_index(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "shard.tar")) as writer:
        for i in range(50_000):
            writer.write({"__key__": f"{i:06}", "jpg": bytes(2000), "cls": i % 10})
    start = time.perf_counter()
    assert len(index(tmp_path)) == 50_000
    assert time.perf_counter() - start < 5
