"""`raymix doctor`: a line for each check, as it comes."""

from __future__ import annotations

import json
from contextlib import closing

import typer

from raymix.cli_common import show
from raymix.jobfile import load_spec
from raymix.report.finding import Finding
from raymix.signals import Signals

MACHINE = {"name": "doctor", "data": {"train": {"format": "digits"}}}  # of which cluster and storage are looked at
MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "problem": ("problem", "bold red")}


def doctor(job: str | None, overrides: list[str], as_json: bool) -> None:
    """Examines a job's surroundings, or the machine's alone; exits with 1 where there is a problem.

    Raises:
        JobError: the job is wrong in itself.
    """
    from raymix.doctor import examine
    from raymix.doctor.patient import Patient

    spec = load_spec(MACHINE if job is None else job, overrides)
    with Signals(), closing(Patient(spec, is_job=job is not None)) as patient:
        found = list(examine(patient))
    if as_json:
        typer.echo(json.dumps([finding.model_dump() for finding in found], indent=2))
    else:
        _show(found)
    if any(finding.status == "problem" for finding in found):
        raise typer.Exit(1)


def _show(found: list[Finding]) -> None:
    """The table, and in a line what it comes to."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from raymix.report import words

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in found:
        said = Text(finding.found)
        if finding.todo:
            said.append(f"\n-> {finding.todo}", style="bold")
        table.add_row(finding.name, Text(*MARKS[finding.status]), said)
    show(table)
    problems = sum(finding.status == "problem" for finding in found)
    typer.echo("no problem found" if not problems else f"{words.plural(problems, 'problem')} found")
