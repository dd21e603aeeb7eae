"""Images are kept where they fit, and streamed where they do not."""

from __future__ import annotations

import pytest
from pictures import data

from raymix.data.frame import Frame
from raymix.data.keep import WINDOW_BYTES, is_kept, streamed_run
from raymix.spec import JobError, Tile

FRAME = Frame(64)  # 12,288 bytes an image


@pytest.mark.parametrize(
    ("cache", "room", "kept"),
    [
        ("auto", 12_288_000, True),
        ("auto", 12_287_999, False),
        ("host", 12_288_000, True),
        ("device", 12_288_000, True),
        ("stream", 10**12, False),
    ],
)
def test_auto_decides_by_bytes(cache: str, room: int, kept: bool) -> None:
    assert is_kept(data({"format": "digits"}, cache=cache), 1000, FRAME, room) == kept


@pytest.mark.parametrize("cache", ["host", "device"])
def test_what_does_not_fit_cannot_be_kept(cache: str) -> None:
    with pytest.raises(JobError) as caught:
        is_kept(data({"format": "digits"}, cache=cache), 1000, FRAME, 10**6)
    assert str(caught.value) == (
        "data.cache: 12.3 MB of images do not fit into the 1 MB that a node has for them (use auto or stream)"
    )


@pytest.mark.parametrize(
    ("run", "size", "expected"), [(1, 64, 1), (64, 64, 64), (256, 64, 113), (256, 256, 7), (9, 4096, 1)]
)
def test_a_window_of_runs_stays_within_its_bytes(run: int, size: int, expected: int) -> None:
    assert streamed_run(run, Frame(size)) == expected
    assert expected == 1 or 48 * expected * Frame(size).nbytes <= WINDOW_BYTES


def test_all_tiles_of_an_image_are_read_together() -> None:
    """However large: read apart, each would cost the decoding of the whole image."""
    assert streamed_run(1, FRAME._replace(tile=Tile(grid=(3, 4)))) == 12
    assert streamed_run(256, FRAME._replace(tile=Tile(grid=(3, 4)))) == 12 * 9
    assert streamed_run(1, Frame(512, tile=Tile(grid=(16, 16)))) == 256
