"""Tiles on three real workers, kept and streamed: what they report is what one process says of the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raymix import load_model, run
from raymix.data.formats import index_data
from raymix.data.splits import split
from raymix.report.intervals import unpack_correct
from tests.tiled import marked_tree, tiled_job

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("attached")]


@pytest.mark.parametrize("cache", ["host", "stream"])
def test_three_workers_judge_images_as_one_process_does(cache: str, tmp_path: Path) -> None:
    tree = marked_tree(tmp_path / "images")
    (tree / "good" / "003.png").write_bytes(b"no image")
    more = ("cluster.workers=3", f"data.cache={cache}", "data.max_bad_fraction=0.1", "schedule.sl_epochs=6")
    spec = tiled_job(tree, *more)
    report = run(spec)
    assert report.final is not None
    assert report.images is not None
    assert (report.images.kept, report.workers) == (cache, 3)
    rows = index_data(spec.data)
    splits = split(rows, spec.data, spec.seed)
    readable = [row for row in splits.val if not rows.uris[row].endswith("good/003.png")]
    assert report.rows.skipped == {"not an image": 1}
    assert (report.rows.tiles, report.rows.val) == (4, len(readable))
    model = load_model(Path(spec.storage) / spec.name)
    said = [int(model(model.transform(rows.uris[row])[None]).argmax()) for row in readable]
    correct = unpack_correct(report.final.correct, report.final.num_val)
    assert np.array_equal(correct, np.array(said) == rows.labels[readable])
    assert sum(correct) > 0
