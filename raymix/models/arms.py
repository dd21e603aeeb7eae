"""`raymix export PILOT`: the model of each arm, side by side."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from pydantic import Field

from raymix.models.export import export
from raymix.models.flow import Asked
from raymix.report import words
from raymix.report.folder import read_pilot
from raymix.report.judging import METRIC_WORDS
from raymix.spec import Export, JobError, Section
from raymix.train.exported import About, Format


class Exported(Section):
    """An arm's model as a file."""

    arm: str
    seed: int = Field(description="of the run that was exported")
    mean_top1: float = Field(description="percent, the mean over the arm's runs at T")
    num_seeds: int
    folder: str
    about: About


def export_arms(
    asked: Asked, format_name: Format, spec: Export, out: Path | None, overwrite: bool = False
) -> tuple[Exported, ...]:
    """Exports the run of length T and lowest seed of each arm of a pilot, as `raymix.models.export` does one.

    Args:
        asked: `run` is the pilot's folder.
        out: A folder in which each arm has one by its name; None: in the runs' own.

    Raises:
        JobError, RunFailed: as `export`; arms that came before are there.
    """
    report = read_pilot(asked.run)
    found: list[Exported] = []
    for arm, runs in report.arms.items():
        if not (at_T := sorted((run for run in runs if run.length == 1.0), key=lambda run: run.seed)):
            continue
        run = asked.run / Path(at_T[0].report).parent
        folder, about = export(
            asked._replace(run=run), format_name, spec, None if out is None else out / arm, overwrite
        )
        mean = fmean(one.top1 for one in at_T)
        found.append(
            Exported(
                arm=arm, seed=at_T[0].seed, mean_top1=mean, num_seeds=len(at_T), folder=str(folder), about=about
            )
        )  # fmt: skip
    if not found:
        raise JobError(str(asked.run), "has no finished run of length T", "raymix pilot JOB --resume")
    return tuple(found)


def arm_heads(found: tuple[Exported, ...]) -> list[str]:
    """What stands over the columns of `arm_cells`."""
    metric = METRIC_WORDS[found[0].about.spec.metric]
    return ["arm", f"{metric}, mean", "seeds", "this file", "MB", *(f"ms for {n}" for n in found[0].about.latency_ms)]


def arm_cells(found: tuple[Exported, ...]) -> list[list[str]]:
    """A line for each arm: accuracy in the pilot, and what its file has."""
    lines = []
    for one in found:
        last = one.about.sides[-1]
        times = [f"{ms:.2f}" for ms in last.latency_ms.values()]
        accuracies = [
            words.percent(one.mean_top1),
            str(one.num_seeds),
            words.percent(last.top1 if last.score is None else last.score),
        ]
        lines.append([one.arm, *accuracies, f"{last.bytes / 1e6:.2f}", *times])
    return lines
