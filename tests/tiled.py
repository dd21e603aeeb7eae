"""Large images that differ by a small mark alone, and a job on them: what the tests of tiles share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raymix.jobfile import load_spec
from raymix.spec import JobSpec

SIDE = 512
GRID = (2, 2)
_STRIPE = 16  # pixels: half a pixel of the image at 16 px, where two of them are gone, and a whole one of a tile


def mark_of(number: int) -> tuple[int, int]:
    """Row and column of the tile that has the mark in the bad image of that number."""
    return divmod(number % 4, 2)


def marked_tree(root: Path, per_class: int = 64) -> Path:
    """Folders `bad` and `good`: coarse grey noise, to which bad images have stripes added in one tile of GRID.

    A dark and a bright stripe lie on each block of the noise, so that its mean stays what it was.
    """
    random = np.random.default_rng(0)
    for label in ("bad", "good"):
        (root / label).mkdir(parents=True)
        for number in range(per_class):
            blocks = random.integers(96, 160, (SIDE // (2 * _STRIPE),) * 2)
            image = blocks.repeat(2 * _STRIPE, 0).repeat(2 * _STRIPE, 1)
            if label == "bad":
                row, column = mark_of(number)
                top, left = row * 256 + 64, column * 256 + 64
                image[top : top + 128, left : left + 128] += np.tile([-90, 90], 4).repeat(_STRIPE)
            Image.fromarray(image.astype(np.uint8)).save(root / label / f"{number:03d}.png")
    return root


def tiled_job(tree: Path, *overrides: str, grid: tuple[int, int] | None = GRID) -> JobSpec:
    """A job of seconds on them at 16 px, in tiles or, with None, as a whole."""
    tile = {} if grid is None else {"tile": {"grid": list(grid)}}
    job: dict[str, Any] = {
        "name": "tiled",
        "storage": str(tree.parent / "runs"),
        "data": {
            "train": {"format": "image_folder", "path": str(tree)},
            "holdout": 0.25,
            "image_size": 16,
            "store_size": 16,
            "channels": "gray",
            "augment": {"crop": [0.9, 1.0]},
            **tile,
        },
        "backbone": {"type": "vit", "size": "nano", "patch": 4},
        "schedule": {"ssl_epochs": 1, "sl_epochs": 14, "mix_ratio": 0},
        "optim": {"batch": 24, "lr": 3e-3},
        "cluster": {"workers": 0},
    }
    return load_spec(job, list(overrides))
