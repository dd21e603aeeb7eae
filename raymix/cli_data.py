"""`raymix data`: look at a source without training, and write it anew for fast streaming."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from raymix.cli_common import AsJson, Verbose, help_alone, show
from raymix.spec import JobError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from raymix.data.prepare import Manifest

data_app = typer.Typer(invoke_without_command=True)

Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="A folder, a file, a pattern, a URL, [bold]digits[/bold], or a job file."),
]
Val = Annotated[str | None, typer.Option("--val", metavar="SOURCE", help="Where the validation images are.")]
Format = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="The format of SOURCE, where it cannot be found out.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the job, as in --set data.image_size=224."),
]
Local = Annotated[bool, typer.Option("--local", help="Work in this process, without Ray.")]


@data_app.callback()
def _data(context: typer.Context) -> None:
    """Check images without training, and prepare them for streaming."""
    help_alone(context)


@data_app.command(epilog="Example:  raymix data check photos/ --set data.image_size=224")
def check(
    source: Source,
    val: Val = None,
    format_name: Format = None,
    overrides: Overrides = None,
    skipped: Annotated[
        Path | None, typer.Option("--skipped", metavar="FILE", help="Write all unreadable images to a .tsv file.")
    ] = None,
    local: Local = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Read every image once: rows, classes, sizes, unreadable images, duplicates. Trains nothing."""
    from raymix.datacmd import How, named
    from raymix.datacmd import check as check_data
    from raymix.report.check import check_table, skipped_table

    what = named(source, val, format_name, overrides or [])
    report = check_data(what, How(local=local, verbose=verbose, quiet=as_json))
    if skipped is not None:
        _write(skipped, skipped_table(report.unreadable.images))
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
        return
    show(check_table(report))
    if skipped is not None:
        typer.echo(f"\nunreadable images: {skipped}")


@data_app.command(epilog="Example:  raymix data prepare photos/ shards/ --size 256 --codec webp")
def prepare(
    source: Source,
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A new or empty local folder, or one that was begun.")],
    val: Val = None,
    format_name: Format = None,
    overrides: Overrides = None,
    size: Annotated[
        int | None, typer.Option(min=4, help="Reduce the shorter side to so many pixels; none is enlarged.")
    ] = None,
    codec: Annotated[
        Literal["keep", "jpeg", "png", "webp"],
        typer.Option(help="How images are written; keep: as they are, pixels without an encoding as PNG."),
    ] = "keep",
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Of JPEG and WebP; without it 90, where there is need.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows of a shard; without it about 100 MB.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of the training rows.")] = 0,
    max_bad: Annotated[
        float | None,
        typer.Option("--max-bad", min=0, max=1, help="Share of unreadable images that is too much; without it 0.01."),
    ] = None,
    local: Local = False,
    verbose: Verbose = False,
) -> None:
    """Write the images of a source as Parquet shards, shuffled and checked, ready for streaming.

    Unreadable images are left out and listed. Ended early, the same command goes on where it was.
    """
    from raymix.data.prepare import Options
    from raymix.datacmd import How, named
    from raymix.datacmd import prepare as prepare_data

    if max_bad is not None:
        overrides = [*(overrides or []), f"data.max_bad_fraction={max_bad}"]
    what = named(source, val, format_name, overrides or [])
    options = Options(size=size, codec=codec, quality=quality, rows=rows, seed=seed)
    manifest = prepare_data(what, folder, options, How(local=local, verbose=verbose))
    show(_prepared(manifest, folder, what.spec.data.group is not None))


@data_app.command(epilog="Example:  raymix data drift runs/parts november/ --set rows=1000")
def drift(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of the run that the images are held against.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Images, those that RUN had among them or not.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="An option; raymix schema --of drift lists them."),
    ] = None,
    allow_import: Annotated[
        list[str] | None,
        typer.Option("--allow-import", metavar="PACKAGE.MODULE:FACTORY", help="Let its backbone import this."),
    ] = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Tell whether new images are like those that a run had: class shares, and its embeddings of both.

    The AUC says how well a linear classifier tells them apart, 0.5 being not at all; beside it that of earlier images
    against other earlier ones.
    """
    from raymix.datacmd import How
    from raymix.models.drift import drift as compare
    from raymix.models.flow import Asked, options
    from raymix.report.drift import drift_table
    from raymix.spec import Drift

    spec = options(Drift, source, overrides or [])
    report = compare(Asked(run, tuple(allow_import or ()), How(verbose=verbose, quiet=as_json)), spec)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
        return
    show(drift_table(report))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise JobError("--skipped", f"{path} cannot be written: {error.strerror or error}") from None


def _prepared(manifest: Manifest, folder: str, grouped: bool) -> RenderableType:
    """What was written, and how a job names it."""
    from rich.text import Text

    from raymix.data.shardfile import GROUP_COLUMN
    from raymix.report import words
    from raymix.report.check import in_bytes, printable
    from raymix.report.tables import pairs

    totals = manifest.totals
    labelled = "" if totals.labelled == totals.train else f" ({words.count(totals.labelled)} labelled)"
    rows = [f"{words.count(totals.train)} train{labelled}", *([f"{words.count(totals.val)} val"] if totals.val else [])]
    causes = words.causes(manifest.skipped)
    grid = pairs()
    grid.add_row("rows", ", ".join(rows))
    grid.add_row(
        "shards", f"{words.count(len(manifest.shards))} of {in_bytes(totals.bytes)} in all, read back and sound"
    )
    if causes:
        grid.add_row("left out", Text(f"{causes}; see {printable(folder)}/skipped.tsv", style="yellow"))
    group = f", group: {GROUP_COLUMN}" if grouped else ""
    grid.add_row("job", Text(f"data: {{train: {{format: parquet, path: {printable(folder)}}}{group}}}"))
    return grid
