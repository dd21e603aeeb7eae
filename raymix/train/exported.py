"""What an exported model's folder says of itself, in `model.json`: what it takes, what it gives."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raymix.data.frame import Frame
from raymix.report.figure import Interval
from raymix.spec import Channels, JobSpec, Region, Section, Tile

ABOUT, TENSORS = "model.json", "model.safetensors"
PARTS = ("f.", "h.")  # of raymix's model: backbone and classifier

Format = Literal["safetensors", "onnx", "torch_export"]


class Transform(Section):
    """From an image file to what the model takes; normalisation is a part of the model."""

    steps: tuple[str, ...]
    size: int
    channels: Channels
    dtype: Literal["uint8", "int16"]
    layout: Literal["NHWC"] = "NHWC"
    region: Region | None = None
    tile: Tile | None = None

    @classmethod
    def of(cls, frame: Frame) -> Transform:
        """What `raymix.data.decode` does, in words."""
        colours = {
            "rgb": "to RGB, transparency on white",
            "gray": "to one grey channel of 8 bits",
            "gray16": "to one grey channel of 16 bits (8-bit values times 257), its bits in int16",
        }
        steps = (
            "decode; of an animation the first frame",
            "turn as EXIF says",
            colours[frame.channels],
            *_cuts(frame),
            f"resize the shorter side to {frame.size} pixels, bicubic, antialiased",
            f"crop the centre, {frame.size} x {frame.size}",
        )
        return cls(
            steps=steps,
            size=frame.size,
            channels=frame.channels,
            dtype="int16" if frame.channels == "gray16" else "uint8",
            region=frame.region,
            tile=frame.tile,
        )

    @property
    def frame(self) -> Frame:
        """As raymix has it."""
        return Frame(self.size, self.channels, self.region, self.tile)


def _cuts(frame: Frame) -> list[str]:
    """What is cut out of an upright image before it is resized."""
    cuts = []
    if frame.region is not None:
        cuts.append(f"cut out [left, top, right, bottom] = {list(frame.region)}, in shares")
    if frame.tile is not None:
        rows, columns = frame.tile.grid
        shared = f", neighbours sharing {frame.tile.overlap:g} of a tile's side" if frame.tile.overlap else ""
        cuts.append(f"cut into {rows} rows of {columns} equal tiles{shared}, row by row; of each tile the following")
    return cuts


# of a model that works on tiles
TILE_INPUT = "tiles of images (N, S, S, C) as `transform` gives them"


def tile_output(tile: Tile) -> str:
    """What comes of them, and what it says of the images."""
    pooled = {
        "mean": "the mean of the softmax of all of its tiles",
        "max": "of each class the highest softmax of any of its tiles, scaled to add up to 1",
    }[tile.pool]
    return f"logits (N, classes) of each tile, in the order of class_names; an image's probabilities are {pooled}"


class Side(Section):
    """One form of the model beside the others: how good, how large, how quick."""

    name: str
    top1: float | None = Field(description="percent of the val images that all sides were shown; null: not told")
    score: float | None = Field(None, description="the same by the job's metric, in percent; null: not told")
    lost: Interval | None = Field(
        None, description="points less than the original, by the job's metric, paired by image"
    )
    bytes: int
    latency_ms: dict[int, float] = Field(description="images at once -> milliseconds, on the CPU that exported it")


class Blocks(Section):
    """What a block of raymix's own ViT has left."""

    units: int = Field(ge=1, description="hidden units of its perceptron")
    heads: int = Field(ge=1)


class About(Section):
    """`model.json`."""

    format: Format
    name: str
    class_names: tuple[str, ...]
    transform: Transform
    input: str = "images (N, S, S, C) as `transform` gives them"
    output: str = "logits (N, classes), in the order of class_names; softmax makes probabilities of them"
    spec: JobSpec
    max_difference: float
    checked_images: int
    bytes: int
    latency_ms: dict[int, float]
    sides: tuple[Side, ...] = Field((), description="the original first, what was exported last")
    judged_images: int = Field(0, description="val images that they were judged on")
    quantize: Literal["none", "int8"] = "none"
    cut: Blocks | None = Field(None, description="null: its blocks are whole")
