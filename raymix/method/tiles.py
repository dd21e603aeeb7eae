"""From what the model says of an image's tiles to what it says of the image.

N images, T tiles of each, K classes, D features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def logits_of_images(logits: Tensor, num_tiles: int) -> Tensor:
    """(N * T, K) to (N, K): logits whose softmax is the mean of the tiles' softmax; T = 1: as they were."""
    if num_tiles == 1:
        return logits
    log_shares_NTK = logits.float().log_softmax(1).reshape(-1, num_tiles, logits.shape[1])
    return torch.logsumexp(log_shares_NTK, 1) - math.log(num_tiles)


def features_of_images(features: Tensor, num_tiles: int) -> Tensor:
    """(N * T, D) to (N, D): the mean over the tiles."""
    return features if num_tiles == 1 else features.reshape(-1, num_tiles, features.shape[1]).mean(1)
