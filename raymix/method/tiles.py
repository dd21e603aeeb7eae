"""From what the model says of an image's tiles to what it says of the image.

N images, T tiles of each, K classes, D features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from raymix.spec import Tile


def logits_of_images(logits: Tensor, tile: Tile | None) -> Tensor:
    """(N * T, K) to (N, K): logits whose softmax is pooled of the tiles' softmax as `tile` says; None: as they were.

    Max pooling, of each class the highest probability, is that of multiple-instance learning (Ilse et al. 2018, arXiv
    1802.04712).
    """
    if tile is None:
        return logits
    log_shares_NTK = logits.float().log_softmax(1).reshape(-1, tile.num, logits.shape[1])
    if tile.pool == "max":
        return log_shares_NTK.amax(1)
    return torch.logsumexp(log_shares_NTK, 1) - math.log(tile.num)


def features_of_images(features: Tensor, tile: Tile | None) -> Tensor:
    """(N * T, D) to (N, D): the mean over the tiles; None: as they were."""
    return features if tile is None else features.reshape(-1, tile.num, features.shape[1]).mean(1)
