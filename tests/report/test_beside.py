"""What lies beside a report: it comes back as it was written, and is left out where it cannot be read."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raymix.report.beside import Beside, beside, png, write_foretold, write_samples
from raymix.report.folder import write_text
from raymix.report.html import page
from tests.report.factory import make_beside, make_pilot, make_run, make_samples


def test_it_comes_back(tmp_path: Path) -> None:
    found = make_beside(price=2.0)
    assert found.foretold is not None
    assert found.samples is not None
    write_foretold(tmp_path, found.foretold)
    write_samples(tmp_path, found.samples)
    (tmp_path / "resolved.json").write_text(json.dumps({"name": "demo", "seed": 0}))
    assert beside(tmp_path) == found
    again = found.foretold.model_copy(update={"source": "later"})
    write_foretold(tmp_path, again)
    assert beside(tmp_path) == found, "what was foretold when the run began stands"


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"rows": 3}', "\x00"])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, content: str | None) -> None:
    for name in ("forecast.json", "samples.json"):
        if content is not None:
            (tmp_path / name).write_text(content)
    assert beside(tmp_path) == Beside()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_every_pixel(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    image = Image.open(io.BytesIO(base64.b64decode(png(pixels))))
    assert np.array_equal(np.asarray(image).reshape(5, 7, channels), pixels)


def test_a_pilot_shows_the_samples_of_its_lead(tmp_path: Path) -> None:
    report = make_pilot(1, lengths=(1.0,))
    folder = tmp_path / Path(report.arms["mix"][0].report).parent
    folder.mkdir(parents=True)
    write_text(folder / "report.json", make_run().model_dump_json())
    assert "Sample images" not in page(tmp_path, report)
    write_samples(folder, make_samples())
    text = page(tmp_path, report)
    assert "Sample images, as mix sees them" in text
    assert text.count("data:image/png;base64,") == 12
