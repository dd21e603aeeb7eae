"""A run of a second on drawn images, and a folder of them in which one is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

import raymix
from raymix.train import measure
from tests.conftest import Raymix, image_tree_of, spec_in


@pytest.fixture(scope="package")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on 3 classes of 20 images, 16 px."""
    folder = tmp_path_factory.mktemp("models")
    tree = image_tree_of(folder / "images")
    data = {"train": {"format": "image_folder", "path": str(tree)}, "image_size": 16, "fraction": 1.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "TIMED", 1)
        raymix.run(spec_in(folder, data, backbone={"size": "nano", "patch": 4}, optim={"batch": 12}), quiet=True)
    return folder / "runs" / "digits"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Class folders with 7 images each; the second one of the first class is broken."""
    tree = image_tree_of(tmp_path / "new", per_class=7, size=24, seed=1)
    (tree / "class0" / "001.jpg").write_bytes(b"no image")
    return tree


@pytest.fixture
def command(raymix: Raymix) -> Raymix:
    """`raymix` of all tests, by a name that leaves the package its own."""
    return raymix
