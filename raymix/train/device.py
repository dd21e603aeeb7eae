"""What a device is called, and which of torch's kernels it is kept from."""

from __future__ import annotations

import torch


def choose_attention() -> None:
    """Keeps attention on GPUs from cuDNN's kernels, which torch from 2.11 on prefers on Hopper and Blackwell.

    Their backward pass gives NaN where the number of tokens is 64 beyond a multiple of 128, as a ViT's on 64 px has it,
    and the logits of a query are all far below zero (pytorch issue 196678).
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def first_device() -> torch.device:
    """What a process computes on that trains by itself: its first GPU, where there is one."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def name_of(device: torch.device) -> str:
    """The device in words: its maker's name for it, or CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
