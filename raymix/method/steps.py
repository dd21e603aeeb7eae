"""MixTraining's steps (Li et al., arXiv 2502.19513), as the formulas of the method:

    ssl:  L = g(f(view(x)))
    sl:   L = CE(h(f(x)), y)
    mix:  L = w * g(f(view(x))) + (1 - w) * CE(h(f(view(x))), y)        one pass of f serves both

x images (as stored, B S S C), y labels (B,), f backbone, g SSL objective, h classifier, w weight in [0, 1],
v view, z tokens (B, L, D), L loss, m the token that stands for hidden patches. Mixup or cutmix may come after the view
of x, where the classifier has a pass of its own; in a shared one if the job says so.

Each step is a module of its own that holds only what it trains, so that DDP finds a gradient for every parameter.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raymix.method import backbones, draw, lora, mixing, objectives
from raymix.method.backbones import START, Backbone, How, Layered, Tapped
from raymix.method.draw import Key
from raymix.method.mixing import Mixing, Pair
from raymix.method.objectives import Objective, View
from raymix.method.views import Augment
from raymix.plan import Facts, Kind
from raymix.spec import MIX_KINDS, JobSpec, Passes

CPU = torch.device("cpu")


class Batch(NamedTuple):
    """This rank's share of a batch."""

    x_BSSC: Tensor  # images as stored: uint8, or 16 bits in int16
    y_B: Tensor  # int64 labels, -1 where there is none
    key_B: Key  # of the rows' random draws
    scale: Tensor  # workers / labelled rows of the global batch that h sees, 0 without any; float32 ()


class Model(nn.Module):
    """Everything that is trained.

    Raises:
        JobError: the backbone cannot be made, or is code that `how` does not allow.
    """

    def __init__(self, spec: JobSpec, num_classes: int, how: How = START) -> None:
        super().__init__()
        self.a = Augment(spec.data.augment, spec.data.image_size, spec.data.num_channels)
        self.f = backbones.build(spec, how)
        self.g: Objective = objectives.build(spec, self.a, self.f)
        self.h = backbones.Classifier(self.f.width, num_classes)
        self.mixing = mixing.build(spec.data.augment)
        hides = spec.objective.type == "mae" and "full" in spec.passes(self.f.drops)
        self.m = MaskToken(self.f.token_shape) if hides else None
        # last, so that all else starts as it does without
        self.adapters = lora.Adapters(self.f, spec.lora) if spec.lora is not None else None

    def up_to(self, on: bool) -> Backbone | Tapped:
        """f as g needs it: where g decodes from within, its tokens there, with `on` beside its last ones."""
        block = self.g.decode_from
        if block is None:
            return self.f
        assert isinstance(self.f, Layered), "raymix.method.fit refuses others"
        return Tapped(self.f, block, on)

    @torch.no_grad()
    def classify(self, x_BSSC: Tensor) -> Tensor:
        """Logits (B, classes) of stored images, without augmentation."""
        if self.adapters is not None:
            self.adapters.show()
        logits: Tensor = self.h(self.f(self.a.clean(x_BSSC)))
        return logits


class MaskToken(nn.Module):
    """m: what stands for hidden patches where all are computed."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.empty(shape))
        nn.init.normal_(self.token, std=0.02)


def look(f: Backbone | Tapped, v: View, m: MaskToken | None, key_B: Key | None = None) -> tuple[Tensor, Tensor]:
    """z = f(v) as g gets it and as h does: the same, unless g decodes from within f.

    Of the visible patches alone (B, K, D); with m, which stands for the hidden ones, of all (B, L, D). While training
    `key_B` says which rows skip what, where a job asks for that.
    """
    if m is None or v.hide_BM is None:
        z: Tensor | tuple[Tensor, Tensor] = f(v.x_BCHW, v.keep_BK, key_B=key_B)
    else:
        hidden_BL = torch.zeros(len(v.x_BCHW), f.num_patches, dtype=torch.bool, device=v.x_BCHW.device)
        hidden_BL.scatter_(1, v.hide_BM, True)
        z = f(v.x_BCHW, hidden_BL=hidden_BL, token=m.token, key_B=key_B)
    return z if isinstance(z, tuple) else (z, z)


class CrossEntropy(nn.Module):
    """CE: the sum over this rank's labelled rows times workers over their global number.

    DDP averages over ranks, so the mean over the global batch's labelled rows comes out whichever ranks hold them; a
    rank without labels adds 0 * logits. Of mixed images: lambda * CE(y) + (1 - lambda) * CE(the partner's y).

    With factors u_K of the classes, u(y) * CE(y) in place of CE(y); the number of rows stays what it is divided by, so
    that factors of 1 on average leave the loss as large as it was.
    """

    u_K: Tensor | None

    def __init__(self, smoothing: float, u_K: Tensor | None = None) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("u_K", u_K, persistent=False)

    def forward(self, logits: Tensor, y: Tensor, scale: Tensor, pair: Pair | None = None) -> Tensor:
        logits = logits.float()
        if pair is None and self.u_K is None:
            return F.cross_entropy(logits, y, ignore_index=-1, reduction="sum", label_smoothing=self.smoothing) * scale
        if pair is None:
            return self._of_each(logits, y).sum() * scale
        own, other = (self._of_each(logits, labels) for labels in (y, pair.label_B))
        # an image that is not mixed has lambda 1, whatever its partner is
        return torch.lerp(other, own, pair.own_B).sum() * scale

    def _of_each(self, logits: Tensor, y: Tensor) -> Tensor:
        """(B,), 0 where there is no label."""
        each = F.cross_entropy(logits, y, ignore_index=-1, reduction="none", label_smoothing=self.smoothing)
        return each if self.u_K is None else self.u_K[y.clamp(min=0)] * each


def mixed(mixing: Mixing | None, x_BCHW: Tensor, batch: Batch) -> tuple[Tensor, Pair | None]:
    """The images of a supervised pass after mixup or cutmix, where a job asks for these."""
    return mixing(x_BCHW, batch.y_B, batch.key_B) if mixing is not None else (x_BCHW, None)


def outcome(L: Tensor, ssl: Tensor | None, sl: Tensor | None, hits: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loss, and what is reported of the step: SSL loss, SL loss, labelled rows classified rightly; float32 (3,).

    A mixed image is classified rightly where its own label comes out.
    """
    zero = torch.zeros((), device=L.device)
    parts = [zero if part is None else part.detach().float() for part in (ssl, sl, hits)]
    return L, torch.stack(parts)


class SslStep(nn.Module):
    """L = g(f(view(x))); masked: of the visible patches alone; full: of all, m standing for the hidden ones."""

    def __init__(self, model: Model, ssl_pass: str) -> None:
        super().__init__()
        self.f, self.g = model.up_to(on=False), model.g
        self.m = model.m if ssl_pass == "full" else None

    def forward(self, batch: Batch, w: Tensor) -> tuple[Tensor, Tensor]:
        v = self.g.view(batch.x_BSSC, batch.key_B)
        z, _ = look(self.f, v, self.m, batch.key_B)
        L = self.g(z, v)
        return outcome(L, ssl=L, sl=None, hits=None)


class SlStep(nn.Module):
    """L = CE(h(f(x)), y); with `drop`, f sees only the patches that a masked mix step would see."""

    def __init__(self, model: Model, ce: CrossEntropy, drop: bool = False) -> None:
        super().__init__()
        self.f, self.h, self.a, self.mixing, self.ce = model.f, model.h, model.a, model.mixing, ce
        self.view = model.g.view if drop else None  # a bound method: g's parameters do not become this step's

    def forward(self, batch: Batch, w: Tensor) -> tuple[Tensor, Tensor]:
        if self.view is None:
            x, keep = self.a(batch.x_BSSC, batch.key_B), None
        else:
            v = self.view(batch.x_BSSC, batch.key_B, "sl_drop")
            x, keep = v.x_BCHW, v.keep_BK
        x, pair = mixed(self.mixing, x, batch)
        logits = self.h(self.f(x, keep, key_B=batch.key_B))
        L = self.ce(logits, batch.y_B, batch.scale, pair)
        return outcome(L, ssl=None, sl=L, hits=(logits.argmax(1) == batch.y_B).sum())


class MixStep(nn.Module):
    """L = w * g(z) + (1 - w) * CE(h(z), y), z = f(view(x)).

    masked: the visible patches alone feed both losses (as in SupMAE, Liang et al., arXiv 2205.14540); with
    `schedule.whole_rows` they feed g alone, and the first rows go through f once more, whole, for h;
    full: all places are computed, m standing for the hidden patches;
    separate: z as in ssl steps for g and z' = f(x) for h, two passes (as in SSAT, Das et al., arXiv 2310.20704).
    """

    def __init__(self, model: Model, spec: JobSpec, passes: Passes, kind: Kind, ce: CrossEntropy) -> None:
        super().__init__()
        self.kind = kind
        self.f, self.g, self.h, self.mixing = model.f, model.g, model.h, model.mixing
        self.shares = passes.mix != "separate" and not spec.schedule.whole_rows
        self.up_to = model.up_to(on=self.shares)
        self.mix_shared = spec.data.augment.mix_shared and self.shares
        seen = passes.ssl if passes.mix == "separate" else passes.mix
        self.m = model.m if seen == "full" else None
        self.num_whole, self.ce = spec.num_whole, ce

    def forward(self, batch: Batch, w: Tensor) -> tuple[Tensor, Tensor]:
        v, y, scale = self.g.view(batch.x_BSSC, batch.key_B, self.kind), batch.y_B, batch.scale
        pair = None
        if self.mix_shared:
            x, pair = mixed(self.mixing, v.x_BCHW, batch)
            v = v._replace(x_BCHW=x)
        z_g, z = look(self.up_to, v, self.m, batch.key_B)
        if not self.shares:
            x, part = self._whole(batch, v)
            x, pair = mixed(self.mixing, x, part)
            y, logits = part.y_B, self.h(self.f(x, key_B=part.key_B))
        else:
            n = v.num_classified
            logits = self.h(z if n == v.num_views else z[: n * len(y)])
            if n > 1:
                y, scale = y.repeat(n), scale / n
        ssl, sl = self.g(z_g, v), self.ce(logits, y, scale, pair)
        L = w * ssl + (1 - w) * sl
        y = y[: len(batch.y_B)]  # of the first views
        return outcome(L, ssl=ssl, sl=sl, hits=(logits[: len(y)].argmax(1) == y).sum())

    def _whole(self, batch: Batch, v: View) -> tuple[Tensor, Batch]:
        """The images that h sees whole, and their part of the batch: its first rows, as augmented for g, or all."""
        num = self.num_whole(len(batch.y_B))
        if not num:
            return self.g.augment(batch.x_BSSC, batch.key_B), batch
        key_B = draw.as_tensor(batch.key_B)
        return v.x_BCHW[:num], Batch(batch.x_BSSC[:num], batch.y_B[:num], key_B[:num], batch.scale)


def class_weights(spec: JobSpec, facts: Facts, device: torch.device = CPU) -> Tensor | None:
    """u_K, float32: factors on the supervised loss of each class's images (`optim.class_weights`); None: all are 1."""
    asked = spec.optim.class_weights
    if asked is None:
        return None
    if isinstance(asked, dict):
        return torch.tensor([asked.get(name, 1.0) for name in facts.class_names], device=device)
    assert facts.class_rows, "rows were counted by class"
    rows_K = torch.tensor(facts.class_rows, dtype=torch.float64).clamp(min=1)
    return (facts.num_labelled / (facts.num_classes * rows_K)).float().to(device)


def build(spec: JobSpec, model: Model, kind: Kind, u_K: Tensor | None = None) -> nn.Module:
    """The step of a kind; `u_K` as `class_weights` gives it."""
    passes, ce = spec.passes(model.f.drops), CrossEntropy(spec.optim.label_smoothing, u_K)
    if kind == "ssl":
        return SslStep(model, passes.ssl)
    if kind in MIX_KINDS and spec.has_ssl_loss(kind):
        return MixStep(model, spec, passes, kind, ce)
    return SlStep(model, ce, drop=kind == "sl_drop")
