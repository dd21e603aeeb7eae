"""Tiles (data.tile): what trains, where each image is cut into T of them.

An image stays a row of the index, of the splits and of everything that judges, so that no split cuts through one and
each counts once. Training alone goes by tile: tile t of the image with row id i has the id i * T + t, and the label of
its image. Without tiles T is 1, and the two are the same.
"""

from __future__ import annotations

import numpy as np

from raymix.data.rows import Ids


def tiles_of(ids: Ids, num_tiles: int) -> Ids:
    """Ids of all tiles of some images, (len(ids) * T,): those of one image are neighbours."""
    return ids if num_tiles == 1 else (ids[:, None] * num_tiles + np.arange(num_tiles)).reshape(-1)


def images_of(ids: Ids, num_tiles: int) -> Ids:
    """The row ids of the images that some tiles are of, in their shape."""
    return ids if num_tiles == 1 else ids // num_tiles
