"""What a repeated run has in common with the first one: losses, accuracy, tensors, and what they were made with."""

from __future__ import annotations

from itertools import zip_longest

from pydantic import Field

from raymix.report.environment import Environment, GitState
from raymix.report.run import Point, RunReport
from raymix.spec import Section

_LOSSES = ("ssl_loss", "sl_loss")
_OUTCOMES = (*_LOSSES, "train_top1", "select_top1", "select_ema_top1", "trial_half_top1", "trial_top1")


class Pair(Section):
    """Something that is not what it was."""

    what: str
    before: str
    now: str


class Replayed(Section):
    """A run that was repeated, held against the first one."""

    run: str = Field(description="folder of the first one")
    replay: str = Field(description="folder of the second one")
    equal: bool = Field(description="losses, accuracy and final tensors are the same, bit for bit")
    segments: int = Field(description="whose losses and accuracies were compared")
    first_step: int | None = Field(description="at which the first segment begins that is not the same; null: none")
    largest_loss_difference: float = Field(description="over all segments, SSL and SL losses")
    outcome: tuple[Pair, ...] = Field(description="top-1, tensors, length: what is not the same of what came out")
    made_with: tuple[Pair, ...] = Field(description="versions, machine, settings that are not the same")
    not_compared: tuple[str, ...] = ()
    report: RunReport = Field(description="of the second one")


class Side(Section):
    """One of the two runs; `tensors`: sha256 of its last checkpoint's, null: it is gone."""

    folder: str
    report: RunReport
    environment: Environment
    tensors: str | None


def compared(before: Side, now: Side) -> Replayed:
    """Two runs side by side; arithmetic only."""
    old, new = before.report, now.report
    pairs = list(zip_longest(old.curve, new.curve))
    differ = [index for index, (a, b) in enumerate(pairs) if not _same(a, b)]
    first = None
    if differ:
        first = old.curve[differ[0] - 1].step if differ[0] else 0
    outcome = [
        Pair(what="steps", before=_steps(old), now=_steps(new)),
        Pair(what="top-1", before=_top1(old), now=_top1(new)),
    ]
    skipped = []
    if before.tensors and now.tensors:
        outcome.append(Pair(what="final tensors, sha256", before=before.tensors, now=now.tensors))
    else:
        skipped.append("final tensors: a checkpoint is gone")
    other = tuple(pair for pair in outcome if pair.before != pair.now)
    return Replayed(
        run=before.folder,
        replay=now.folder,
        equal=not differ and not other,
        segments=len(pairs),
        first_step=first,
        largest_loss_difference=max((_gap(a, b) for a, b in pairs if a and b), default=0.0),
        outcome=other,
        made_with=_made_with(before.environment, now.environment),
        not_compared=tuple(skipped),
        report=new,
    )


def _same(a: Point | None, b: Point | None) -> bool:
    if a is None or b is None:
        return False
    return a.step == b.step and all(getattr(a, name) == getattr(b, name) for name in _OUTCOMES)


def _gap(a: Point, b: Point) -> float:
    """The largest difference of the losses of a segment."""
    both = ((getattr(a, name), getattr(b, name)) for name in _LOSSES)
    return max((abs(x - y) for x, y in both if x is not None and y is not None), default=0.0)


def _steps(report: RunReport) -> str:
    return str(report.curve[-1].step if report.curve else 0)


def _top1(report: RunReport) -> str:
    """With which rows are right: two runs may have as many of them, and not the same."""
    final = report.final
    return "none" if final is None else f"{final.top1:.4f} % ({final.correct[:16]})" if final.correct else "none"


def _made_with(a: Environment, b: Environment) -> tuple[Pair, ...]:
    old, new = _flat(a), _flat(b)
    names = dict.fromkeys((*old, *new))
    pairs = (Pair(what=name, before=old.get(name, "-"), now=new.get(name, "-")) for name in names)
    return tuple(pair for pair in pairs if pair.before != pair.now)


def _flat(told: Environment) -> dict[str, str]:
    machine = {name: str(getattr(told, name)) for name in ("platform", "cpu", "device", "device_name", "workers")}
    git = {"git": _git(told.git), "raymix's code": _git(told.code)}
    return {**told.versions, **machine, **git, **told.variables}


def _git(state: GitState | None) -> str:
    return "none" if state is None else f"{state.commit[:12]}{', changed' if state.dirty else ''}"
