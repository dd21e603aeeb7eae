"""Small models with random weights everywhere, and batches of noise, for the tests of raymix.method."""

from __future__ import annotations

from typing import Any

import torch

from raymix.jobfile import load_spec
from raymix.method import draw
from raymix.method.steps import Batch, Model
from raymix.spec import JobSpec

CLASSES = 5
OBJECTIVES: dict[str, dict[str, Any]] = {
    "mae": {"type": "mae", "mask_ratio": 0.75, "mix_mask_ratio": 0.5, "decoder_width": 32, "decoder_depth": 1},
    "simclr": {"type": "simclr", "projector_width": 24, "output_width": 8},
}


def spec_of(objective: str = "mae", shared_pass: str = "auto", **sections: Any) -> JobSpec:
    """A job of 8x8 images in patches of 2 on the smallest backbone."""
    augment = sections.pop("augment", {"crop": [0.6, 1.0]})
    options = sections.pop("objective_options", {})
    channels = sections.pop("channels", "rgb")
    return load_spec(
        {
            "name": "small",
            "data": {"train": {"format": "digits"}, "image_size": 8, "augment": augment, "channels": channels},
            "backbone": {"size": "nano", "patch": 2},
            "objective": {**OBJECTIVES[objective], **options},
            "schedule": {"shared_pass": shared_pass},
            "optim": {"batch": 6},
            "cluster": {"workers": 0},
            **sections,
        }
    )


def model_of(spec: JobSpec) -> Model:
    """A model none of whose parameters is zero, so that a wrong formula cannot hide behind one."""
    torch.manual_seed(0)
    model = Model(spec, CLASSES)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def batch_of(labels: list[int], seed: int = 0, size: int = 8, workers: int = 1, channels: str = "rgb") -> Batch:
    """Images of noise with these labels (-1: none), rows 0 to B - 1 of epoch 0."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(labels), size, size, 3 if channels == "rgb" else 1)
    if channels == "gray16":
        x_BSSC = torch.randint(-(2**15), 2**15, shape, dtype=torch.int16, generator=generator)
    else:
        x_BSSC = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    y_B = torch.tensor(labels)
    rows_B = torch.arange(len(labels))
    num = int((y_B >= 0).sum())
    scale = torch.tensor(workers / num if num else 0.0)
    return Batch(x_BSSC, y_B, draw.keys(seed, torch.zeros_like(rows_B), rows_B), scale)
