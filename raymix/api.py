"""What Python and notebooks call; the command line calls the same functions behind it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from raymix import runner
from raymix.background import BackgroundRun, start
from raymix.bucket import visited
from raymix.jobfile import load_spec

# before `raymix.pilot` and `raymix.replay` become the functions of that name: importing the modules later would put
# them back
from raymix.pilot import pilot as compare_arms
from raymix.plan import Plan
from raymix.replay import replay as repeat
from raymix.report.evaluation import Evaluated
from raymix.report.pilot import PilotReport
from raymix.report.replay import Replayed
from raymix.report.run import RunReport
from raymix.report.search import SearchReport
from raymix.report.sweep import SweepReport
from raymix.spec import JobError, JobSpec

if TYPE_CHECKING:
    from raymix.train.model import Trained

JobLike = str | Path | dict[str, Any] | JobSpec
Overrides = list[str] | tuple[str, ...]
Factories = list[str] | tuple[str, ...]


def plan(job: JobLike, overrides: Overrides = (), *, allow_import: Factories = ()) -> Plan:
    """What a job would do: phases, epochs and steps. Starts nothing.

    Args:
        job: A job's YAML file, a dict or a JobSpec.
        overrides: `field=value`, as `--set` takes them.
        allow_import: Factories of backbones, as `package.module:factory`, that the job may import.

    Raises:
        JobError: the job or its data is wrong; one line that names the field.
    """
    return runner.plan(load_spec(job, overrides), tuple(allow_import))


@overload
def run(
    job: JobLike,
    overrides: Overrides = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: Factories = (),
    profile: bool = False,
    wait: Literal[True] = True,
) -> RunReport: ...


@overload
def run(
    job: JobLike,
    overrides: Overrides = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: Factories = (),
    profile: bool = False,
    wait: Literal[False],
) -> BackgroundRun: ...


def run(
    job: JobLike,
    overrides: Overrides = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: Factories = (),
    profile: bool = False,
    wait: bool = True,
) -> RunReport | BackgroundRun:
    """Trains one backbone as the job says, with progress; returns the report, which shows itself in a notebook.

    Args:
        job: A job's YAML file, a dict or a JobSpec.
        overrides: `field=value`, as `--set` takes them.
        resume: Go on from the last checkpoint of the same job, where there is one.
        overwrite: Throw away what the run folder holds.
        verbose: Let Ray's own log lines through.
        quiet: No progress.
        allow_import: Factories of backbones, as `package.module:factory`, that the job may import.
        profile: Leave a profiler's trace of a few steps of each kind in the run folder.
        wait: False: return at once, with a handle on a process that trains; it shows itself in a notebook, too.

    Raises:
        JobError: the job is wrong; nothing was started or written.
        RunFailed: training failed for good.
        Interrupted: a signal (the notebook's stop button) ended it; a checkpoint was saved, `resume` goes on.
    """
    spec = load_spec(job, overrides)
    if not wait:
        flags = {"resume": resume, "overwrite": overwrite, "verbose": verbose, "profile": profile}
        return start(spec, tuple(allow_import), **flags)
    return runner.run(
        spec,
        resume=resume,
        overwrite=overwrite,
        verbose=verbose,
        quiet=quiet,
        allow_import=tuple(allow_import),
        profile=profile,
    )


def replay(
    run: str | Path,
    overrides: Overrides = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: Factories = (),
) -> Replayed:
    """Repeats a finished run from its folder alone, as `<name>-replay`, and says what is not the same.

    Args:
        run: The folder, or s3://bucket/prefix/name. Its job, plan, segments and decisions are taken as they are.
        overrides: `field=value` that say where it runs, as `storage=...` and `cluster.address=...`; no others.

    The other arguments, and the errors, are those of `run`.

    Raises:
        JobError: the folder does not hold a whole, finished run; the data is not what it was.
    """
    return repeat(
        Path(run), overrides, resume=resume, overwrite=overwrite, verbose=verbose, quiet=quiet,
        allow_import=tuple(allow_import),
    )  # fmt: skip


def pilot(
    job: JobLike,
    overrides: Overrides = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: Factories = (),
) -> PilotReport:
    """Compares the job's arms at equal step-seconds; arguments and errors are those of `run`."""
    spec = load_spec(job, overrides)
    return compare_arms(
        spec, resume=resume, overwrite=overwrite, verbose=verbose, quiet=quiet, allow_import=tuple(allow_import)
    )


def tune(
    job: JobLike,
    overrides: Overrides = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: Factories = (),
) -> SearchReport:
    """Searches as the job's `tune` section says and leaves `best.yaml`; arguments and errors are those of `run`."""
    from raymix.tuning import tune as search  # what `validate` and `plan` have no use for

    spec = load_spec(job, overrides)
    return search(
        spec, resume=resume, overwrite=overwrite, verbose=verbose, quiet=quiet, allow_import=tuple(allow_import)
    )


def sweep(
    job: JobLike,
    overrides: Overrides = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: Factories = (),
) -> SweepReport:
    """A pilot at each share of images and labels of the job's `sweep`; arguments and errors are those of `run`."""
    from raymix.sweeping import sweep as run_cells  # what `validate` and `plan` have no use for

    spec = load_spec(job, overrides)
    return run_cells(
        spec, resume=resume, overwrite=overwrite, verbose=verbose, quiet=quiet, allow_import=tuple(allow_import)
    )


def evaluate(
    run: str | Path,
    source: str | Path,
    overrides: Overrides = (),
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    verbose: bool = False,
    quiet: bool = False,
    allow_import: Factories = (),
) -> Evaluated:
    """Judges a run's model on labelled images; what is found shows itself in a notebook. Needs no Ray.

    Args:
        run: Its folder, or s3://bucket/prefix/name.
        source: A folder, a file, a pattern or a URL of images, or the name of a format without a path.
        overrides: `field=value`, as `raymix schema --of evaluate` lists them.
        out: A new folder for the page, evaluation.json and tables; None: nothing is written.
        overwrite: Throw away an evaluation that is there.

    The other arguments are those of `run`.

    Raises:
        JobError: the run, the source or an option is wrong; nothing was written.
        Interrupted: a signal ended it; nothing is kept.
    """
    from raymix.datacmd import How
    from raymix.models.evaluate import evaluate as judge
    from raymix.models.flow import Asked, options
    from raymix.spec import Evaluation

    spec = options(Evaluation, str(source), list(overrides))
    asked = Asked(visited(run, must=True), tuple(allow_import), How(verbose=verbose, quiet=quiet))
    return judge(asked, spec, None if out is None else Path(out), overwrite)


def load_model(run: str | Path, *, allow_import: Factories = (), best: bool = False) -> Trained:
    """The trained model of a run folder: an nn.Module from images to logits. Needs no Ray.

    Args:
        run: The folder, or s3://bucket/prefix/name.
        allow_import: The factory of its backbone, where that is a module of your own.
        best: Of the checkpoint that classified the select rows best (`checkpoint.best`), not of the newest one.

    Raises:
        JobError: the folder holds no run, or no checkpoint that verifies; its backbone is not allowed.
    """
    from raymix.train.model import load

    return load(visited(run, must=True), tuple(allow_import), best)


__all__ = ["JobError", "evaluate", "load_model", "load_spec", "pilot", "plan", "replay", "run", "sweep", "tune"]
