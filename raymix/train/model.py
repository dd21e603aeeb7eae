"""A trained model out of a run folder: a plain nn.Module with its transform and class names. Needs no Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from raymix.data.decode import decode
from raymix.data.frame import Frame
from raymix.jobfile import RESOLVED_FILE
from raymix.method import lora
from raymix.method.backbones import How, shrinking
from raymix.method.steps import Model
from raymix.method.tiles import features_of_images, logits_of_images
from raymix.plan import Plan
from raymix.spec import JobError, JobSpec, Tile
from raymix.train import checkpoint, exported
from raymix.train.kept import best_of, newest_of
from raymix.train.state import AVERAGED, MODEL
from raymix.train.supply import as_tensor

# both: logits, then features; located: logits, then for each class the tile that shows it best
Output = Literal["logits", "features", "both", "located"]


class Trained(nn.Module):
    """Backbone and classifier of a run.

    Attributes:
        class_names: in the order of the logits.
        frame: what `transform` gives.
        spec: the job that it was trained by.
    """

    def __init__(self, model: Model, class_names: tuple[str, ...], frame: Frame, spec: JobSpec) -> None:
        super().__init__()
        self.model, self.class_names, self.frame, self.spec = model, class_names, frame, spec

    def transform(self, image: str | Path | bytes) -> Tensor:
        """An image file, or its bytes, as training stored it: (S, S, C), of a job with tiles (T, S, S, C).

        Raises:
            raymix.data.decode.BadImage: it is not an image that can be read.
        """
        raw = image if isinstance(image, bytes) else Path(image).read_bytes()
        return as_tensor(decode(raw, self.frame))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, S, S, C) as `transform` gives them, S >= the model's image size.

        Of tiles (B, T, S, S, C) those of the images: their softmax is pooled of the tiles' softmax as data.tile says.
        """
        rows, tile = self._rows(images)
        return logits_of_images(self.model.classify(rows), tile)

    def embed(self, images: Tensor) -> Tensor:
        """Features (B, D) of the same images: the mean of the backbone's tokens, and of an image's tiles."""
        rows, tile = self._rows(images)
        return features_of_images(self.model.f(self.model.a.clean(rows)).mean(1), tile)

    def both(self, images: Tensor) -> Tensor:
        """Logits and features of the same images by one pass of the backbone, side by side: (B, classes + D)."""
        rows, tile = self._rows(images)
        tokens = self.model.f(self.model.a.clean(rows))
        parts = logits_of_images(self.model.h(tokens), tile), features_of_images(tokens.mean(1), tile)
        return torch.cat(parts, 1)

    def located(self, images: Tensor) -> Tensor:
        """Logits, and of each class the number of the tile that has its highest probability: (B, 2 * classes)."""
        rows, tile = self._rows(images)
        tiles = self.model.classify(rows)
        highest_BK = tiles.float().softmax(1).reshape(-1, self.frame.num_tiles, tiles.shape[1]).argmax(1)
        return torch.cat([logits_of_images(tiles, tile).float(), highest_BK.float()], 1)

    def _rows(self, images: Tensor) -> tuple[Tensor, Tile | None]:
        """(B, S, S, C) as it is, (B, T, S, S, C) as (B * T, S, S, C); and what T rows are the tiles of."""
        return images.flatten(0, -4), self.frame.tile if images.ndim == 5 else None

    def width(self, output: Output) -> int:
        """Values of an image."""
        classes, features = len(self.class_names), self.model.f.width
        widths: dict[Output, int] = {
            "logits": classes,
            "features": features,
            "both": classes + features,
            "located": 2 * classes,
        }
        return widths[output]


def load(run: Path, allow_import: tuple[str, ...] = (), best: bool = False) -> Trained:
    """The newest checkpoint of a run that verifies, or the `best` on select rows, in evaluation mode on the CPU.

    What was masked is cut off, and adapters are a part of the weights.

    Of a folder that `raymix export --format safetensors` wrote, the model in it.

    Raises:
        JobError: the folder holds no run, or no checkpoint that verifies; its backbone may not be imported.
    """
    if (run / exported.ABOUT).is_file():
        return _exported(run, allow_import)
    try:
        plan = Plan.model_validate_json((run / "plan.json").read_text())
        size = json.loads((run / RESOLVED_FILE).read_text())["data"]["store_size"]
    except (OSError, ValueError, KeyError) as error:
        raise JobError(str(run), f"holds no run: {type(error).__name__}: {error}", "name a run folder") from None
    path, spec = (best_of if best else newest_of)(run, checkpoint.run_of(plan.spec)), plan.spec
    model = Model(spec.model_copy(update={"lora": None}), plan.facts.num_classes, How(allow_import, start=False))
    prefix = AVERAGED if spec.evaluate.weights == "ema" else MODEL  # those whose accuracy the run reports
    try:
        tensors = load_file(path / checkpoint.TENSORS)
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        model.load_state_dict(tensors if spec.lora is None else lora.merged(tensors, spec.lora))
    except (SafetensorError, RuntimeError, KeyError) as error:  # hashed all the same: by another raymix, or by an enemy
        problem = " ".join(str(error).split())[:300]
        raise JobError(str(run), f"checkpoint {path.name} does not fit the run: {problem}") from None
    if spec.shrink is not None:
        shrinking.cut_off(model.f)
    frame = Frame(size, spec.data.channels, spec.data.region, spec.data.tile)
    return Trained(model, plan.facts.class_names, frame, spec).eval()


def _exported(folder: Path, allow_import: tuple[str, ...]) -> Trained:
    try:
        about = exported.About.model_validate_json((folder / exported.ABOUT).read_bytes())
    except (OSError, ValueError) as error:
        raise JobError(str(folder), f"{exported.ABOUT} cannot be read: {' '.join(str(error).split())[:300]}") from None
    if about.format != "safetensors":
        raise JobError(str(folder), f"holds a model as {about.format}", "raymix reads runs and --format safetensors")
    bare = about.spec.model_copy(update={"shrink": None, "lora": None})
    model = Model(bare, len(about.class_names), How(allow_import, start=False))
    if about.cut is not None:
        shrinking.resize(model.f, about.cut.units, about.cut.heads)
    try:
        absent, unknown = model.load_state_dict(load_file(folder / exported.TENSORS), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        problem = " ".join(str(error).split())[:300]
        raise JobError(str(folder), f"{exported.TENSORS} does not fit {exported.ABOUT}: {problem}") from None
    lost = [name for name in absent if name.startswith(exported.PARTS)]  # what SSL alone needs is not exported
    if lost or unknown:
        problem = f"lacks {lost[0]}" if lost else f"has {unknown[0]}, which the model has not"
        raise JobError(str(folder), f"{exported.TENSORS} {problem}", "export the run anew")
    return Trained(model, about.class_names, about.transform.frame, about.spec).eval()
