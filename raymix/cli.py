"""The `raymix` command: reads the job, calls one function, prints what it returns.

Whatever trains is imported inside its command, so that `validate`, `plan`, `schema` and `--help` load neither torch
nor ray. Errors travel up as exceptions; `raymix.__main__` turns them into one line and an exit code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from raymix.cli_bench import bench_app
from raymix.cli_cluster import cluster_app
from raymix.cli_common import AsJson, Verbose, help_alone, show
from raymix.cli_data import data_app
from raymix.cli_jobs import jobs_app, submit
from raymix.cli_models import embed, evaluate, export, predict
from raymix.cli_report import AnyReport, report, table
from raymix.cli_runs import runs_app
from raymix.jobfile import load_spec
from raymix.report.pilot import PilotReport
from raymix.spec import Drift, Embed, Evaluation, Export, JobError, JobSpec, Predict, Section

DIFFERS = 4  # the exit code of a replay that is not the same

app = typer.Typer(
    name="raymix",
    help="One vision backbone, self-supervised and supervised in one run: what does each phase cost, and does it pay?",
    epilog="Start here:  raymix pilot jobs/digits.yaml",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(runs_app, name="runs")
app.add_typer(bench_app, name="bench")
app.add_typer(data_app, name="data")
app.add_typer(cluster_app, name="cluster")
app.add_typer(jobs_app, name="jobs")

Job = Annotated[str, typer.Argument(metavar="JOB", help="The job's YAML file, or - for standard input.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, as in --set optim.lr=1e-3. Repeatable."),
]
AllowImport = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-import", metavar="PACKAGE.MODULE:FACTORY", help="Let backbone.type import run this. Repeatable."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the same job.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Throw away what the run folder holds.")]


@app.callback()
def _raymix(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"raymix {installed('raymix')}")
    else:
        help_alone(context)


# ---- jobs -------------------------------------------------------------------------------------------------------


@app.command(epilog="Example:  raymix validate jobs/digits.yaml --set optim.batch=100")
def validate(job: Job, overrides: Overrides = None, allow_import: AllowImport = None) -> None:
    """Check a job: its fields, its paths, and that the data can carry it. Starts nothing."""
    from raymix.runner import plan as make_plan

    plan = make_plan(_load(job, overrides), tuple(allow_import or ()))
    phases = ", ".join(f"{phase.kind} {phase.steps}" for phase in plan.phases)
    facts = plan.facts
    tiles = f", {facts.tiles} tiles of each image" if facts.tiles > 1 else ""
    rows = f"{facts.num_train} training rows ({facts.num_labelled} labelled{tiles}) of {facts.num_classes} classes"
    typer.echo(f"ok: {plan.spec.name}, {plan.num_steps} steps ({phases}), {rows}")


@app.command(epilog="Example:  raymix plan jobs/digits.yaml --what-if schedule.mix_ratio=0,0.5,1")
def plan(
    job: Job,
    overrides: Overrides = None,
    allow_import: AllowImport = None,
    what_if: Annotated[
        str | None,
        typer.Option("--what-if", metavar="FIELD=V1,V2,...", help="A line for each of these values of a field."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a job would do, phase by phase, and what it would cost. Starts nothing."""
    from raymix.cli_plan import show_plan

    show_plan(_load(job, overrides), what_if, tuple(allow_import or ()), as_json)


@app.command(epilog="Example:  raymix run jobs/digits.yaml --set name=try-2 --set schedule.mix_ratio=1")
def run(
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="The job's YAML file, or - for standard input.")
    ] = None,
    overrides: Overrides = None,
    allow_import: AllowImport = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Leave traces of a few steps of each kind in the folder's profile/.")
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", metavar="RUN", help="In place of JOB: repeat the run in this folder, and compare."),
    ] = None,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Train one backbone as the job says, and report what each phase cost.

    Ctrl-C saves a checkpoint; the same command with [bold]--resume[/bold] goes on from there.

    With [bold]--replay RUN[/bold] a finished run is repeated as RUN-replay from its folder alone, its segments and
    decisions included, and held against it: exit code 0 where losses, accuracy and tensors are equal, else 4.
    """
    options = {"resume": resume, "overwrite": overwrite, "verbose": verbose}
    if replay is not None:
        if job is not None or profile:
            raise JobError("--replay", "goes without JOB and --profile", "the run's folder holds its job")
        _replay(replay, overrides, allow_import, as_json, **options)
        return
    if job is None:
        raise JobError("JOB", "missing", "name a job's YAML file, or a run to repeat: --replay RUN")
    from raymix.runner import run as train

    _carry_out(train, _load(job, overrides), allow_import, as_json, **options, profile=profile)


@app.command(epilog="Example:  raymix pilot jobs/digits.yaml --set pilot.arms='[ssl_sl, mix]'")
def pilot(
    job: Job,
    overrides: Overrides = None,
    allow_import: AllowImport = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Compare ways to train on the job's data at equal seconds: does SSL pay here, and does mixing?

    Arms share data, splits, seeds and augmentation. With [bold]pilot.preset: quick[/bold] it shows the tool running and
    decides nothing.
    """
    from raymix.pilot import pilot as compare

    _carry_out(
        compare, _load(job, overrides), allow_import, as_json, resume=resume, overwrite=overwrite, verbose=verbose
    )


@app.command(epilog="Example:  raymix sweep jobs/digits-sweep.yaml --set sweep.data.label_fraction='[0.2, 1]'")
def sweep(
    job: Job,
    overrides: Overrides = None,
    allow_import: AllowImport = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Compare ways to train with fewer images and labels: from where on do SSL and mixing pay, what do they save?

    A pilot at each share of the job's sweep section, all in one session. Ctrl-C or a kill loses no finished run: the
    same command with [bold]--resume[/bold] goes on.
    """
    from raymix.sweeping import sweep as run_cells

    _carry_out(
        run_cells, _load(job, overrides), allow_import, as_json, resume=resume, overwrite=overwrite, verbose=verbose
    )


@app.command(epilog="Example:  raymix tune jobs/digits-tune.yaml --set tune.trials=24")
def tune(
    job: Job,
    overrides: Overrides = None,
    allow_import: AllowImport = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Search values for some fields of a job, as its tune section says, and write the best as best.yaml.

    It chooses on select rows and never reads val. Ctrl-C or a kill loses no finished trial: the same command with
    [bold]--resume[/bold] goes on.
    """
    from raymix.tuning import tune as search

    _carry_out(
        search, _load(job, overrides), allow_import, as_json, resume=resume, overwrite=overwrite, verbose=verbose
    )


app.command(epilog="Example:  raymix submit jobs/digits.yaml --address http://127.0.0.1:8265")(submit)


@app.command(epilog="Example:  raymix schema > raymix.schema.json   and point your editor's YAML support at it")
def schema(
    of: Annotated[
        str,
        typer.Option(
            "--of", metavar="COMMAND", help="job, or the options of predict, embed, evaluate, export or drift."
        ),
    ] = "job",
) -> None:
    """Print the JSON schema of a job: every field, its type, bounds and default."""
    known: dict[str, type[Section]] = {
        "job": JobSpec,
        "predict": Predict,
        "embed": Embed,
        "evaluate": Evaluation,
        "export": Export,
        "drift": Drift,
    }
    if of not in known:
        raise JobError("--of", f"unknown value {of}", f"one of {', '.join(known)}")
    typer.echo(json.dumps(known[of].model_json_schema(), indent=2))


@app.command(epilog="Example:  raymix doctor jobs/digits.yaml      without Ray: --set cluster.workers=0")
def doctor(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="A job, whose data and storage are looked at too.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Look whether this machine, its cluster and a job's data and storage can carry a run; trains nothing.

    Exit code 0: no problem; 1: there is one, with a sentence on what to do about it.
    """
    from raymix.cli_doctor import doctor as examine

    examine(job, overrides or [], as_json)


# ---- what was done ----------------------------------------------------------------------------------------------


app.command("report", epilog="Example:  raymix report runs/digits runs/other --compare --format md")(report)


# ---- what a trained model does ----------------------------------------------------------------------------------


app.command(epilog="Example:  raymix predict runs/parts new/ --out new.csv --set threshold=0.9")(predict)
app.command(epilog="Example:  raymix embed runs/parts new/ --out new.parquet --set dtype=float16")(embed)
app.command(epilog="Example:  raymix evaluate runs/parts labelled/ --set false_alarms=0.1%")(evaluate)
app.command(epilog="Example:  raymix export runs/parts --format onnx --set licence=apache-2.0")(export)


def _load(job: str, overrides: list[str] | None) -> JobSpec:
    return load_spec(job, overrides or [])


def _carry_out(
    command: Callable[..., AnyReport], spec: JobSpec, allow_import: list[str] | None, as_json: bool, **options: bool
) -> None:
    """Do what a job asks for, and print what came of it."""
    with _interrupted_too(spec, as_json):
        done = command(spec, quiet=as_json, allow_import=tuple(allow_import or ()), **options)
        _finish(done, spec, as_json)


def _replay(
    run: Path, overrides: list[str] | None, allow_import: list[str] | None, as_json: bool, **options: bool
) -> None:
    """Repeat a run, print what is not the same, and exit with 4 where something is not."""
    from raymix.replay import replay
    from raymix.report.tables import replay_table

    done = replay(run, overrides or [], quiet=as_json, allow_import=tuple(allow_import or ()), **options)
    if as_json:
        typer.echo(done.model_dump_json(indent=2))
    else:
        show(replay_table(done))
        typer.echo(f"report: {done.replay}/report.html")
    if not done.equal:
        raise typer.Exit(DIFFERS)


def _finish(done: AnyReport, spec: JobSpec, as_json: bool) -> None:
    """Print what a run, a pilot, a search or a sweep found, and where its page is."""
    if as_json:
        typer.echo(done.model_dump_json(indent=2))
        return
    from raymix.bucket import shown
    from raymix.runfolder import storage_of

    show(table(done))
    pages = ("report", "decision") if isinstance(done, PilotReport) and done.roi else ("report",)
    for name in pages:
        page = storage_of(spec) / spec.name / f"{name}.html"
        typer.echo(f"{name}: {page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else shown(page)}")


@contextmanager
def _interrupted_too(spec: JobSpec, as_json: bool) -> Iterator[None]:
    """Print what was done until a signal or failures ended it, too; the exception becomes the exit code."""
    from raymix.runner import Interrupted, RunFailed

    try:
        yield
    except (Interrupted, RunFailed) as stop:
        if stop.report is not None:
            _finish(stop.report, spec, as_json)
        raise
