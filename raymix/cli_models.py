"""`raymix predict`, `embed`, `evaluate` and `export`: a trained model goes to work."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymix.bucket import publish, shown, visited
from raymix.cli_common import AsJson, Verbose, show
from raymix.spec import JobError

if TYPE_CHECKING:
    from raymix.models.flow import Asked, Done
    from raymix.spec import Export

Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="The run's folder, s3://bucket/prefix/NAME, or what raymix export wrote.")
]
Source = Annotated[str, typer.Argument(metavar="SOURCE", help="A folder, a file, a pattern or a URL of images.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="An option; raymix schema --of COMMAND lists them. Repeatable."),
]
AllowImport = Annotated[
    list[str] | None,
    typer.Option("--allow-import", metavar="PACKAGE.MODULE:FACTORY", help="Let its backbone import this. Repeatable."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Throw away what is there by that name.")]


def predict(
    run: Run,
    source: Source,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A new .csv, .parquet or .jsonl file.")],
    overrides: Overrides = None,
    allow_import: AllowImport = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Class and score of every image of a source; unreadable ones are listed with the cause.

    In this process, or with [bold]--set cluster.workers=N[/bold] through Ray Data.
    """
    from raymix.models import work
    from raymix.models.flow import options
    from raymix.spec import Predict

    spec = options(Predict, source, overrides or [])
    done = work.predict(_asked(run, allow_import, verbose, as_json), spec, out, overwrite)
    if as_json:
        typer.echo(done.model_dump_json(indent=2))
        return
    classes = ", ".join(f"{name} {number:,}" for name, number in list(done.classes.items())[:8])
    more = {"classes": classes + (", ..." if len(done.classes) > 8 else ""), "above": f"{done.above:,}"}
    _show(done, {**more, "written": str(out)})


def embed(
    run: Run,
    source: Source,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A new .parquet file.")],
    overrides: Overrides = None,
    allow_import: AllowImport = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """The backbone's vector of every image of a source, as Parquet."""
    from raymix.models import work
    from raymix.models.flow import options
    from raymix.spec import Embed

    spec = options(Embed, source, overrides or [])
    done = work.embed(_asked(run, allow_import, verbose, as_json), spec, out, overwrite)
    if as_json:
        typer.echo(done.model_dump_json(indent=2))
        return
    _show(done, {"vectors": f"{done.width} x {done.dtype}", "written": str(out)})


def evaluate(
    run: Run,
    source: Source,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="A new folder; without it evaluation in RUN.")
    ] = None,
    overrides: Overrides = None,
    allow_import: AllowImport = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Judge a model on labelled images: accuracy, ranking, calibration, costs, mistakes; with intervals and a page.

    Classes are matched by name. kNN and a linear probe learn from the run's own training images;
    [bold]--set knn=null --set probe=false[/bold] leave them out.
    """
    from raymix.models.evaluate import PAGE
    from raymix.models.evaluate import evaluate as judge
    from raymix.models.flow import options
    from raymix.report.page_evaluation import evaluation_lines
    from raymix.spec import Evaluation

    spec = options(Evaluation, source, overrides or [])
    asked = _asked(run, allow_import, verbose, as_json)
    folder = out or asked.run / "evaluation"
    found = judge(asked, spec, folder, overwrite)
    _publish(folder)
    if as_json:
        typer.echo(found.model_dump_json(indent=2, exclude={"mistakes": {"__all__": {"picture"}}}))
        return
    _lines({**evaluation_lines(found), "report": shown(folder / PAGE)})


def _asked(run: Path, allow_import: list[str] | None, verbose: bool = False, quiet: bool = False) -> Asked:
    from raymix.datacmd import How
    from raymix.models.flow import Asked

    return Asked(visited(run, must=True), tuple(allow_import or ()), How(verbose=verbose, quiet=quiet))


def _publish(folder: Path) -> None:
    """Takes what was written to the bucket, where the run lies in one.

    Raises:
        JobError: it cannot be written there.
    """
    try:
        publish(folder)
    except OSError as error:
        problem = f"cannot be written: {error.strerror or error}"
        raise JobError(shown(folder), problem, "name a folder with --out") from None


def _lines(lines: dict[str, str]) -> None:
    from raymix.report.tables import pairs

    grid = pairs()
    for name, text in lines.items():
        grid.add_row(name, text)
    show(grid)


def _show(done: Done, more: dict[str, str]) -> None:
    """What every such command says, and what this one says besides."""
    from raymix.report import words

    causes = words.causes(done.skipped)
    told = f"{words.count(done.images)} in {words.seconds(done.seconds)}, {done.rate:,.0f} a second on {done.device}"
    _lines({"images": told, **({"unreadable": causes} if causes else {}), **more})


class Form(StrEnum):
    """What a model is written as."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    TORCH_EXPORT = "torch_export"


def export(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="The run's folder, s3://bucket/prefix/NAME, or a pilot's, for a run of each arm."
        ),
    ],
    form: Annotated[Form, typer.Option("--format", help="onnx needs the extra raymix\\[export].")] = Form.SAFETENSORS,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="A new folder; without it export/FORMAT in the run's.")
    ] = None,
    overrides: Overrides = None,
    allow_import: AllowImport = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the model as a file that needs neither Ray nor, but for safetensors, raymix; with a card.

    Its logits are held against the original's on val images of the run: above [bold]tolerance[/bold] it is refused,
    exit code 3. [bold]--set quantize=int8[/bold] makes it smaller; what that costs stands in the table.
    """
    from raymix.jobfile import load_options
    from raymix.models.card import side_cells, side_heads, sides_note
    from raymix.models.export import export as write
    from raymix.report.folder import PILOT_FILE
    from raymix.report.tables import sides_table
    from raymix.spec import Export

    spec = load_options(Export, {}, overrides or [])
    asked = _asked(run, allow_import)
    if (asked.run / PILOT_FILE).is_file():
        _export_arms(asked, form, spec, out, overwrite, as_json)
        return
    folder, about = write(asked, form.value, spec, out, overwrite)
    _publish(folder)
    if as_json:
        typer.echo(about.model_dump_json(indent=2))
        return
    show(sides_table(side_heads(about), side_cells(about)))
    _lines(
        {
            "": sides_note(about),
            "difference": f"{about.max_difference:.2g} at most, on {about.checked_images} val images",
            "written": shown(folder),
        }
    )


def _export_arms(asked: Asked, form: Form, spec: Export, out: Path | None, overwrite: bool, as_json: bool) -> None:
    from raymix.models.arms import arm_cells, arm_heads, export_arms
    from raymix.report.tables import sides_table

    found = export_arms(asked, form.value, spec, out, overwrite)
    for one in found:
        _publish(Path(one.folder))
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=2))
        return
    show(sides_table(arm_heads(found), arm_cells(found)))
    _lines({one.arm: shown(Path(one.folder)) for one in found})
