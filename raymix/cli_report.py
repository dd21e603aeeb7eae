"""`raymix report`: what runs and pilots found, as page, table, Markdown, CSV or JSON, one or several side by side."""

from __future__ import annotations

import difflib
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymix.bucket import publish, shown, visited
from raymix.cli_common import show
from raymix.report.pilot import PilotReport
from raymix.report.run import RunReport
from raymix.report.search import SearchReport
from raymix.report.sweep import SweepReport
from raymix.spec import JobError

if TYPE_CHECKING:
    from rich.console import RenderableType

Folders = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN",
        help="Folders of runs, pilots, a search or a sweep, as in runs/digits or s3://bucket/prefix/digits.",
    ),
]
AnyReport = RunReport | PilotReport | SearchReport | SweepReport


class Format(StrEnum):
    """How a report is written."""

    html = "html"
    md = "md"
    csv = "csv"
    json = "json"


def report(
    named: Folders,
    compare: Annotated[bool, typer.Option("--compare", help="Put runs and pilots side by side.")] = False,
    form: Annotated[
        Format, typer.Option("--format", help="html writes a page; the others go to standard output.")
    ] = Format.html,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write this file instead.")] = None,
) -> None:
    """Print what a run, a pilot, a search or a sweep found, and write its report.html anew.

    With [bold]--compare[/bold], a line each for several: top-1 with its interval, seconds, cost, phases, and paired
    differences where they share seeds; the page is compare.html in the folder that holds them all.
    """
    if len(named) > 1 and not compare:
        raise JobError(named[1], "a second folder", "add --compare to put them side by side")
    if output is not None and output.is_dir():
        raise JobError(str(output), "is a folder", "--output names a file")
    folders = [visited(one, must=True) for one in named]
    if compare:
        _compare(folders, form, output)
    else:
        _one(folders[0], form, output)


def read(folder: Path) -> AnyReport:
    """The report in the folder of a run, a pilot, a search or a sweep, or in the file named.

    Raises:
        JobError: there is none, or it cannot be read; a near name is told.
    """
    from raymix.report.folder import PILOT_FILE, SEARCH_FILE, SWEEP_FILE, read_pilot, read_run, read_search, read_sweep

    if folder.name == SWEEP_FILE or (folder / SWEEP_FILE).is_file():
        return read_sweep(folder)
    if folder.name == SEARCH_FILE or (folder / SEARCH_FILE).is_file():
        return read_search(folder)
    if folder.name == PILOT_FILE or (folder / PILOT_FILE).is_file():
        return read_pilot(folder)
    if not folder.exists() and folder.parent.is_dir():
        near = [str(path) for path in folder.parent.iterdir() if path.is_dir()]
        if close := difflib.get_close_matches(str(folder), near, n=1):
            raise JobError(str(folder), "no such run folder", f"did you mean {close[0]}?")
    return read_run(folder)


def table(done: AnyReport) -> RenderableType:
    """A report for a terminal."""
    from raymix.report.page_sweep import sweep_table
    from raymix.report.search_page import search_table
    from raymix.report.tables import pilot_table, run_table

    if isinstance(done, SweepReport):
        return sweep_table(done)
    if isinstance(done, SearchReport):
        return search_table(done)
    return pilot_table(done) if isinstance(done, PilotReport) else run_table(done)


def _one(folder: Path, form: Format, output: Path | None) -> None:
    from raymix.report import formats

    done = read(folder)
    if isinstance(done, SearchReport):
        _search(done, folder, form, output)
        return
    if form is not Format.html:
        written = {Format.md: formats.as_markdown, Format.csv: formats.as_csv, Format.json: formats.as_json}
        _put(written[form](done), output)
        return
    from raymix.report.html import page
    from raymix.report.page_sweep import sweep_html
    from raymix.report.reckon import write_decision

    holder = folder if folder.is_dir() else folder.parent
    file = output or holder / "report.html"
    _write(file, sweep_html(done) if isinstance(done, SweepReport) else page(holder, done))
    show(table(done))
    typer.echo(f"report: {shown(file)}")
    if isinstance(done, PilotReport) and output is None and (decision := write_decision(holder, done)):
        publish(decision)
        typer.echo(f"decision: {shown(decision)}")


def _search(done: SearchReport, folder: Path, form: Format, output: Path | None) -> None:
    from raymix.report.search_page import search_html

    if form in (Format.md, Format.csv):
        raise JobError(str(folder), f"a search is not written as {form}", "--format json has every trial")
    if form is Format.json:
        _put(f"{done.model_dump_json(indent=1)}\n", output)
        return
    file = output or (folder if folder.is_dir() else folder.parent) / "report.html"
    _write(file, search_html(done))
    show(table(done))
    typer.echo(f"report: {shown(file)}")


def _compare(folders: list[Path], form: Format, output: Path | None) -> None:
    from raymix.report import formats
    from raymix.report.lineup import line_up

    found: list[tuple[str, RunReport | PilotReport]] = []
    for folder in folders:
        done = read(folder)
        if isinstance(done, SearchReport):
            raise JobError(str(folder), "is a search", "--compare takes runs and pilots, as its trials are")
        if isinstance(done, SweepReport):
            raise JobError(str(folder), "is a sweep", "--compare takes runs and pilots, as its cells are")
        found.append((shown(folder), done))
    lines = line_up(found)
    if form is not Format.html:
        written = {Format.md: formats.lines_markdown, Format.csv: formats.lines_csv, Format.json: formats.lines_json}
        _put(written[form](lines), output)
        return
    from raymix.report.html import compare_html
    from raymix.report.tables import lines_table

    holders = {(folder if folder.is_dir() else folder.parent).absolute().parent for folder in folders}
    common = Path(os.path.commonpath(holders))
    file = output or (common.relative_to(Path.cwd()) if common.is_relative_to(Path.cwd()) else common) / "compare.html"
    _write(file, compare_html(lines))
    show(lines_table(lines))
    typer.echo(f"report: {shown(file)}")


def _put(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text)
        typer.echo(f"report: {output}")


def _write(file: Path, text: str) -> None:
    """Writes a file whole.

    Raises:
        JobError: it cannot be written there.
    """
    from raymix.report.folder import write_text

    try:
        write_text(file, text)
        publish(file)
    except OSError as error:
        raise JobError(shown(file), f"cannot be written: {error.strerror or error}", "name another --output") from None
