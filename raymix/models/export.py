"""`raymix export`: the model as a file that needs no raymix, held against the original on real images of the run."""

from __future__ import annotations

import importlib
import statistics
import time
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
from raymix.models.card import card
from raymix.models.flow import Asked
from raymix.models.own import Own, own_rows
from raymix.models.writing import check_folder, new_folder
from raymix.session import RunFailed
from raymix.spec import Export, JobError
from raymix.train.exported import ABOUT, PARTS, TENSORS, About, Format, Transform
from raymix.train.model import Trained, load
from raymix.train.supply import as_tensor

_TIMED, _LEAST = 0.5, 5  # seconds and passes that a latency is the median of
_OPSET = 18

Logits = Callable[[Pixels], NDArray[np.float32]]


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
        out: The folder; None: `export/<format>` in the run's own.

    Returns:
        The folder, and what `model.json` says.

    Raises:
        JobError: the run, its data or an option is wrong, or a package is missing.
        RunFailed: the exported model's logits differ by more than `spec.tolerance`; nothing is left.
    """
    written = FORMATS[format_name]
    for package in written.needs:
        check_installed(package)
    folder = out or asked.run / "export" / format_name
    check_folder(folder, ABOUT, "an export", overwrite)
    own = own_rows(asked.run)
    trained = load(asked.run, asked.allow_import, best=spec.checkpoint == "best")
    pixels = _images(own, trained, spec.images)
    with new_folder(folder) as part:
        written.write(trained, pixels, part / written.file)
        about = _about(asked, format_name, spec, trained, pixels, part)
        (part / "README.md").write_text(card(own, about, spec, written.file), encoding="utf-8")
    return folder, about


def _about(asked: Asked, format_name: Format, spec: Export, trained: Trained, pixels: Pixels, part: Path) -> About:
    """What is found when the file is opened and looked at; written as `model.json`."""
    written = FORMATS[format_name]
    bare = About(
        format=format_name,
        name=trained.spec.name,
        class_names=trained.class_names,
        transform=Transform.of(trained.frame),
        spec=trained.spec,
        max_difference=0.0,
        checked_images=len(pixels),
        bytes=sum(path.stat().st_size for path in part.iterdir()),
        latency_ms={},
    )
    (part / ABOUT).write_text(bare.model_dump_json(indent=1))  # raymix's own loader reads it
    logits = written.read(part / written.file, asked)
    difference = _difference(trained, logits, pixels, spec.batch)
    if not difference <= spec.tolerance:
        told = f"logits as {format_name} differ by {difference:.3g} from the original on {len(pixels)} images"
        raise RunFailed(f"{told}, more than tolerance={spec.tolerance:g}; nothing was written")
    latency = {size: _latency(logits, _repeated(pixels, size)) for size in (1, spec.batch)}
    about = bare.model_copy(update={"max_difference": difference, "latency_ms": latency})
    (part / ABOUT).write_text(about.model_dump_json(indent=1) + "\n")
    return about


def check_installed(package: str) -> None:
    """Raises JobError where a package of the extra is not there."""
    try:
        importlib.import_module(package)
    except ImportError:
        raise JobError("--format", f"needs {package}, which is not installed", "pip install 'raymix[export]'") from None


def _images(own: Own, trained: Trained, num: int) -> Pixels:
    """Up to `num` val images of the run, evenly over them; those that can be read."""
    places = np.unique(np.linspace(0, len(own.val) - 1, num).astype(np.int64))
    parts = [part.pixels for part in read_in_order(own.rows, own.val[places], trained.frame, num)]
    pixels: Pixels = np.concatenate(parts)
    if not len(pixels):
        raise JobError("RUN", "none of the run's val images can be read any more")
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


def _latency(logits: Logits, pixels: Pixels) -> float:
    """Milliseconds of a pass, the median."""
    logits(pixels)
    times: list[float] = []
    while len(times) < _LEAST or sum(times) < _TIMED:
        started = time.perf_counter()
        logits(pixels)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def _repeated(pixels: Pixels, num: int) -> Pixels:
    repeated: Pixels = pixels[np.arange(num) % len(pixels)]
    return repeated


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
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def logits(pixels: Pixels) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run(None, {name: as_tensor(pixels).numpy()})[0]
        return found

    return logits


def _program(trained: Trained, pixels: Pixels) -> torch.export.ExportedProgram:
    """The graph from stored images to logits, for any number of images."""
    example = as_tensor(_repeated(pixels, 2))
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
