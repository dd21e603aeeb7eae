"""`raymix bench predict`: images a second of `raymix predict` over a bare loop over torch's DataLoader, same model.

The bare loop decodes with torchvision's ImageFolder in as many processes as there are cores and takes the likeliest
class; raymix finds broken images, keeps the order and writes a CSV file besides.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import typer
from rich.console import Console

from raymix.bench.figures import Asked, Figure, median_ratio, table
from raymix.bench.pictures import Pictures, drawn, found
from raymix.bench.resident import Watch
from raymix.data.blocks import num_cores
from raymix.data.rows import Rows
from raymix.datacmd import How
from raymix.method.backbones import How as Made
from raymix.method.steps import Model
from raymix.models.work import write_predictions
from raymix.spec import Cluster, Data, DigitsSource, ImagesSource, JobSpec, Mae, Predict, Vit
from raymix.train.device import first_device, name_of
from raymix.train.model import Trained

NUM_CLASSES = 200
_MIB = 2**20


class Size(NamedTuple):
    """How much is measured."""

    images: int = 15_000
    rounds: int = 3
    batch: int = 256
    backbone: str = "tiny"


def main(path: Path | None, size: Size, json_out: bool) -> None:
    """Measures and prints, as JSON or as a table.

    Raises:
        JobError: there is no such folder.
    """
    with tempfile.TemporaryDirectory(prefix="raymix-bench-") as folder:
        if path is None:
            typer.echo(f"drawing {size.images:,} images ...", err=True)
        pictures = (drawn(Path(folder) / "images", size.images) if path is None else found(path)).times(size.images)
        result = measure(pictures, size, Path(folder))
    figures: list[Figure] = result["figures"]
    if json_out:
        typer.echo(json.dumps({**result, "figures": [figure.as_json() for figure in figures]}, indent=2))
        return
    console = Console(highlight=False, width=None if Console().is_terminal else 160)
    console.print(table([("predict", figure) for figure in figures]))


def measure(pictures: Pictures, size: Size, folder: Path) -> dict[str, Any]:
    """Turns of both sides, one after the other; memory of raymix's over all images and over twice as many."""
    trained = _model(pictures, size.backbone)
    sides: dict[str, Callable[[], None]] = {
        "raymix": lambda: _predict(trained, pictures, size, folder),
        "DataLoader": lambda: _bare(trained, pictures, size),
    }
    peaks = []
    # allocators have grown to what they need after the first one (measured: nothing more up to 45,000 images)
    for some in (pictures, pictures, pictures.times(2 * len(pictures.rows))):
        with Watch() as watch:
            _predict(trained, some, size, folder)
        peaks.append(watch.peak)
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(size.rounds):
        for side, take in sides.items():
            started = time.perf_counter()
            take()
            rates[side].append(len(pictures.rows) / (time.perf_counter() - started))
    median = {side: statistics.median(of_side) for side, of_side in rates.items()}
    ratio = median_ratio(rates["raymix"], rates["DataLoader"])
    name = "bare DataLoader loop"
    mine, other = peaks[2] / _MIB, peaks[1] / _MIB
    return {
        "figures": [
            Figure("predict", "images/s", median["raymix"], name, median["DataLoader"], ratio, Asked(">=", 0.9)),
            Figure(
                "peak memory, twice the images",
                "MiB",
                mine,
                "half of the images",
                other,
                mine / other,
                Asked("<=", 1.1),
            ),
        ],
        "ratio": ratio,
        "rates": rates,
        "peak_bytes": peaks,
        **size._asdict(),
        "device": name_of(first_device()),
        "cores": num_cores(),
        "torch": torch.__version__,
    }


def _model(pictures: Pictures, backbone: str) -> Trained:
    """A ViT as it is before training: what it computes costs the same."""
    side = pictures.frame.size
    spec = JobSpec(
        name="bench-predict",
        data=Data(train=DigitsSource(format="digits"), image_size=side - side % 8),
        backbone=Vit.model_validate({"size": backbone, "patch": 8}),
        objective=Mae(type="mae"),
    )
    model = Model(spec, NUM_CLASSES, Made(start=False))
    return Trained(model, tuple(f"class{i}" for i in range(NUM_CLASSES)), pictures.frame, spec).eval()


def _predict(trained: Trained, pictures: Pictures, size: Size, folder: Path) -> None:
    rows: Rows = pictures.rows
    source = ImagesSource(format="images", path=pictures.root)
    spec = Predict(source=source, batch=size.batch, cluster=Cluster(workers=0))
    write_predictions(trained, (rows, pictures.ids), spec, folder / "predicted.csv", How(quiet=True))


def _bare(trained: Trained, pictures: Pictures, size: Size) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    side, device = pictures.frame.size, first_device()
    resized = [] if pictures.uniform else [v2.Resize(side), v2.CenterCrop(side)]
    images = ImageFolder(pictures.root, transform=v2.Compose([*resized, v2.PILToTensor()]))
    some = torch.utils.data.Subset(images, [place % len(images) for place in range(len(pictures.rows))])
    loader = torch.utils.data.DataLoader(some, batch_size=size.batch, num_workers=num_cores())
    classes = []
    with torch.inference_mode():
        for x_BCSS, _ in loader:
            classes.append(trained.to(device)(x_BCSS.permute(0, 2, 3, 1).to(device)).argmax(1))
