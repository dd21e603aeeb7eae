"""What check finds in images drawn by the test: sizes, kinds, broken files, the same content twice."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import data, drawn, encoded, write

from raymix.data.blocks import Block, fetched, map_threads
from raymix.data.check import check_block, digest, gathered, summary
from raymix.data.formats import index_data
from raymix.data.rows import Rows
from raymix.report.check import CheckReport, check_table, printable, skipped_table
from raymix.spec import Data


def blocks_of(rows: Rows, size: int) -> list[Block]:
    return [Block.of(rows, np.arange(start, min(start + size, len(rows)))) for start in range(0, len(rows), size)]


def checked(section: Data, size: int = 4) -> CheckReport:
    rows = index_data(section)
    parts = [check_block(block, "rgb") for block in blocks_of(rows, size)]
    return summary(rows, gathered(len(rows), reversed(parts)), section, seconds=2.0)


def folder_of(path: Path, **fields: Any) -> Data:
    return Data(train={"format": "image_folder", "path": str(path)}, **fields)  # type: ignore[arg-type]  # as YAML does


def text_of(report: CheckReport) -> str:
    from rich.console import Console

    console = Console(width=100)
    with console.capture() as capture:
        console.print(check_table(report))
    return capture.get()


def test_a_sound_folder(image_folder: Path) -> None:
    report = checked(folder_of(image_folder))
    assert (report.rows.train, report.rows.unlabelled, report.rows.val) == (6, 0, 0)
    assert [(one.name, one.train, one.val) for one in report.classes] == [("a", 3, 0), ("b", 3, 0)]
    assert report.sizes is not None
    assert (report.sizes.width.min, report.sizes.width.max, report.sizes.height.median) == (12, 12, 9)
    assert report.sizes.below_image_size is None, "image_size was not asked for"
    assert [kind.model_dump() for kind in report.kinds] == [{"format": "PNG", "mode": "RGB", "bits": 8, "images": 6}]
    assert report.num_bytes == sum(path.stat().st_size for path in image_folder.rglob("*.png"))
    assert not report.unreadable.images
    assert not report.duplicates.groups
    assert report.images_per_second == 3.0
    assert "2 of 3 training images" in text_of(report)


def test_kinds_and_sizes(image_folder: Path) -> None:
    deep = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 100
    from PIL import Image

    Image.fromarray(deep).save(image_folder / "a" / "deep.png")
    drawn(9, 40, 50).convert("L").save(image_folder / "b" / "grey.jpg")
    report = checked(folder_of(image_folder, image_size=16))
    kinds = {(kind.format, kind.mode, kind.bits): kind.images for kind in report.kinds}
    assert kinds == {("PNG", "RGB", 8): 6, ("PNG", "I;16", 16): 1, ("JPEG", "L", 8): 1}
    assert report.sizes is not None
    assert (report.sizes.width.min, report.sizes.width.max) == (12, 40)
    assert report.sizes.below_image_size == 0.75, "six are 9 pixels high"
    assert "75.0% have a shorter side below data.image_size 16" in text_of(report)


def test_unreadable_images_are_counted_by_cause(image_folder: Path) -> None:
    (image_folder / "a" / "empty.png").touch()
    (image_folder / "a" / "empty2.png").touch()
    (image_folder / "b" / "cut.png").write_bytes(encoded(drawn(5, 64, 64))[:500])
    (image_folder / "b" / "gone.png").symlink_to(image_folder / "nowhere.png")
    report = checked(folder_of(image_folder, max_bad_fraction=0.3))
    assert report.unreadable.causes == {"empty": 2, "truncated": 1, "missing": 1}
    assert [image.path for image in report.unreadable.images if image.cause == "missing"] == [
        str(image_folder / "b" / "gone.png")
    ]
    assert report.unreadable.share == 0.4
    assert report.unreadable.stops
    assert "above data.max_bad_fraction 0.3: a run would stop" in text_of(report)
    assert not report.duplicates.groups, "empty files are no duplicates"
    assert not checked(folder_of(image_folder, max_bad_fraction=0.4)).unreadable.stops
    lines = skipped_table(report.unreadable.images).splitlines()
    assert lines[0] == "cause\tpart\tpath"
    assert len(lines) == 5


def test_duplicates_within_and_between(tiny_imagenet: Path) -> None:
    train, val = tiny_imagenet / "train", tiny_imagenet / "val" / "images"
    shutil.copy(train / "n01" / "images" / "n01_0.JPEG", train / "n01" / "images" / "again.JPEG")  # the same class
    shutil.copy(train / "n01" / "images" / "n01_1.JPEG", train / "n02" / "images" / "other.JPEG")  # another class
    shutil.copy(train / "n02" / "images" / "n02_0.JPEG", val / "val_0.JPEG")  # in val, the same class
    found = checked(data({"format": "tiny_imagenet", "path": str(tiny_imagenet)}), size=1).duplicates
    assert (found.within_train, found.within_val, found.val_in_train, found.conflicting_groups) == (2, 0, 1, 1)
    assert [[(image.part, image.label) for image in group] for group in found.groups] == [
        [("train", "n02"), ("val", "n02")],
        [("train", "n01"), ("train", "n02")],
        [("train", "n01"), ("train", "n01")],
    ], "those between train and val first, then those that contradict each other"
    assert found.groups[0][1].path == str(val / "val_0.JPEG")


def test_no_label_contradicts_none(image_folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "more" / "new.png", 77)
    shutil.copy(image_folder / "a" / "1.png", tmp_path / "more" / "copy.png")
    section = folder_of(image_folder, unlabelled={"format": "images", "path": str(tmp_path / "more")})
    report = checked(section)
    assert (report.rows.train, report.rows.unlabelled) == (6, 2)
    assert (report.duplicates.within_train, report.duplicates.conflicting_groups) == (1, 0)


def test_three_times_the_same() -> None:
    section = data({"format": "digits"})
    rows = index_data(section)
    facts = gathered(len(rows), [check_block(block, "rgb") for block in blocks_of(rows, 600)])
    facts.digests[[5, 900, 1700]] = facts.digests[5]
    found = summary(rows, facts, section, 1.0).duplicates
    assert found.within_train == 2
    assert [image.path for image in found.groups[0]] == [rows.uris[row] for row in (5, 900, 1700)]


def test_pixels_of_another_shape_are_other_content() -> None:
    pixels = np.arange(24, dtype=np.uint8)
    assert (digest(pixels.reshape(4, 6)) != digest(pixels.reshape(6, 4))).any()
    assert (digest(pixels.reshape(4, 6)) == digest(np.asfortranarray(pixels.reshape(4, 6)))).all()
    assert (digest(b"abc") == digest(b"abc")).all()


def test_the_size_of_blocks_makes_no_difference(image_folder: Path) -> None:
    (image_folder / "b" / "cut.png").write_bytes(b"\x89PNG")
    assert checked(folder_of(image_folder), 1) == checked(folder_of(image_folder), 100)


def test_many_classes_show_their_ends() -> None:
    section = data({"format": "digits"})
    rows = index_data(section)
    labels = np.minimum(np.arange(len(rows)) // 10, 19)
    rows = Rows(**{**vars(rows), "labels": labels, "class_names": tuple(f"class{n}" for n in range(20))})
    facts = gathered(len(rows), [check_block(Block.of(rows, np.arange(len(rows))), "rgb")])
    text = text_of(summary(rows, facts, section, 1.0))
    assert "20 of 10 to 1,607 training images, largest 161 times the smallest" in text
    assert "10 more" in text
    assert "class19" in text
    assert "class8" not in text


def test_a_block_and_its_facts_travel(image_folder: Path) -> None:
    rows = index_data(folder_of(image_folder))
    block = pickle.loads(pickle.dumps(Block.of(rows, np.array([4, 1]))))
    assert block.rows.uris == (rows.uris[4], rows.uris[1])
    facts = pickle.loads(pickle.dumps(check_block(block, "rgb")))
    assert facts.ids.tolist() == [4, 1]


def test_fetching_keeps_to_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        write(tmp_path / "ab"[number % 2] / f"{number}.png", number)
    monkeypatch.setattr("raymix.data.blocks._FETCH_BYTES", 2_000)
    rows = index_data(folder_of(tmp_path))
    chunks = [(len(places), sum(len(raw) for raw in raws)) for places, raws in fetched(rows)]  # type: ignore[arg-type]
    assert chunks[0][0] == 32, "nothing is known of their size yet"
    assert all(size <= 2_100 for _, size in chunks[1:])
    assert sum(number for number, _ in chunks) == 100


def test_threads_give_every_result_once_and_no_more_than_asked_for() -> None:
    begun = []

    def numbers() -> Any:
        for number in range(1000):
            begun.append(number)
            yield number

    results = map_threads(lambda number: number * 2, numbers())
    first = next(results)
    assert len(begun) < 200, "blocks are made as they are needed"
    assert sorted([first, *results]) == list(range(0, 2000, 2))


def test_an_error_in_a_thread_ends_it_all() -> None:
    def fails(number: int) -> int:
        if number == 3:
            raise OSError("disk")
        return number

    with pytest.raises(OSError, match="disk"):
        list(map_threads(fails, range(10_000)))


def test_names_of_files_are_shown_on_one_line() -> None:
    assert printable("a\nb\tc\udcff\x1b[31m") == r"a\nb\tc\udcff\x1b[31m"
