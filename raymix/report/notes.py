"""What a reader must know of a pilot's runs, beside its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raymix.report import words
from raymix.report.history import History
from raymix.report.pilot import FailedRun, PilotRun

MOST_NAMED = 5  # runs that failed, one by one


def not_finite_note(history: History) -> str:
    """What was done about losses and gradients that were not finite; '': nothing."""
    backs = "; ".join(f"back to step {words.count(one.step)} ({one.reason})" for one in history.roll_backs)
    told = (
        f"{words.skipped(history.skipped)}." if history.skipped else "",
        f"Rolled back, at half the rate each time: {backs}." if backs else "",
    )
    return " ".join(filter(None, told))


def packed_note(arms: Mapping[str, Sequence[PilotRun]]) -> str:
    """What the seconds of runs that trained side by side say; '': there are none."""
    runs = [run for of in arms.values() for run in of]
    packed = sum(run.packed for run in runs)
    if not packed:
        return ""
    return (
        f"{packed} of {len(runs)} runs trained side by side with others: the seconds they took are not comparable. "
        "Their clock A is the planned one, steps at the times that were measured alone; of a GPU that they shared, "
        "clock B counts their part."
    )


def failed_note(failed: Sequence[FailedRun]) -> str:
    """Runs that failed for good, with why, in a sentence; '': there are none."""
    if not failed:
        return ""
    told = "; ".join(f"{run.arm}, seed {run.seed}, {words.times(run.length)}: {run.why}" for run in failed[:MOST_NAMED])
    more = f"; and {len(failed) - MOST_NAMED} more, which pilot.json names" if len(failed) > MOST_NAMED else ""
    which = f"{words.plural(len(failed), 'run')} failed for good and {'is' if len(failed) == 1 else 'are'} left out"
    return f"{which}: {told}{more}. Arms are compared over the seeds that all of them have."
