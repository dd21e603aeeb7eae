"""`raymix export`: the model as a file that needs no raymix, held against the original on real images of the run."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from raymix.data.frame import Pixels
from raymix.data.reading import read_in_order
from raymix.data.rows import Ids
from raymix.method.backbones import shrinking
from raymix.models import quantizing
from raymix.models.card import card
from raymix.models.flow import Asked
from raymix.models.forms import Form, Logits, evenly, repeated, side_by_side
from raymix.models.own import Own, own_rows
from raymix.models.pruning import pruned
from raymix.models.writing import check_folder, new_folder
from raymix.session import RunFailed
from raymix.spec import VIT_SIZES, Export, JobError, Vit
from raymix.train.exported import (
    ABOUT,
    PARTS,
    TENSORS,
    TILE_INPUT,
    About,
    Blocks,
    Format,
    Transform,
    tile_output,
)
from raymix.train.model import Trained, load
from raymix.train.supply import as_tensor

_OPSET = 18


class Written(NamedTuple):
    """A format: the file's name, how it is written, and how logits are computed with what was written."""

    file: str
    write: Callable[[Trained, Pixels, Path], None]
    read: Callable[[Path, Asked], Logits]
    needs: tuple[str, ...] = ()  # packages of the extra raymix[export]


def export(
    asked: Asked, format_name: Format, spec: Export, out: Path | None, overwrite: bool = False
) -> tuple[Path, About]:
    """Writes a folder with the model, `model.json` (classes, transform, what was checked) and a card, `README.md`.

    Args:
        out: The folder; None: in the run's own `export/<format>`, or `export/onnx-int8`, `export/<format>-pruned`.

    Returns:
        The folder, and what `model.json` says.

    Raises:
        JobError: the run, its data or an option is wrong, or a package is missing.
        RunFailed: the exported model's logits differ by more than `spec.tolerance` (before they are quantised), or it
            loses more than `spec.max_lost` points; nothing is left.
    """
    written = FORMATS[format_name]
    if spec.quantize != "none" and format_name != "onnx":
        raise JobError("quantize", f"{spec.quantize} is written as ONNX, not as {format_name}", "pass --format onnx")
    for package in written.needs:
        check_installed(package)
    folder = out or asked.run / "export" / _folder(format_name, spec)
    check_folder(folder, ABOUT, "an export", overwrite)
    own = own_rows(asked.run)
    trained = load(asked.run, asked.allow_import, best=spec.checkpoint == "best")
    forms, made, which = [Form("torch, fp32", _of_module(trained), _num_bytes(trained))], trained, ""
    if spec.shrink is not None:
        made, which = pruned(trained, own, spec.shrink, spec.calibrate), ", pruned"
        forms.append(Form(f"torch, fp32{which}", _of_module(made), _num_bytes(made)))
    pixels = _images(own, own.val, trained, spec.images)
    with new_folder(folder) as part:
        about = _bare(format_name, spec, made, part)
        found = _written(asked, about, spec, made, own, pixels, part, which)
        if spec.quantize != "none":  # its float graph has the same logits, and took half of torch's time on a CPU
            forms[-1] = forms[-1]._replace(answers=found[0].logits)
        forms += found
        about = _looked_at(about, spec, made, own, pixels, forms)
        (part / ABOUT).write_text(about.model_dump_json(indent=1) + "\n")
        (part / "README.md").write_text(card(own, about, spec, written.file), encoding="utf-8")
    return folder, about


def _folder(format_name: Format, spec: Export) -> str:
    """Its name, where nobody names it."""
    parts = (format_name, "pruned" if spec.shrink else "", spec.quantize if spec.quantize != "none" else "")
    return "-".join(part for part in parts if part)


def _bare(format_name: Format, spec: Export, made: Trained, part: Path) -> About:
    """What is known of the model before it is looked at; written, since raymix's own loader reads it."""
    bare = About(
        format=format_name,
        name=made.spec.name,
        class_names=made.class_names,
        transform=Transform.of(made.frame),
        **({} if (tile := made.frame.tile) is None else {"input": TILE_INPUT, "output": tile_output(tile)}),
        spec=made.spec,
        max_difference=0.0,
        checked_images=0,
        bytes=0,
        latency_ms={},
        quantize=spec.quantize,
        cut=_cut(made),
    )
    (part / ABOUT).write_text(bare.model_dump_json(indent=1))
    return bare


def _written(
    asked: Asked, about: About, spec: Export, made: Trained, own: Own, pixels: Pixels, part: Path, which: str
) -> list[Form]:
    """Writes the file into `part`; returns what it is, after what it was before it was quantised, if it was.

    Raises:
        RunFailed: the logits of a float file are not the model's.
    """
    written, name = FORMATS[about.format], about.format
    with tempfile.TemporaryDirectory(prefix="raymix-export-") as folder:
        file = part / written.file
        first = file if spec.quantize == "none" else Path(folder) / written.file
        written.write(made, pixels, first)
        forms = [Form(f"{name}, fp32{which}", written.read(first, asked), first.stat().st_size)]
        difference = _difference(made, forms[0].logits, pixels, spec.batch)
        if not difference <= spec.tolerance:
            told = f"logits as {name} differ by {difference:.3g} from the original on {len(pixels)} images"
            raise RunFailed(f"{told}, more than tolerance={spec.tolerance:g}; nothing was written")
        if spec.quantize == "int8":
            quantizing.to_int8(first, file, _images(own, own.train, made, spec.calibrate))
            forms.append(Form(f"{name}, int8{which}", written.read(file, asked), file.stat().st_size))
    return forms


def _looked_at(about: About, spec: Export, made: Trained, own: Own, pixels: Pixels, forms: list[Form]) -> About:
    """With what is found when the file and what it came from are looked at.

    Raises:
        RunFailed: it loses more accuracy than it may.
    """
    changed = spec.quantize != "none" or spec.shrink is not None
    sides, num = side_by_side(forms, own, made.frame, spec, pixels, always=changed)
    update = {
        "max_difference": _difference(made, forms[-1].logits, pixels, spec.batch),
        "checked_images": len(pixels),
        "bytes": forms[-1].bytes,
        "latency_ms": sides[-1].latency_ms,
        "sides": sides,
        "judged_images": num,
    }
    return about.model_copy(update=update)


def _cut(trained: Trained) -> Blocks | None:
    """What its blocks have left, where that is not all."""
    asked, f = trained.spec.backbone, trained.model.f
    if not isinstance(asked, Vit):
        return None
    width, _, heads = VIT_SIZES[asked.size]
    found = shrinking.size_of(shrinking.blocks_of(f)[0])
    return None if found == (4 * width, heads) else Blocks(units=found[0], heads=found[1])


def _num_bytes(trained: Trained) -> int:
    """Of its weights, as they are in memory."""
    return sum(value.nbytes for name, value in trained.model.state_dict().items() if name.startswith(PARTS))


def check_installed(package: str) -> None:
    """Raises JobError where a package of the extra is not there."""
    try:
        importlib.import_module(package)
    except ImportError:
        raise JobError("--format", f"needs {package}, which is not installed", "pip install 'raymix[export]'") from None


def _images(own: Own, ids: Ids, trained: Trained, num: int) -> Pixels:
    """Up to `num` images of the run, evenly over `ids`, or of as many images one tile; those that can be read."""
    num_tiles, parts = trained.frame.num_tiles, list[Pixels]()
    for part in read_in_order(own.rows, evenly(ids, num), trained.frame, max(1, num // num_tiles)):
        places = np.arange(len(part.pixels))
        parts.append(part.pixels if num_tiles == 1 else part.pixels[places, places % num_tiles])
    pixels: Pixels = np.concatenate(parts)
    if not len(pixels):
        raise JobError("RUN", "none of the run's images that are wanted can be read any more")
    return pixels


def _difference(trained: Trained, logits: Logits, pixels: Pixels, batch: int) -> float:
    """The largest difference of a logit, in fp32 on the CPU; in batches, the last one ragged."""
    found = 0.0
    for start in range(0, len(pixels), batch):
        some = pixels[start : start + batch]
        with torch.inference_mode():
            own = trained(as_tensor(some)).numpy()
        found = max(found, float(np.abs(own - logits(some)).max()))
        if not np.isfinite(own).all():
            return float("nan")
    return found


# ---- formats ----------------------------------------------------------------------------------------------------


def _write_safetensors(trained: Trained, pixels: Pixels, path: Path) -> None:
    tensors = {name: tensor for name, tensor in trained.model.state_dict().items() if name.startswith(PARTS)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def _read_safetensors(path: Path, asked: Asked) -> Logits:
    return _of_module(load(path.parent, asked.allow_import))


def _write_torch_export(trained: Trained, pixels: Pixels, path: Path) -> None:
    torch.export.save(_program(trained, pixels), path)


def _read_torch_export(path: Path, asked: Asked) -> Logits:
    return _of_module(torch.export.load(path).module())


def _write_onnx(trained: Trained, pixels: Pixels, path: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own converter, about itself
        torch.onnx.export(
            _program(trained, pixels), (), path, input_names=["images"], output_names=["logits"],
            opset_version=_OPSET, dynamo=True, verbose=False, external_data=False,
        )  # fmt: skip


def _read_onnx(path: Path, asked: Asked) -> Logits:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    # threads that wait do not spin: forms are judged in turn, and spinning ones take the cores from whose turn it is
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def logits(pixels: Pixels) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(None, {name: as_tensor(pixels).numpy()})[0]
        return found

    return logits


def _program(trained: Trained, pixels: Pixels) -> torch.export.ExportedProgram:
    """The graph from stored images to logits, for any number of images."""
    example = as_tensor(repeated(pixels, 2))
    with torch.no_grad():
        return torch.export.export(_Bare(trained), (example,), dynamic_shapes=({0: torch.export.Dim("images")},))


class _Bare(torch.nn.Module):
    """Backbone and classifier alone: what SSL needs is not a part of the graph."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        model = trained.model
        self.a, self.f, self.h = model.a, model.f, model.h

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.h(self.f(self.a.clean(images)))
        return logits


def _of_module(module: Any) -> Logits:
    def logits(pixels: Pixels) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = module(as_tensor(pixels)).numpy()
        return found

    return logits


FORMATS: dict[Format, Written] = {
    "safetensors": Written(TENSORS, _write_safetensors, _read_safetensors),
    "onnx": Written("model.onnx", _write_onnx, _read_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "torch_export": Written("model.pt2", _write_torch_export, _read_torch_export),
}
