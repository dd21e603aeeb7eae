"""What a device is called."""

from __future__ import annotations

import torch


def name_of(device: torch.device) -> str:
    """The device in words: its maker's name for it, or CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
