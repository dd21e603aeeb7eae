"""Augmentation alone: images a second of raymix's batched one, and of torchvision's transforms image by image."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from raymix.method import draw, mixing
from raymix.method.views import Augment
from raymix.spec import Augment as AugmentSpec
from raymix.train.measure import synchronise

BATCH, SIZE, NUM_CLASSES = 256, 64, 200
WINDOWS, WINDOW_SECONDS = 5, 0.5
SETTINGS = {
    "crop_flip": AugmentSpec(),
    "everything": AugmentSpec(
        color=0.4, hue=0.1, color_share=0.8, grayscale=0.2, blur=0.5, solarize=0.2, erase=0.25, mixup=0.2, cutmix=1.0
    ),
}


def bench_augment(device: torch.device) -> dict[str, Any]:
    """Images of 64 px a second, in batches of 256: raymix on `device`, torchvision on one process of the CPU.

    Both are measured in turns, medians of 5 windows of half a second. `ratio` is raymix over torchvision. torchvision's
    transforms take one image at a time, as in a data set's workers; mixup and cutmix take its batch.
    """
    generator = torch.Generator().manual_seed(0)
    x_BSSC = torch.randint(0, 256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator)
    y_B = torch.randint(0, NUM_CLASSES, (BATCH,), generator=generator)
    settings = {name: _compare(spec, x_BSSC, y_B, device) for name, spec in SETTINGS.items()}
    return {"batch": BATCH, "image_size": SIZE, "device": device.type, "threads": torch.get_num_threads(), **settings}


def _compare(spec: AugmentSpec, x_BSSC: Tensor, y_B: Tensor, device: torch.device) -> dict[str, float]:
    raymix, rival = _raymix(spec, x_BSSC.to(device), y_B.to(device)), _torchvision(spec, x_BSSC, y_B)
    rates: dict[str, list[float]] = {"raymix": [], "torchvision": []}
    for function in (raymix, rival):
        function()  # warms allocators up
    for _ in range(WINDOWS):
        rates["raymix"].append(_rate(raymix, device))
        rates["torchvision"].append(_rate(rival, torch.device("cpu")))
    raymix_rate, rival_rate = (statistics.median(found) for found in rates.values())
    return {
        "raymix_images_per_second": raymix_rate,
        "torchvision_images_per_second": rival_rate,
        "ratio": raymix_rate / rival_rate,
    }


def _rate(function: Callable[[], object], device: torch.device) -> float:
    """Images a second over one window; a device is waited for at the end of every 8 batches."""
    synchronise(device)
    done, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < WINDOW_SECONDS:
        for _ in range(8 if device.type == "cuda" else 1):
            function()
            done += BATCH
        synchronise(device)
    return done / seconds


def _raymix(spec: AugmentSpec, x_BSSC: Tensor, y_B: Tensor) -> Callable[[], object]:
    device = x_BSSC.device
    augment, mix = Augment(spec, SIZE).to(device), mixing.build(spec)
    mix = mix.to(device) if mix else None
    rows_B, epoch = torch.arange(BATCH, device=device), torch.zeros((), dtype=torch.int64, device=device)

    def batch() -> None:
        epoch.add_(1)  # no two batches alike
        key_B = draw.keys(0, epoch.expand(BATCH), rows_B)
        x_BCHW = augment(x_BSSC, key_B)
        if mix is not None:
            mix(x_BCHW, y_B, key_B)

    return batch


def _torchvision(spec: AugmentSpec, x_BSSC: Tensor, y_B: Tensor) -> Callable[[], object]:
    """The same settings in its words."""
    c = spec.color
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=spec.crop),
            v2.RandomHorizontalFlip(),
            *([v2.RandomApply([v2.ColorJitter(c, c, c, spec.hue)], spec.color_share)] if c else []),
            *([v2.RandomGrayscale(spec.grayscale)] if spec.grayscale else []),
            *([v2.RandomApply([v2.GaussianBlur(SIZE // 10 | 1, (0.1, 2.0))], spec.blur)] if spec.blur else []),
            *([v2.RandomSolarize(128, spec.solarize)] if spec.solarize else []),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            *([v2.RandomErasing(spec.erase)] if spec.erase else []),
        ]
    )
    mixes = [(v2.MixUp, spec.mixup), (v2.CutMix, spec.cutmix)]
    chosen = [kind(alpha=alpha, num_classes=NUM_CLASSES) for kind, alpha in mixes if alpha]
    mix = v2.RandomChoice(chosen) if chosen else None
    images = list(x_BSSC.permute(0, 3, 1, 2).contiguous())

    def batch() -> None:
        stacked = torch.stack([transform(image) for image in images])
        if mix is not None:
            mix(stacked, y_B)

    return batch
