"""Pictures, sources and rows for the tests of raymix.data."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raymix.data.rows import Rows
from raymix.spec import Data, DigitsSource


def drawn(seed: int = 0, width: int = 12, height: int = 9) -> Image.Image:
    """A picture of noise, a different one for each seed."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image as a file of the given kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, seed: int = 0) -> Path:
    """A picture at `path`, of the kind that its suffix names; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(seed).save(path)
    return path


def data(train: dict[str, Any], **fields: Any) -> Data:
    """The data section of a job."""
    return Data.model_validate_json(
        Data(train=train, **fields).model_dump_json(), strict=True
    )  # as a YAML file gives it


def rows_of(counts: list[int], num_val: int = 0, num_unlabelled: int = 0) -> Rows:
    """Rows without files: `counts[c]` of class c, some validation rows, some without a label."""
    train = np.repeat(np.arange(len(counts)), counts)
    labels = np.concatenate([train, np.full(num_unlabelled, -1), np.arange(num_val) % len(counts)]).astype(np.int64)
    names = tuple(f"class{c}" for c in range(len(counts)))
    uris = [f"{i}" for i in range(len(labels))]
    return Rows.of(DigitsSource(format="digits"), uris, labels, names, len(labels) - num_val)
