"""`raymix bench data`: how fast and how lean images are read, each figure against a named rival in the same run."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
import typer
from rich.console import Console

from raymix.bench import cached
from raymix.bench.decoding import bench_read
from raymix.bench.figures import Asked, Figure, table
from raymix.bench.memory import bench_memory
from raymix.bench.pictures import Pictures, drawn, found
from raymix.bench.streaming import bench_stream
from raymix.data.blocks import num_cores
from raymix.runfolder import in_ray_job
from raymix.spec import JobError, JobSpec
from raymix.train.device import first_device, name_of
from raymix.train.execute import set_up_process

CPU_THREADS = 2


@dataclass(frozen=True)
class Sizes:
    """How much each part reads."""

    rounds: int = 3
    epochs: int = 3
    read: int = 100_000
    cache_bytes: int = 2**30
    stream_bytes: int = 2 * 2**30
    store_bytes: int = 200_000_000
    cached_rows: int = 9_000
    cached_seconds: float = 5.0
    hostile: int = 10_000
    bombs: int = 1_000


class Bench(NamedTuple):
    """What a part is told."""

    pictures: Pictures | None  # None: no part that was asked for reads any
    device: torch.device
    sizes: Sizes
    spec: JobSpec  # that `cached` trains

    @property
    def images(self) -> Pictures:
        """The images, where there are some."""
        assert self.pictures is not None
        return self.pictures


def main(path: Path | None, parts: Sequence[str], images: int, json_out: bool, sizes: Sizes | None = None) -> None:
    """Measures and prints, as JSON or as a table.

    Raises:
        JobError: there is no such part or folder, or this runs inside a Ray job.
    """
    for part in parts:
        if part not in PARTS:
            raise JobError("--part", f"no part is called {part}", f"the parts are {', '.join(PARTS)}")
    if in_ray_job():
        raise JobError("raymix bench data", "measures one machine with a Ray of its own", "run it outside of a Ray job")
    device = first_device()
    before = torch.get_num_threads()
    set_up_process(device, CPU_THREADS if device.type == "cpu" else before)
    try:
        result = measure(path, parts or tuple(PARTS), images, device, sizes or Sizes())
    finally:
        torch.set_num_threads(before)
    figures = [(part, figure) for part, done in result["parts"].items() for figure in done["figures"]]
    for done in result["parts"].values():
        done["figures"] = [figure.as_json() for figure in done["figures"]]
    if json_out:
        typer.echo(json.dumps(result, indent=2))
    else:
        _print(result, figures)


def measure(path: Path | None, parts: Sequence[str], images: int, device: torch.device, sizes: Sizes) -> dict[str, Any]:
    """The parts asked for, in the order of `PARTS`, and what they were measured on."""
    with _pictures(path, images, bool(_READING & set(parts))) as pictures:
        bench = Bench(pictures, device, sizes, cached.setting(device))
        done = {}
        for part, run in PARTS.items():
            if part in parts:
                typer.echo(f"measuring {part} ...", err=True)
                done[part] = run(bench)
    return {
        "parts": done,
        "device": name_of(device),
        "cores": num_cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ray": version("ray"),
    }


@contextmanager
def _pictures(path: Path | None, num: int, wanted: bool) -> Iterator[Pictures | None]:
    """The images of a folder, or drawn ones in a folder that is thrown away."""
    if not wanted:
        yield None
    elif path is not None:
        yield found(path)
    else:
        with tempfile.TemporaryDirectory(prefix="raymix-bench-") as folder:
            typer.echo(f"drawing {num:,} images ...", err=True)
            yield drawn(Path(folder) / "images", num)


def _memory(bench: Bench) -> dict[str, Any]:
    sizes = bench.sizes
    return bench_memory(bench.images, sizes.cache_bytes, sizes.stream_bytes, sizes.store_bytes)


def _hostile(bench: Bench) -> dict[str, Any]:
    from raymix.bench.hostile import bench_hostile

    result = bench_hostile(bench.sizes.hostile, bench.sizes.bombs)
    images, bombs = result["images"], result["bombs"]
    figures = [
        Figure("images not as expected", "", images["num_wrong"], asked=Asked("<=", 0, "measured")),
        Figure("bombs, growth", "MiB", bombs["growth_mebibytes"], asked=Asked("<", 300, "measured")),
        Figure("bombs, slowest", "CPU s", bombs["slowest_cpu_seconds"], asked=Asked("<=", 1, "measured")),
    ]
    return {"figures": figures, **result}


def _augment(bench: Bench) -> dict[str, Any]:
    from raymix.bench.augment import SETTINGS, bench_augment

    result = bench_augment(bench.device)
    figures = []
    for name in SETTINGS:
        row = result[name]
        mine, other = row["raymix_images_per_second"], row["torchvision_images_per_second"]
        what = f"augmented, {name.replace('_', ' and ')}"
        figures.append(Figure(what, "images/s", mine, "torchvision v2, image by image", other, row["ratio"]))
    return {"figures": figures, **result}


# memory comes first: what other parts leave in this process would hide what it takes
PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "memory": _memory,
    "stream": lambda bench: bench_stream(bench.images, bench.sizes.rounds, bench.sizes.epochs),
    "read": lambda bench: bench_read(bench.images, bench.sizes.read, bench.sizes.rounds),
    "cached": lambda bench: cached.bench_cached(
        bench.spec, bench.device, bench.sizes.cached_rows, bench.sizes.cached_seconds
    ),
    "hostile": _hostile,
    "augment": _augment,
}
_READING = {"memory", "stream", "read"}


def _print(result: dict[str, Any], figures: Sequence[tuple[str, Figure]]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)  # a pipe has no edge to wrap at
    console.print(table(figures))
    missed = sum(figure.ok is False for _, figure in figures)
    asked = sum(figure.ok is not None for _, figure in figures)
    console.print(
        f"{asked - missed} of {asked} figures reach what they must, on {result['device']}, {result['cores']} cores, "
        f"python {result['python']}, torch {result['torch']}, ray {result['ray']}."
    )
