"""The rival of `raymix bench loop` and `bench steps`: what one would write by hand for this work, in plain PyTorch.

It shares the modules of the model with raymix, and what quickens recorded steps, and nothing else: random numbers come
from torch's generator, images lie on the device, one fused AdamW, no waiting for the device before the end. Keep it as
fast as plain PyTorch gets: with `fast` the whole loss is compiled as one graph and the whole step replayed as a CUDA
graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from raymix.method.objectives import View
from raymix.method.steps import Model
from raymix.spec import Optim
from raymix.train.device import quicken

WARM_UPS = 3


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how."""

    kind: str  # ssl, mix or sl
    optim: Optim
    batch: int
    crop: tuple[float, float]  # smallest and largest share of the area
    num_patches: int
    num_visible: int
    weight: float  # of the SSL loss in mix steps
    autocast: torch.dtype | None
    fast: bool = False
    augment: bool = True


class PlainLoop:
    """Trains the model on images (N, 3, S, S) uint8 and labels (N,), both on the device."""

    def __init__(self, model: Model, images: Tensor, labels: Tensor, recipe: Recipe) -> None:
        self.model, self.images, self.labels, self.recipe = model, images, labels, recipe
        self.device, optim = images.device, recipe.optim
        self.mean = 255 * torch.tensor([0.485, 0.456, 0.406], device=self.device).view(3, 1, 1)
        self.std = 255 * torch.tensor([0.229, 0.224, 0.225], device=self.device).view(3, 1, 1)
        decayed = [p for p in model.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if p.ndim != 2]
        groups = [{"params": decayed, "weight_decay": optim.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.lr = torch.tensor(optim.lr, device=self.device)
        self.optimizer = torch.optim.AdamW(
            groups, lr=self.lr, betas=optim.betas, fused=True, capturable=self.device.type == "cuda"
        )
        self.x, self.y = images[: recipe.batch].clone(), labels[: recipe.batch].clone()
        self.total = torch.zeros((), device=self.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.model.train()
        if recipe.fast:
            self._speed_up()

    def run(self, steps: int) -> float:
        """Trains `steps` steps of one warm-up and cosine; returns their mean loss."""
        batch = self.recipe.batch
        self.total.zero_()
        order, start = self.order(), 0
        for step in range(steps):
            if start + batch > len(order):
                order, start = self.order(), 0
            rows, start = order[start : start + batch], start + batch
            self.lr.fill_(learning_rate(self.recipe.optim, (step + 0.5) / steps))
            torch.index_select(self.images, 0, rows, out=self.x)
            torch.index_select(self.labels, 0, rows, out=self.y)
            self.step()
        return self.total.item() / steps

    def order(self) -> Tensor:
        """The rows of one epoch, in the order in which they are taken."""
        return torch.randperm(len(self.images), device=self.device)

    def again(self, steps: int) -> None:
        """`steps` steps on the batch that is there."""
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        """One optimizer step on the images `x` and labels `y`."""
        if self.graph is not None:
            self.graph.replay()
        else:
            self._step()

    def _step(self) -> None:
        autocast = self.recipe.autocast
        with torch.autocast(self.device.type, autocast, enabled=autocast is not None):
            loss = self.loss(self.x, self.y)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.total += loss.detach()

    def _speed_up(self) -> None:
        """Compiles the loss and, on a GPU, records the step."""
        torch._dynamo.config.recompile_limit = 64
        self.loss = torch.compile(self.loss, dynamic=False)  # type: ignore[method-assign]
        if self.device.type != "cuda":
            return
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.again(WARM_UPS)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step()
        self.graph = graph
        quicken()

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of one batch: MAE, supervised, or both from one pass over the visible patches."""
        recipe, model = self.recipe, self.model
        x = self.augment(images) if recipe.augment else (images.float() - self.mean) / self.std
        if recipe.kind == "sl":
            return self.cross_entropy(model.h(model.f(x)), labels)
        order = torch.rand(len(x), recipe.num_patches, device=self.device).argsort(1)
        view = View(x, order[:, : recipe.num_visible], order[:, recipe.num_visible :])
        tokens = model.f(x, view.keep_BK)
        drawn: Tensor = model.g(tokens, view)
        if recipe.kind == "ssl":
            return drawn
        classified = self.cross_entropy(model.h(tokens), labels)
        return recipe.weight * drawn + (1 - recipe.weight) * classified

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean over the batch."""
        return F.cross_entropy(logits, labels, label_smoothing=self.recipe.optim.label_smoothing)

    @torch.no_grad()
    def augment(self, images: Tensor) -> Tensor:
        """Random resized crop and flip of a whole batch on the device, normalised."""
        batch, (smallest, largest) = len(images), self.recipe.crop
        area, aspect, left, top, flip = torch.rand(5, batch, device=self.device)
        side = (smallest + (largest - smallest) * area).sqrt()
        stretch = torch.exp((aspect - 0.5) * math.log(4 / 3))
        width, height = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
        x, y = (2 * left - 1) * (1 - width), (2 * top - 1) * (1 - height)
        none, mirrored = torch.zeros_like(x), torch.where(flip < 0.5, width, -width)
        theta = torch.stack((mirrored, none, x, none, height, y), 1).view(batch, 2, 3)
        with torch.autocast(self.device.type, enabled=False):
            grid = F.affine_grid(theta, list(images.shape), align_corners=False)
            cropped = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
        return (cropped - self.mean) / self.std


def learning_rate(optim: Optim, progress: float) -> float:
    """Linear warm-up, then cosine to zero."""
    if progress < optim.warmup:
        return optim.lr * progress / optim.warmup
    return optim.lr * 0.5 * (1 + math.cos(math.pi * (progress - optim.warmup) / (1 - optim.warmup)))
