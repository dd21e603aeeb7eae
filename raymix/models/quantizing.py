"""A float ONNX graph as int8: static QDQ quantisation by onnxruntime, calibrated on training images of the run.

What is known to hurt transformers stays in float: softmax, norms, GELU and products of two activations (Yuan et al.
2022, PTQ4ViT, arXiv 2111.12293; Lin et al. 2022, FQ-ViT, arXiv 2111.13824), and so does the classifier.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raymix.data.frame import Pixels
from raymix.train.supply import as_tensor

_OPS = ["Conv", "Gemm", "MatMul"]
_BATCH = 32  # images that set ranges together


def to_int8(source: Path, target: Path, pixels: Pixels) -> None:
    """Writes the graph in `source` as int8 to `target`.

    Weights have a scale for each output channel, in 7 of the 8 bits: on CPUs without VNNI sums of products of 8 bits
    overflow in the middle of an instruction (a ViT-Nano of 94.0 % on digits came to 84.2 % by 8 bits on such a CPU, to
    94.7 % by 7). Activations have one range each, the smallest and largest value seen.

    Args:
        pixels: Images (N, S, S, C) as stored, from which the ranges are.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = source.with_suffix(".prepared.onnx")
    with _quiet():
        quant_pre_process(source, prepared)
        quantize_static(
            prepared,
            target,
            _Reader(pixels, _input_of(prepared)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPS,
            nodes_to_exclude=[_classifier(prepared)],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"MatMulConstBOnly": True},
        )
    prepared.unlink()


class _Reader:
    """The images, a batch at a time, as onnxruntime's calibration asks for them."""

    def __init__(self, pixels: Pixels, name: str) -> None:
        self._batches = ({name: as_tensor(part).numpy()} for part in _parts(pixels))

    def get_next(self) -> dict[str, Any] | None:
        """The next batch; None: there is none left."""
        return next(self._batches, None)


def _parts(pixels: Pixels) -> Iterator[Pixels]:
    for start in range(0, len(pixels), _BATCH):
        yield pixels[start : start + _BATCH]


def _input_of(path: Path) -> str:
    import onnx

    name: str = onnx.load(path).graph.input[0].name
    return name


def _classifier(path: Path) -> str:
    """The last node with weights: the one that makes the logits."""
    import onnx

    name: str = [node.name for node in onnx.load(path).graph.node if node.op_type in _OPS][-1]
    return name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what onnxruntime tells the root logger, about itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
