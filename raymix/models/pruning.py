"""Parts of a trained ViT taken out at export, without training it further."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from raymix.data.reading import read_in_order
from raymix.method.backbones import shrinking
from raymix.models.forms import evenly
from raymix.models.own import Own
from raymix.spec import Cut
from raymix.train.model import Trained
from raymix.train.supply import as_tensor

_BATCH = 32  # images whose loss says together what matters


def pruned(trained: Trained, own: Own, cut: Cut, num: int) -> Trained:
    """A copy without what matters least to the loss on up to `num` of the run's labelled training images.

    Raises:
        JobError: the backbone is not raymix's own ViT, or its blocks have too little to take so much out.
    """
    made = copy.deepcopy(trained)
    f = made.model.f
    cut.check_block(*shrinking.size_of(shrinking.blocks_of(f)[0]))
    shrinking.add_gates(f)
    shrinking.close(f, cut, shrinking.gradients(f, _losses(made, own, num)))
    shrinking.cut_off(f)
    return made


def _losses(trained: Trained, own: Own, num: int) -> Iterator[Tensor]:
    model = trained.model
    num_tiles = trained.frame.num_tiles
    for part in read_in_order(own.rows, evenly(own.labelled, num), trained.frame, max(1, _BATCH // num_tiles)):
        if len(part.ids):
            logits = model.h(model.f(model.a.clean(as_tensor(part.pixels).flatten(0, -4))))
            labels = own.rows.labels[part.ids].repeat(num_tiles)
            yield F.cross_entropy(logits, torch.from_numpy(labels))
