"""The images that `raymix bench data` reads: a folder of the user's, or JPEGs drawn to be as hard as real ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from raymix.data.find import find_source
from raymix.data.formats import index_data
from raymix.data.frame import Frame
from raymix.data.rows import Ids, Rows
from raymix.spec import Data, JobError

SIZE = 64  # pixels a side of what is drawn, and of what is kept where images have several sizes
NUM_CLASSES = 20
_SAMPLE = 1_000  # images whose sizes are compared
_GREY_SHARE = 0.02  # of real photographs; they need a conversion
_NOISE = 12.0  # standard deviation of the texture; files come out at about 2 kB


class Pictures(NamedTuple):
    """Images in class folders, one file each, that raymix and its rivals read."""

    root: str  # the folder of class folders
    rows: Rows
    frame: Frame
    uniform: bool  # all images are squares of the frame's size: nobody has to resize

    def times(self, num: int) -> Pictures:
        """The first `num` rows of the list repeated: as many images as asked for, whatever there is."""
        return self._replace(rows=self.rows.take(np.arange(num) % len(self.rows)))

    @property
    def ids(self) -> Ids:
        """All rows."""
        return np.arange(len(self.rows))

    @property
    def nbytes(self) -> int:
        """Of all images, decoded."""
        return len(self.rows) * self.frame.nbytes


def found(path: Path) -> Pictures:
    """The training images of a folder of class folders, or in TinyImageNet's layout.

    Raises:
        JobError: there is no such folder, or it has another layout.
    """
    source = find_source(str(path), None, "--path")
    if source["format"] not in ("image_folder", "tiny_imagenet"):
        raise JobError("--path", f"{path} is {source['format']}", "give class folders of images, or TinyImageNet")
    rows = index_data(Data.model_validate({"train": source}))
    within = source["format"] == "tiny_imagenet" or bool(rows.is_val.any())
    num = int(np.count_nonzero(~rows.is_val))  # validation rows come last
    sizes = {_size_of(rows.uris[place]) for place in np.unique(np.linspace(0, num - 1, _SAMPLE).astype(int))}
    width, height = min(sizes)
    uniform = len(sizes) == 1 and width == height
    made = Pictures(
        os.path.join(path, "train") if within else str(path), rows, Frame(width if uniform else SIZE), uniform
    )
    return made.times(num)


def drawn(folder: Path, num: int) -> Pictures:
    """`num` JPEGs in class folders below `folder`."""
    random = np.random.default_rng(0)
    for i in range(num):
        path = folder / f"class{i % NUM_CLASSES:02}" / f"{i:06}.jpg"
        if i < NUM_CLASSES:
            path.parent.mkdir(parents=True)
        _draw(random).save(path, quality=75)
    return found(folder)


def _draw(random: np.random.Generator) -> Image.Image:
    """Smooth colours, a few shapes, and texture over them."""
    image = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(
        (SIZE, SIZE), Image.Resampling.BICUBIC
    )
    pen = ImageDraw.Draw(image)
    for _ in range(3):
        (left, top), (width, height) = (
            random.integers(0, SIZE - 8, 2).tolist(),
            random.integers(8, SIZE // 2, 2).tolist(),
        )
        pen.ellipse((left, top, left + width, top + height), fill=tuple(random.integers(0, 256, 3).tolist()))
    texture = random.normal(0, _NOISE, (SIZE, SIZE, 1))
    image = Image.fromarray((np.asarray(image) + texture).clip(0, 255).astype(np.uint8))
    return image.convert("L") if random.random() < _GREY_SHARE else image


def _size_of(path: str) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise JobError("--path", f"{path} cannot be read: {error}", "raymix data check lists what is broken") from None
