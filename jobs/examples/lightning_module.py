"""MixTraining in a Lightning module: python jobs/examples/lightning_module.py (20 seconds on one CPU core)

`Contrast` is somebody's SSL module: a small CNN, two views of a digit, SimCLR's loss. `MixedContrast` adds a
classifier and raymix.Schedule to it; the lines that do so end in `# <-`. A tenth of the digits has a label.
It prints which share of unseen digits is recognised, about 95 %: it shows the loop running and no more.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import raymix

BATCH, LR = 64, 3e-3


class Contrast(pl.LightningModule):
    """Somebody's module: features of which two views of an image find each other in the batch (SimCLR)."""

    def __init__(self, digits: TensorDataset) -> None:
        super().__init__()
        self.digits = digits
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(64 * 16, 128), nn.ReLU(),
        )  # fmt: skip
        self.projector = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 32))

    def views(self, x: Tensor) -> Tensor:
        """Two views of each image, turned, stretched and moved a little; first those of all, then the second ones."""
        both = torch.cat((x, x))
        theta = torch.eye(2, 3) + 0.15 * torch.randn(len(both), 2, 3)
        return F.grid_sample(both, F.affine_grid(theta, list(both.shape), align_corners=False), align_corners=False)

    def contrasting(self, z: Tensor) -> Tensor:
        """NT-Xent of the features of the views: each finds the other one of its image among all."""
        p = F.normalize(self.projector(z), dim=1)
        similar = (p @ p.T / 0.5).fill_diagonal_(-torch.inf)
        return F.cross_entropy(similar, torch.arange(len(p)).roll(len(p) // 2))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.contrasting(self.encoder(self.views(batch[0])))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=LR)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.digits, BATCH, shuffle=True)


class MixedContrast(Contrast):
    """The same with a classifier that learns beside and after the contrast."""

    def __init__(self, digits: TensorDataset, labels: np.ndarray) -> None:
        super().__init__(digits)
        self.head, self.labels = nn.Linear(128, 10), labels
        self.schedule = raymix.Schedule(  # <-
            num_images=len(labels), num_labelled=int((labels >= 0).sum()), labelled_share=0.25,  # <-
            batch=BATCH, lr=LR, ssl_epochs=20, sl_epochs=60, mix_ratio=0.5,  # <-
        )  # <-  # fmt: skip

    def classifying(self, z: Tensor, y: Tensor) -> Tensor:
        """The supervised loss of both views of the images that have a label."""
        return F.cross_entropy(self.head(z), torch.cat((y, y)), ignore_index=-1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        z = self.encoder(self.views(x))
        step = self.schedule[self.global_step]  # <-
        self.optimizers().param_groups[0]["lr"] = step.lr  # <-
        return step.loss(ssl=partial(self.contrasting, z), sl=partial(self.classifying, z, y))  # <-

    def train_dataloader(self) -> DataLoader[Any]:
        sampler = self.schedule.batches(self.labels, start=self.global_step)  # <-
        return DataLoader(self.digits, batch_sampler=sampler)  # <-


def main() -> None:
    """Trains and prints how many of the unseen digits come out right."""
    torch.set_num_threads(1)
    pl.seed_everything(0)
    pixels, classes = load_digits(return_X_y=True)
    pixels = pixels.astype(np.float32).reshape(-1, 1, 8, 8) / 16
    x, x_unseen, y, y_unseen = train_test_split(pixels, classes, test_size=0.25, random_state=0, stratify=classes)
    labels = np.where(np.random.default_rng(0).random(len(y)) < 0.1, y, -1)
    module = MixedContrast(TensorDataset(torch.from_numpy(x), torch.from_numpy(labels)), labels)
    trainer = pl.Trainer(
        max_epochs=1,  # <-  the schedule has all epochs in it
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    trainer.fit(module)
    with torch.no_grad():
        found = module.head(module.encoder(torch.from_numpy(x_unseen))).argmax(1).numpy()
    print(f"after {trainer.global_step} steps: {100 * (found == y_unseen).mean():.1f} %")


if __name__ == "__main__":
    main()
