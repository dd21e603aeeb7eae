"""The mean of gradients over all ranks, where a step is recorded and DistributedDataParallel does not make it."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def average(tensors: list[Tensor], group: dist.ProcessGroup | None = None) -> None:
    """Replaces tensors of one type by their mean over the ranks of a group, in place, in one all-reduce.

    It waits for nothing on the host, so that NCCL's may be recorded in a CUDA graph. Every rank gives the same shapes.
    """
    flat = torch.cat([value.flatten() for value in tensors])
    dist.all_reduce(flat, group=group)
    flat /= dist.get_world_size(group)
    pieces = torch.split(flat, [value.numel() for value in tensors])
    torch._foreach_copy_(tensors, [piece.view(value.shape) for piece, value in zip(pieces, tensors, strict=True)])
