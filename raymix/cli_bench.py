"""`raymix bench`: how fast raymix itself is, against what one would write without it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raymix.cli_common import AsJson, help_alone

Pictures = Annotated[
    Path | None,
    typer.Option(
        "--path", metavar="DIR", help="Class folders of images, or TinyImageNet; without it, images are drawn."
    ),
]
bench_app = typer.Typer(invoke_without_command=True)


@bench_app.callback()
def _bench(context: typer.Context) -> None:
    """How fast raymix itself is, against plain PyTorch."""
    help_alone(context)


@bench_app.command(epilog="Example:  raymix bench loop --windows 5 --json")
def loop(
    windows: Annotated[int, typer.Option(min=1, max=1000, help="Interleaved windows that are timed.")] = 5,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    plain: Annotated[
        str, typer.Option(help="compiled (as a whole, and replayed), eager, or auto: compiled on a GPU.")
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Images a second of raymix's training loop over those of a plain PyTorch loop, same model, data in memory."""
    from raymix.bench.loop import main as bench_loop

    bench_loop(windows=windows, json_out=as_json, device=device, plain=plain)


@bench_app.command(epilog="Example:  raymix bench steps --vs plain --set optim.batch=256")
def steps(
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A field of the job that is measured. Repeatable."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="ROW", help="This row of the table. Repeatable.")] = None,
    vs: Annotated[
        list[str] | None,
        typer.Option(metavar="RIVAL", help="plain: compiled as a whole and replayed; eager. Repeatable."),
    ] = None,
    windows: Annotated[int, typer.Option(min=1, max=1000, help="Interleaved windows that are timed.")] = 9,
    augment: Annotated[bool, typer.Option(help="Without: model and optimizer alone, on fixed views.")] = True,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """What each step kind costs: ms, FLOPs, share of the chip, memory, and mixing over two passes."""
    from raymix.bench.steps import main as bench_steps

    bench_steps(overrides or [], only or [], vs or [], windows, augment, device, as_json)


@bench_app.command(epilog="Example:  raymix bench data --part stream --part read")
def data(
    path: Pictures = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="memory, stream, read, cached, hostile or augment. Repeatable; default: all."
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=20, help="How many are drawn where there is no --path.")] = 10_000,
    as_json: AsJson = False,
) -> None:
    """How fast and how lean images are read: streamed, decoded once, kept, hostile; against a rival in the same run."""
    from raymix.bench.data import main as bench_data

    bench_data(path, part or [], images, as_json)


@bench_app.command(epilog="Example:  raymix bench predict --path tiny-imagenet-200")
def predict(
    path: Pictures = None,
    images: Annotated[int, typer.Option(min=20, help="How many; a folder's are repeated as far as need be.")] = 15_000,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Turns of each side.")] = 3,
    backbone: Annotated[str, typer.Option(metavar="SIZE", help="Of the ViT: nano, tiny, small or base.")] = "tiny",
    as_json: AsJson = False,
) -> None:
    """Images a second and memory of raymix predict, against a bare loop over a DataLoader with the same model."""
    from raymix.bench.predicting import Size, main

    main(path, Size(images, rounds, backbone=backbone), as_json)


@bench_app.command(epilog="Example:  raymix bench scale --workers 1,2,3 --plot scale.png")
def scale(
    workers: Annotated[str, typer.Option(metavar="N,N,...", help="Worker counts; one GPU a worker on GPUs.")] = "1,2",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="vit-nano (default on CPUs), vit-tiny (default on GPUs), vit-small or resnet-50."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A field of the job that is measured. Repeatable."),
    ] = None,
    kinds: Annotated[str, typer.Option(metavar="KIND,...", help="Step kinds.")] = "ssl,mix,sl",
    scaling: Annotated[
        str, typer.Option(metavar="NAME,...", help="weak: the batch a worker is fixed; strong: that of all.")
    ] = "weak,strong",
    windows: Annotated[int, typer.Option(min=1, max=1000, help="Turns of each side that are timed.")] = 7,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: GPUs where there are any.")] = "auto",
    plain: Annotated[
        str, typer.Option(help="torchrun's loop: compiled (and recorded), eager, or auto: compiled on GPUs.")
    ] = "auto",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.")] = None,
    as_json: AsJson = False,
) -> None:
    """Images a second over worker counts, weak and strong scaling, against torchrun with plain DDP loops, in turns."""
    from raymix.bench.scaling.command import main as bench_scale

    bench_scale(workers, model, overrides or [], kinds, scaling, windows, device, plain, plot, as_json)


@bench_app.command(epilog="Example:  raymix bench split JOB --seed 0 --seed 1 --length 1 --length 0.5")
def split(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job with policy: fixed; its epochs say what T is.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="A field of the job. Repeatable.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="ROW", help="This row of the table. Repeatable.")] = None,
    length: Annotated[
        list[float] | None, typer.Option(min=0.01, max=100, help="Of the runs, in T. Repeatable; default: 1 and 0.5.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(min=0, help="Repeatable; default: 0 and 1.")] = None,
    as_json: AsJson = False,
) -> None:
    """The adaptive split against six that are set by hand, at equal training seconds; goes on where it was cut off."""
    from raymix.bench.split import main as bench_split
    from raymix.jobfile import load_spec

    bench_split(load_spec(job, overrides or []), only or [], length or [1.0, 0.5], seed or [0, 1], as_json)
