"""Small real datasets, drawn with PIL."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from containers import sources as container_sources
from pictures import write


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two classes of three images."""
    root = tmp_path / "images"
    for seed, name in enumerate(("a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png", "b/3.png")):
        write(root / name, seed)
    return root


@pytest.fixture
def tiny_imagenet(tmp_path: Path) -> Path:
    """TinyImageNet's layout: two classes of two training and one validation image."""
    root = tmp_path / "tiny"
    for seed, wnid in enumerate(("n01", "n02")):
        write(root / "train" / wnid / "images" / f"{wnid}_0.JPEG", seed)
        write(root / "train" / wnid / "images" / f"{wnid}_1.JPEG", 10 + seed)
        write(root / "val" / "images" / f"val_{seed}.JPEG", 20 + seed)
    (root / "val" / "val_annotations.txt").write_text("val_1.JPEG\tn01\t0\t0\t62\t62\nval_0.JPEG\tn02\t0\t0\t62\t62\n")
    return root


@pytest.fixture
def table(image_folder: Path) -> Path:
    """A CSV beside the two classes of three images, one of them without a label."""
    path = image_folder / "labels.csv"
    names = [f"{label}/{number}.png" for label in "ab" for number in (1, 2, 3)]
    path.write_text("file,label\n" + "".join(f"{name},{name[0] if name != 'b/3.png' else ''}\n" for name in names))
    return path


@pytest.fixture
def source(image_folder: Path, table: Path, tiny_imagenet: Path, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """A small source of each format."""
    sources = {
        "image_folder": {"format": "image_folder", "path": str(image_folder)},
        "images": {"format": "images", "path": str(image_folder)},
        "table": {"format": "table", "path": str(table)},
        "tiny_imagenet": {"format": "tiny_imagenet", "path": str(tiny_imagenet)},
        "digits": {"format": "digits"},
    }
    containers = container_sources(tmp_path)
    return functools.cache(lambda name: containers[name]() if name in containers else sources[name])
