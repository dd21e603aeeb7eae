"""Images come out the same in whatever order their parts arrive, and what was skipped is told."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from pictures import data, drawn, encoded

from raymix.data.formats import index_data
from raymix.data.frame import Frame
from raymix.data.images import Assembly, Images, Part
from raymix.data.reading import causes, check_bad, read_local, read_part, sample_frame
from raymix.data.rows import Rows
from raymix.spec import Data, JobError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 300 images each."""
    for i in range(600):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i:03}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(drawn(i, 8, 8), "BMP"))
    return tmp_path / "images"


def indexed(folder: Path, **fields: float) -> tuple[Rows, Data]:
    spec = data({"format": "image_folder", "path": str(folder)}, image_size=8, **fields)
    return index_data(spec), spec


def expected(rows: Rows, i: int) -> np.ndarray:
    return np.asarray(drawn(int(Path(rows.uris[i]).stem), 8, 8))


def test_read_local(folder: Path) -> None:
    rows, spec = indexed(folder)
    told: list[tuple[int, int]] = []
    ids = np.random.default_rng(0).permutation(600)[:555]
    images = read_local(rows, ids, Frame(8), lambda done, total: told.append((done, total)))
    assert images.pixels.shape == (555, 8, 8, 3)
    assert images.skipped == {}
    assert (images.slots.shape, images.slots.dtype) == ((600,), np.int64)
    assert sorted(images.slots[ids]) == list(range(555))
    assert (np.delete(images.slots, ids) == -1).all()
    for i in ids[::50]:
        assert (images.pixels[images.slots[i]] == expected(rows, i)).all()
    assert told[-1] == (555, 555)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    check_bad(images.skipped, len(ids), rows, spec)


def assembled(num_rows: int, ids: np.ndarray, frame: Frame, parts: Iterable[Part]) -> Images:
    assembly = Assembly(num_rows, ids, frame)
    for part in parts:
        assembly.add(part)
    return assembly.images()


def test_parts_in_any_order_give_the_same(folder: Path) -> None:
    rows, _ = indexed(folder)
    for i in (0, 7, 8, 299, 599):
        Path(rows.uris[i]).write_bytes(b"")
    ids = np.arange(600)
    parts = [read_part(rows, block, Frame(8)) for block in np.split(ids, [10, 11, 300, 301, 550])]
    one = assembled(600, ids, Frame(8), parts)
    for seed in range(3):
        shuffled = [parts[i] for i in np.random.default_rng(seed).permutation(len(parts))]
        other = assembled(600, ids, Frame(8), iter(shuffled))
        assert (other.pixels == one.pixels).all()
        assert (other.slots == one.slots).all()
        assert list(other.skipped.items()) == list(one.skipped.items())
    assert one.skipped == dict.fromkeys((0, 7, 8, 299, 599), "empty")
    assert len(one.pixels) == 595
    for i in set(range(600)) - set(one.skipped):
        assert (one.pixels[one.slots[i]] == expected(rows, i)).all()
    assert (one.slots[list(one.skipped)] == -1).all()


def test_parts_must_cover_what_was_asked() -> None:
    part = Part(np.array([1, 2]), np.zeros((2, 4, 4, 3), dtype=np.uint8), {3: "empty"})
    assert assembled(9, np.array([3, 2, 1]), Frame(4), [part]).slots.tolist() == [-1, 0, 1] + [-1] * 6
    for ids in ([1, 2], [1, 2, 3, 4], [0, 2, 3]):
        with pytest.raises(ValueError, match="asked for"):
            assembled(9, np.array(ids), Frame(4), [part])
    with pytest.raises(ValueError, match="asked for"):
        assembled(9, np.array([1, 2, 3]), Frame(4), [part, part])
    empty = assembled(9, np.array([], dtype=np.int64), Frame(4), [])
    assert empty.pixels.shape == (0, 4, 4, 3)


def test_bad_images(folder: Path) -> None:
    rows, spec = indexed(folder)
    whole = Path(rows.uris[5]).read_bytes()
    for i in (5, 9, 400):
        Path(rows.uris[i]).write_bytes(whole[:100])
    Path(rows.uris[7]).write_bytes(b"<html>")
    Path(rows.uris[2]).unlink()
    ids = np.arange(600)
    images = read_local(rows, ids, Frame(8))
    assert images.skipped == {2: "missing", 5: "truncated", 7: "not an image", 9: "truncated", 400: "truncated"}
    assert next(iter(causes(images.skipped).items())) == ("truncated", 3)
    check_bad(images.skipped, len(ids), rows, spec)  # 5 of 600 is below the default of 1 %
    with pytest.raises(JobError) as caught:
        check_bad(images.skipped, len(ids), rows, spec.model_copy(update={"max_bad_fraction": 0.005}))
    assert str(caught.value) == (
        "data.max_bad_fraction: 5 of 600 images are unreadable (truncated 3, missing 1, not an image 1), "
        f"first: {rows.uris[2]} (repair or remove them, or raise it)"
    )


def test_nothing_readable_is_refused_whatever_is_allowed(folder: Path) -> None:
    rows, spec = indexed(folder, max_bad_fraction=1.0)
    ids = np.array([3, 4])
    for i in ids:
        Path(rows.uris[i]).write_bytes(b"")
    with pytest.raises(JobError, match="2 of 2 images"):
        check_bad(read_local(rows, ids, Frame(8)).skipped, len(ids), rows, spec)


def test_an_error_of_a_reader_comes_through(folder: Path) -> None:
    rows, _ = indexed(folder)
    with pytest.raises(IndexError):
        read_local(rows, np.array([0, 600]), Frame(8))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_local(rows, np.arange(600), Frame(8), stop)


def test_sample_frame(folder: Path) -> None:
    rows, spec = indexed(folder)
    assert sample_frame(rows, spec, np.arange(600)).size == 8
    smaller = spec.model_copy(update={"image_size": 4})
    assert sample_frame(rows, smaller, np.arange(600)).size == 5
    assert sample_frame(rows, smaller, np.array([17])).size == 5
    assert sample_frame(rows, smaller, np.array([], dtype=np.int64)).size == 4
