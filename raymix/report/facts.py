"""What the pages and the terminal both show, worked out once: rows of cells from a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from raymix.plan import Facts
from raymix.report import words
from raymix.report.compare import paired
from raymix.report.forecast import Forecast
from raymix.report.intervals import RESAMPLES, at_length, foretold, paired_interval
from raymix.report.judging import METRIC_WORDS, expected
from raymix.report.pilot import Interval, PilotReport, PilotRun
from raymix.report.run import Final, GroupRows, NearRows, PhaseReport, RunReport
from raymix.report.start import Shares
from raymix.spec import JobSpec

RESAMPLED_IMAGES = 10_000_000  # over many val rows fewer resamples do: they give an interval its shape, not its width


@dataclass(frozen=True)
class ArmLine:
    """One arm at one length, over its seeds; seconds and counts are means of a run."""

    arm: str
    length: float
    runs: tuple[PilotRun, ...]
    top1: float
    spread: float | None  # standard deviation over seeds; None for one seed
    behind: Interval | None  # mix minus this arm, in points; None for mix itself
    paired: int | None  # seeds that it shares with mix, where arms have not all the same; None: they have
    planned_seconds: float
    trained_seconds: float  # steps and their wait for data, as the measured rates that a plan goes by have it
    worker_seconds: float
    billed: float
    cost: float | None
    epochs: tuple[float, float]
    steps: float
    images: float
    labelled: float


def lead_arm(report: PilotReport) -> str:
    """The arm that the others are compared with: mix, or else the winner."""
    return "mix" if report.arms.get("mix") else report.verdict.winner or next(iter(report.arms), "")


def num_paired(report: PilotReport) -> int:
    """The seeds at T of the verdict's pair; before there is one, all that there are."""
    pair = {arm: runs for arm, runs in report.arms.items() if arm in (lead_arm(report), report.verdict.rival)}
    runs = paired(pair) if len(pair) == 2 else {}
    return len(next(iter(runs.values()))) if runs else len(report.seeds)


def arm_lines(report: PilotReport) -> list[ArmLine]:
    """A line for each length and arm, length by length; arms without a run of that length are left out."""
    lengths = sorted({run.length for runs in report.arms.values() for run in runs})
    return [
        _arm_line(report, name, here, length)
        for length in lengths
        for name, runs in report.arms.items()
        if (here := at_length(runs, length))
    ]


def _arm_line(report: PilotReport, name: str, runs: tuple[PilotRun, ...], length: float) -> ArmLine:
    costs = [run.cost for run in runs if run.cost is not None]
    return ArmLine(
        arm=name,
        length=length,
        runs=tuple(sorted(runs, key=lambda run: run.seed)),
        top1=fmean(run.top1 for run in runs),
        spread=stdev(run.top1 for run in runs) if len(runs) > 1 else None,
        behind=_behind(report, name, runs, length),
        paired=_paired(report, runs, length),
        planned_seconds=fmean(run.planned_seconds for run in runs),
        trained_seconds=fmean(run.worker_seconds for run in runs) / report.workers,
        worker_seconds=fmean(run.worker_seconds for run in runs),
        billed=fmean(run.billed_worker_seconds for run in runs),
        cost=fmean(costs) if costs else None,
        epochs=(fmean(run.ssl_epochs for run in runs), fmean(run.sl_epochs for run in runs)),
        steps=fmean(run.steps for run in runs),
        images=fmean(run.images for run in runs),
        labelled=fmean(run.labelled for run in runs),
    )


def _behind(report: PilotReport, name: str, runs: Sequence[PilotRun], length: float) -> Interval | None:
    lead = lead_arm(report)
    leaders = at_length(report.arms.get(lead, ()), length)
    if name == lead or not {run.seed for run in leaders} & {run.seed for run in runs}:
        return None
    resamples = min(RESAMPLES, max(200, RESAMPLED_IMAGES // max(1, report.num_val)))
    return paired_interval(leaders, runs, report.judged, resamples)


def _paired(report: PilotReport, runs: Sequence[PilotRun], length: float) -> int | None:
    """The seeds that an arm shares with the lead, where arms have not all the same; None: they have."""
    seeds = [{run.seed for run in here} for of in report.arms.values() if (here := at_length(of, length))]
    leaders = at_length(report.arms.get(lead_arm(report), ()), length)
    if all(of == seeds[0] for of in seeds):
        return None
    return len({run.seed for run in leaders} & {run.seed for run in runs})


def clock_b(report: RunReport) -> list[tuple[str, float]]:
    """Where the wall seconds of a run went, those without a name of their own last."""
    totals = report.totals
    named = [
        ("start-up", totals.startup_seconds),
        ("steps", totals.step_seconds),
        ("data wait", totals.data_seconds),
        ("evaluation", totals.evaluate_seconds),
        ("checkpoints", totals.checkpoint_seconds),
    ]
    rest = totals.wall_seconds - sum(value for _, value in named)
    return [*named, ("other", max(0.0, rest))]


def result_words(final: Final) -> str:
    """The result by its metric, and beside another one top-1."""
    told = f"{METRIC_WORDS[final.metric]} {words.percent(final.top1)} of {words.count(final.num_val)} val images"
    if final.metric == "top1" or not final.by_class:
        return told
    right = sum(hits for _, hits in final.by_class) / sum(rows for rows, _ in final.by_class)
    cost = "" if final.cost is None else f"{final.cost:.3g} an image; "
    return f"{told} ({cost}top-1 {words.percent(100 * right)})"


def weights_line(report: RunReport) -> str:
    """Top-1 of the raw and of the averaged weights; '' where there are only raw ones."""
    final = report.final
    if final is None or len(final.by_weights) < 2:
        return ""
    raw, averaged = (words.percent(final.by_weights[name]) for name in ("raw", "ema"))
    name = METRIC_WORDS[final.metric]
    return f"{name} of the last weights {raw}, of the averaged ones {averaged}; evaluate.weights: {final.weights}"


def share_rows(shares: Shares, most: int = 12) -> list[tuple[str, list[str]]]:
    """Classes whose share has moved most, first: name, rows and share then, rows and share of the new rows."""
    before, new = (max(1, sum(getattr(one, side) for one in shares.classes)) for side in ("before", "new"))
    moved = sorted(shares.classes, key=lambda one: (-abs(one.before / before - one.new / new), one.name))
    return [(one.name, [_share_of(one.before, before), _share_of(one.new, new)]) for one in moved[:most]]


def _share_of(number: int, total: int) -> str:
    return f"{words.count(number)} ({words.percent(100 * number / total)})"


def startup_line(report: RunReport) -> str:
    """The parts of the start-up, of all attempts; '' where there are none."""
    parts = ", ".join(f"{name} {words.seconds(value)}" for name, value in report.totals.startup.items())
    beside = " (images are read while workers start)" if "workers" in report.totals.startup else ""
    return f"start-up: {parts}{beside}" if parts else ""


def phase_cells(phase: PhaseReport) -> list[str]:
    """A phase as cells: epochs, steps, images, labelled, seconds, predicted, images/s, worker-seconds, cost, losses."""
    return [
        words.epochs(phase.epochs),
        words.count(phase.steps),
        words.count(phase.images),
        words.count(phase.labelled),
        words.tenths(phase.seconds),
        words.figure(phase.predicted_seconds, ",.1f"),
        words.count(phase.images / phase.seconds) if phase.seconds else "-",
        words.tenths(phase.worker_seconds),
        words.money(phase.cost) if phase.cost is not None else "-",
        words.figure(phase.ssl_loss),
        words.figure(phase.sl_loss),
    ]


def total_cells(phases: Sequence[PhaseReport]) -> list[str]:
    """The sum of all phases, in the same cells."""
    costs = [phase.cost for phase in phases if phase.cost is not None]
    seconds = sum(phase.seconds for phase in phases)
    images = sum(phase.images for phase in phases)
    predicted = [phase.predicted_seconds for phase in phases if phase.predicted_seconds is not None]
    return [
        "",
        words.count(sum(phase.steps for phase in phases)),
        words.count(images),
        words.count(sum(phase.labelled for phase in phases)),
        words.tenths(seconds),
        words.tenths(sum(predicted)) if len(predicted) == len(phases) else "-",
        words.count(images / seconds) if seconds else "-",
        words.tenths(sum(phase.worker_seconds for phase in phases)),
        words.money(sum(costs)) if costs else "-",
        "",
        "",
    ]


def accuracy_cells(line: ArmLine) -> list[str]:
    """How good an arm is at a length, as cells: top-1 in percent, mix minus it in points."""
    told = "" if line.paired is None else f"; n = {line.paired}"
    return [
        f"{line.top1:.2f}" if line.spread is None else f"{line.top1:.2f} ± {line.spread:.2f}",
        "" if line.behind is None else f"{words.points(line.behind.value)} ({words.point_interval(line.behind)}{told})",
    ]


def cost_cells(line: ArmLine) -> list[str]:
    """What a run of an arm takes, as cells: planned and measured seconds, clocks A and B, cost, epochs, counts."""
    ssl, sl = line.epochs
    packed = any(run.packed for run in line.runs)
    off = f"{100 * (line.trained_seconds / line.planned_seconds - 1):+.1f} %" if line.planned_seconds else "-"
    return [
        words.tenths(line.planned_seconds),
        "side by side" if packed else words.tenths(line.trained_seconds),
        "-" if packed else off,
        words.tenths(line.worker_seconds),
        words.tenths(line.billed),
        words.money(line.cost) if line.cost is not None else "-",
        f"{words.epochs(ssl)} + {words.epochs(sl)}",
        words.count(line.steps),
        words.count(line.images),
        words.count(line.labelled),
    ]


def rows_lines(report: RunReport) -> list[tuple[str, str, str]]:
    """Every row accounted for: name, count, what it means."""
    rows = report.rows
    lines = [
        ("train", words.count(rows.train), "seen by training"),
        ("labelled", words.count(rows.labelled), "of these, with a label"),
        ("unlabelled", words.count(rows.unlabelled), "of these, without: self-supervised only"),
        ("select", words.count(rows.select), "kept for choosing, never trained on"),
        ("val", words.count(rows.val), "read once, at the end"),
    ]
    if rows.tiles > 1:
        lines.insert(1, ("tiles", words.count(rows.tiles * rows.train), f"{rows.tiles} of each: what training sees"))
    if rows.groups is not None:
        lines += _group_lines(rows.groups)
    if rows.near is not None:
        for part, number in (("val", rows.near.val), ("select", rows.near.select)):
            lines.append((f"near-duplicates: {part}", words.count(number), _near_words(rows.near)))
    lines += [(f"skipped: {cause}", words.count(number), "unreadable") for cause, number in rows.skipped.items()]
    of = {"all": rows.train, "labelled": rows.labelled, "unlabelled": rows.unlabelled}
    for stream, seen in rows.seen.items():
        if seen:
            lines.append((f"seen: {stream}", words.count(seen), _passes(seen, rows.tiles * of[stream])))
    if len(rows.sources) > 1:
        for name, source in rows.sources.items():
            lines.append(
                (f"seen of data.{name}", words.count(source.seen), _passes(source.seen, rows.tiles * source.rows))
            )
            if source.shared:
                lines.append((f"left out of data.{name}", words.count(source.shared), "another source has them"))
    return lines


def _group_lines(groups: GroupRows) -> list[tuple[str, str, str]]:
    """The groups of each part, and what whole groups have cost."""
    lines = [
        (f"groups: {part}", words.count(number), "none of them is in another part")
        for part, number in (("train", groups.train), ("select", groups.select), ("val", groups.val))
    ]
    if groups.left_out:
        lines.append(("left out", words.count(groups.left_out), "unlabelled rows of groups of select and val"))
    for part, classes in (("select", groups.select_lacks), ("val", groups.val_lacks)):
        if classes:
            lines.append((f"classes without {part}", words.count(len(classes)), f"too few groups: {_listed(classes)}"))
    return lines


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _near_words(near: NearRows) -> str:
    return f"look like a training image: hashes differ in {near.distance} of 63 bits at most"


def near_line(report: RunReport) -> str:
    """How many val and select images look like a training image; empty where that was not asked for."""
    near = report.rows.near
    return f"near-duplicates: {words.near(near.val, near.select, near.without)}" if near else ""


def groups_line(report: RunReport) -> str:
    """How many groups each part has; empty where there are none."""
    groups = report.rows.groups
    if groups is None:
        return ""
    lacks = f"; too few for {_listed(groups.val_lacks)} in val" if groups.val_lacks else ""
    return f"groups: {groups.train:,} train, {groups.select:,} select, {groups.val:,} val; none is cut through{lacks}"


def images_line(report: RunReport) -> str:
    """How the decoded images were held, and what a GPU held in all; empty where nobody wrote it down."""
    images, held = report.images, report.totals.gpu_bytes
    if images is None:
        return ""
    place = {"device": "kept on the GPU", "host": "kept in host memory", "stream": "streamed, read anew every epoch"}
    tiles = report.rows.tiles
    cut = f"each in {tiles} tiles, which is what phases count, of " if tiles > 1 else ""
    what = f"{cut}{images.size} x {images.size} pixels, {images.channels}"
    most = f" A GPU held {words.size(held)} at most." if held else ""
    return f"Images: {what}, {words.size(images.bytes)} decoded, {place[images.kept]}.{most}"


def _passes(seen: int, rows: int) -> str:
    return f"{seen / rows:.2f} passes over {words.count(rows)} rows" if rows else "no rows"


def foretold_line(pairs: Mapping[str, int], spec: JobSpec, known: Facts) -> str:
    """The smallest difference that a pilot can tell, before it starts; see `raymix.report.intervals.foretold`.

    Args:
        pairs: For each arm the seeds that it is paired over; where they differ, each number is told with its arms.
        spec: The job, by whose metric it judges.
        known: The rows that there are.
    """
    if set(pairs.values()) == {1}:
        return "one seed has no spread, so no difference can be told; it decides nothing"
    effective = expected(spec, known)
    alike = f" (as much as {words.count(effective)} that count alike)" if effective < known.num_val else ""
    images = f"{words.count(known.num_val)} val images{alike}"
    told = [
        f"with {words.plural(n, 'seed')}{_whose(pairs, n)} and {images}, "
        + (f"differences from {foretold(spec, known, n):.1f} points on" if n > 1 else "none")
        for n in sorted(set(pairs.values()), reverse=True)
    ]
    return f"{'; '.join(told)} can be told (at 20 % top-1, 95 %, power 80 %)"


def _whose(pairs: Mapping[str, int], n: int) -> str:
    """The arms that are paired over so many seeds, in brackets, where not all are."""
    arms = [arm for arm, of in pairs.items() if of == n]
    return f" ({', '.join(arms)})" if len(arms) < len(pairs) else ""


def tried_line(report: PilotReport) -> str:
    """Among how many configurations each arm was chosen (DESIGN section 3, rule 3)."""
    if len(set(report.tried_of.values())) <= 1:
        return f"configurations tried for each arm: {report.tried}" + (" (none was tuned)" if report.tried == 1 else "")
    told = ", ".join(f"{arm} {num}" for arm, num in report.tried_of.items())
    return f"configurations tried: {told} (so the arms were not tuned alike)"


def detectable_line(report: PilotReport) -> str:
    """The smallest difference that a pilot can tell: as told before it started, and by the spread that was measured."""
    after = report.verdict.detectable
    if len(report.seeds) == 1:
        return "smallest difference that can be told: one seed tells none"
    measured = "not measured" if after is None else f"{after:.2f} points by the measured spread"
    before = f"{report.detectable:.2f} points expected before the runs (at 20 % top-1)"
    return f"smallest difference that can be told (95 %, power 80 %): {before}; {measured}"


def forecast_lines(forecast: Forecast) -> list[str]:
    """What a plan will cost, in sentences; start-up and prepare stand apart from what the steps take."""
    lines, costs = [], forecast.costs
    if costs is not None:
        trained = span(costs.train_seconds, words.seconds)
        parts = (
            ("evaluation", costs.evaluate_seconds),
            ("checkpoints", costs.checkpoint_seconds),
            ("prepare", costs.prepare_seconds),
            ("start-up and end", costs.startup_seconds),
        )
        beside = ", ".join(f"{name} {words.seconds(value)}" for name, value in parts)
        money = span(costs.money, words.money) if costs.money else words.PRICE_NOT_SET
        hours = span(costs.worker_hours, lambda value: f"{value:.3g}")
        lines += [
            f"training {trained}; {beside}",
            f"wall {span(costs.wall_seconds, words.seconds)}; worker-hours {hours}; cost: {money}",
        ]
    lines.append(forecast.source if forecast.costs is None else f"seconds {forecast.source}")
    held = f"images {words.size(forecast.data_bytes)} decoded, at most"
    if forecast.parameters is not None and forecast.memory_bytes is not None:
        held += (
            f"; {words.count(forecast.parameters)} parameters, with gradients and optimizer state "
            f"{words.size(forecast.memory_bytes)} a worker, without activations"
        )
    return [*lines, held]


def span(interval: Interval, shown: Callable[[float], str]) -> str:
    """A figure and its interval, as in 42 s (40 s to 45 s)."""
    return f"{shown(interval.value)} ({shown(interval.low)} to {shown(interval.high)})"
