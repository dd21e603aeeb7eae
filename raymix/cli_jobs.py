"""`raymix submit` and `raymix jobs`: a cluster's jobs from the shell of somebody who is not on it."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from raymix.cli_common import AsJson, help_alone, show
from raymix.jobfile import load_spec
from raymix.report import words

jobs_app = typer.Typer(invoke_without_command=True)

Address = Annotated[
    str | None,
    typer.Option("--address", metavar="URL", help="Of the cluster's Jobs API, as in http://127.0.0.1:8265."),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as raymix jobs ls prints it.")]


class Command(StrEnum):
    """What is done with the job on the cluster."""

    RUN = "run"
    PILOT = "pilot"
    SWEEP = "sweep"
    TUNE = "tune"


def submit(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's YAML file, or - for standard input.")],
    address: Address = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Override a field. Repeatable.")
    ] = None,
    command: Annotated[Command, typer.Option("--command", help="What to do with the job there.")] = Command.RUN,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job until it has ended.")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the same job.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away what the run folder holds.")] = False,
    allow_import: Annotated[
        list[str] | None,
        typer.Option("--allow-import", metavar="PACKAGE.MODULE:FACTORY", help="Its package is sent along. Repeatable."),
    ] = None,
) -> None:
    """Hand a job to a Ray cluster and follow it; its exit code becomes this command's.

    The job file and raymix travel, images do not. Ctrl-C leaves the job running and says how to come back.
    """
    from raymix.on_ray import jobs

    flags = [flag for flag, asked in (("--resume", resume), ("--overwrite", overwrite)) if asked]
    spec, factories = load_spec(job, overrides or []), tuple(allow_import or ())
    submitted = jobs.submit(spec, address, command.value, tuple(flags), factories)
    typer.echo(f"submitted as {submitted}", err=True)
    if wait:
        _follow(submitted, address)
    else:
        typer.echo(submitted)


def _follow(job: str, address: str | None) -> None:
    from raymix.on_ray import jobs

    where = f" --address {address}" if address else ""
    try:
        code = jobs.follow(job, address, lambda lines: (sys.stdout.write(lines), sys.stdout.flush()))
    except KeyboardInterrupt:
        back = f"raymix jobs logs {job} --follow{where} comes back, raymix jobs stop {job}{where} ends it"
        typer.echo(f"detached; the job goes on: {back}", err=True)
        raise typer.Exit(130) from None
    raise typer.Exit(code)


@jobs_app.callback()
def _jobs(context: typer.Context) -> None:
    """The jobs of a cluster: list them, read what one prints, stop one."""
    help_alone(context)


@jobs_app.command("ls", epilog="Example:  raymix jobs ls --address http://127.0.0.1:8265")
def jobs_ls(address: Address = None, as_json: AsJson = False) -> None:
    """List the cluster's jobs, the newest first."""
    from rich import box
    from rich.table import Table

    from raymix.on_ray import jobs

    found = jobs.listed(address)
    if as_json:
        typer.echo(json.dumps([job._asdict() for job in found], indent=2))
        return
    table = Table("id", "job", "status", "started", "took", box=box.SIMPLE_HEAD)
    for job in found:
        started = datetime.fromtimestamp(job.started).strftime("%Y-%m-%d %H:%M:%S") if job.started else ""
        table.add_row(job.id, job.name, job.status, started, words.seconds(job.seconds) if job.seconds else "")
    show(table)


@jobs_app.command("logs", epilog="Example:  raymix jobs logs raysubmit_abc --follow")
def jobs_logs(
    job: Id,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it has ended; then exit as it did.")] = False,
) -> None:
    """Print what a job has printed."""
    from raymix.on_ray import jobs

    if follow:
        _follow(job, address)
    typer.echo(jobs.logs(job, address), nl=False)


@jobs_app.command("stop", epilog="Example:  raymix jobs stop raysubmit_abc --address http://127.0.0.1:8265")
def jobs_stop(job: Id, address: Address = None) -> None:
    """Stop a job, and save its checkpoint first."""
    from raymix.on_ray import jobs

    saved = jobs.stop(job, address)
    typer.echo(f"{job} has ended" + ("; --resume goes on from its checkpoint" if saved else " without a checkpoint"))
