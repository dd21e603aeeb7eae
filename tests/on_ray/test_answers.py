"""Images through a model on Ray: what comes back is what comes of the same in this process, in the same order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raymix.data.formats import index_source
from raymix.data.frame import Frame, Pixels
from raymix.data.images import Answered
from raymix.data.reading import read_in_order
from raymix.on_ray.answers import answers_on_ray
from raymix.spec import Cluster, ImageFolderSource, Tile
from tests.conftest import image_tree_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("attached")]


def means(pixels: Pixels) -> np.ndarray:
    assert len(pixels) <= 4, "a batch"
    return pixels.reshape(len(pixels), -1, 3).mean(1, dtype=np.float32)


@pytest.mark.parametrize("tile", [None, Tile(grid=(2, 3))])
def test_answers_of_two_actors_are_those_of_this_process(tile: Tile | None, tmp_path: Path) -> None:
    tree = image_tree_of(tmp_path / "images", per_class=9)
    (tree / "class1" / "000.jpg").write_bytes(b"no image")
    rows, frame = index_source(ImageFolderSource(format="image_folder", path=str(tree)), "source"), Frame(16, tile=tile)
    ids = np.arange(len(rows))[::-1]
    here = [Answered(part.ids, means(part.pixels), part.skipped) for part in read_in_order(rows, ids, frame, 4)]
    there = list(answers_on_ray(means, rows, ids, frame, 4, Cluster(workers=2)))
    assert len(there) > 1, "several blocks"
    for name in ("ids", "values"):
        mine, other = (np.concatenate([getattr(answer, name) for answer in found]) for found in (here, there))
        np.testing.assert_array_equal(mine, other)
    assert {k: v for answer in there for k, v in answer.skipped.items()} == {9: "not an image"}
