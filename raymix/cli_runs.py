"""`raymix runs`: what a storage folder holds."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from raymix.bucket import is_bucket, shown, visited
from raymix.cli_common import AsJson, help_alone, show
from raymix.cli_report import read, table
from raymix.report.run import RunReport
from raymix.spec import JobError

WATCH_SECONDS = 1.0  # between two looks at the folder
BUCKET_SECONDS = 10.0  # and at one in a bucket, which is written every 30 s

runs_app = typer.Typer(invoke_without_command=True)
Storage = Annotated[
    str, typer.Option("--storage", metavar="DIR", help="What holds run folders: a folder, or s3://bucket/prefix.")
]


@runs_app.callback()
def _runs(context: typer.Context) -> None:
    """The runs of a storage folder: list them, show one, name the best."""
    help_alone(context)


@runs_app.command("ls", epilog="Example:  raymix runs ls --storage runs")
def runs_ls(storage: Storage = "runs", as_json: AsJson = False) -> None:
    """List the runs of a storage folder, those of its pilots included."""
    from raymix.report.folder import RUN_FILE, find_runs
    from raymix.report.tables import runs_table

    found = find_runs(visited(storage, (RUN_FILE,)))
    if as_json:
        typer.echo(json.dumps([_summary(*run) for run in found], indent=2))
    else:
        show(runs_table([(shown(path), run) for path, run in found]))


@runs_app.command("show", epilog="Example:  raymix runs show digits --json")
def runs_show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The run's name, as raymix runs ls prints it.")],
    storage: Storage = "runs",
    as_json: AsJson = False,
) -> None:
    """Show one run or pilot: what each phase or arm cost, and where the accuracy ended."""
    done = read(visited(f"{storage}/{name}", must=True))
    if as_json:
        typer.echo(done.model_dump_json(indent=2))
    else:
        show(table(done))


@runs_app.command("best", epilog="Example:  raymix runs best --storage runs")
def runs_best(storage: Storage = "runs", as_json: AsJson = False) -> None:
    """Name the run with the highest top-1 on its val rows."""
    from raymix.report.folder import RUN_FILE, best_run
    from raymix.report.tables import runs_table

    best = best_run(visited(storage, (RUN_FILE,)))
    if as_json:
        typer.echo(json.dumps(_summary(*best), indent=2))
    else:
        show(runs_table([(shown(best[0]), best[1])]))


@runs_app.command("watch", epilog="Example:  raymix runs watch digits --storage /shared/runs")
def runs_watch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The run's or pilot's name: its folder in the storage.")],
    storage: Storage = "runs",
    once: Annotated[bool, typer.Option("--once", help="Say where it stands now, and end.")] = False,
) -> None:
    """Watch a run that another process trains, here or on another node that sees its folder, until it ends."""
    from rich.console import Console

    from raymix.watch.follow import follow, running, standing

    folder = visited(f"{storage}/{name}")
    if not folder.is_dir():
        raise JobError("NAME", f"{shown(folder)} is no folder", "see raymix runs ls, or pass --storage")
    if once:
        typer.echo(standing(running(folder)).line(time.time()))
        return
    console = Console(highlight=False)
    pause = partial(_pause, f"{storage}/{name}")
    if not console.is_terminal:
        for now in follow(folder, pause):
            typer.echo(now.line(time.time()))
        return
    with console.status("") as status:
        for now in follow(folder, pause):
            status.update(escape(now.line(time.time())))
    console.print(now.line(time.time()), markup=False)


def _pause(folder: str) -> None:
    """Between two looks; of a folder in a bucket the next one sees what is there then."""
    time.sleep(BUCKET_SECONDS if is_bucket(folder) else WATCH_SECONDS)
    visited(folder)


def _summary(folder: Path, done: RunReport) -> dict[str, object]:
    """A run in a line of `raymix runs --json`; the whole of it is in the folder's report.json."""
    return {
        "folder": shown(folder),
        "name": done.name,
        "status": done.status,
        "seed": done.seed,
        "device": done.device,
        "workers": done.workers,
        "top1": done.final.top1 if done.final else None,
        "wall_seconds": done.totals.wall_seconds,
        "worker_seconds": done.totals.worker_seconds,
        "cost": done.totals.cost,
    }
