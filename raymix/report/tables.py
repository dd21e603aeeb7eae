"""Reports and plans as tables for a terminal of 80 columns; the same facts as the pages, in fewer columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raymix.plan import Phase, Plan, rate, weight, worker_counts
from raymix.report import course, effort, facts, lineup, words
from raymix.report.forecast import Forecast, PhaseForecast
from raymix.report.lineup import Line
from raymix.report.pilot import PilotReport
from raymix.report.replay import Replayed
from raymix.report.roi_table import roi_parts
from raymix.report.run import RunReport
from raymix.report.start_words import start_lines

STATUS_STYLES = {"done": "bold green", "interrupted": "bold yellow", "failed": "bold red"}


def pairs() -> Table:
    """An empty table of names and what is said of them, which is folded where it is long."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def run_table(report: RunReport) -> RenderableType:
    """A run: the headline, a line a phase, where the wall time went."""
    final, totals = report.final, report.totals
    top1 = facts.result_words(final) if final else "val was not read"
    headline = Text.assemble((report.name, "bold"), "  ", (report.status, STATUS_STYLES[report.status]), f"  {top1}")
    table = _table("phase", "epochs", "steps", "images", "seconds", "images/s", "SSL loss", "SL loss")
    for phase in report.phases:
        cells = facts.phase_cells(phase)
        table.add_row(phase.kind, *_pick(cells))
    table.add_section()
    table.add_row("all", *_pick(facts.total_cells(report.phases)), style="bold")
    spent = ", ".join(f"{name} {words.seconds(value)}" for name, value in facts.clock_b(report))
    bill = f"{words.count(totals.worker_seconds)} {report.unit} billed (clock B), {_cost(totals.cost)}"
    parts: list[RenderableType] = [
        headline,
        table,
        *(Text(line) for line in course.lines(report)),
        Text(course.ledger_line(report) or f"wall {words.seconds(totals.wall_seconds)}: {spent}"),
        Text(bill),
    ]
    lines = (
        *start_lines(report.start),
        facts.weights_line(report),
        facts.startup_line(report),
        facts.images_line(report),
        facts.groups_line(report),
        facts.near_line(report),
    )
    parts += [Text(line) for line in lines if line]
    if report.rows.skipped:
        parts.append(Text(f"unreadable images left out: {words.causes(report.rows.skipped)}", style="yellow"))
    return Group(*parts, *_note(report.note))


def sides_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> RenderableType:
    """Forms of one model side by side, a line each."""
    table = _table(*heads)
    for cells in lines:
        table.add_row(*cells)
    return table


def replay_table(done: Replayed) -> RenderableType:
    """A repeated run: whether it is the same, what is not, and what it was made with that is not."""
    verdict = Text("the same, bit for bit", "bold green") if done.equal else Text("not the same", "bold yellow")
    headline = Text.assemble((done.report.name, "bold"), f"  of {done.run}: ", verdict)
    losses = f"losses of {done.segments} segments: "
    if done.first_step is None:
        losses += "equal"
    else:
        losses += f"from step {done.first_step} on not equal, largest difference {done.largest_loss_difference:.3g}"
    parts: list[RenderableType] = [headline, Text(losses)]
    if done.outcome or done.made_with:
        table = _table("what differs", "before", "now")
        for column in table.columns:
            column.justify, column.overflow = "left", "fold"
        for pairs in (done.outcome, done.made_with):
            for pair in pairs:
                table.add_row(pair.what, pair.before, pair.now)
            table.add_section()
        parts.append(table)
    return Group(*parts, *(Text(f"not compared: {what}", style="yellow") for what in done.not_compared))


def pilot_table(report: PilotReport) -> RenderableType:
    """A pilot: the verdict, then a line for each arm, length by length."""
    lead = facts.lead_arm(report)
    table = _table("arm", "top-1 ± sd", f"{lead} minus this (95 %)", "step-s", "billed", "cost")
    lines = facts.arm_lines(report)
    for length in sorted({line.length for line in lines}):
        table.add_section()
        table.add_row(Text(f"length {words.times(length)}", style="italic"))
        for line in lines:
            if line.length == length:
                costs = facts.cost_cells(line)
                accuracies = facts.accuracy_cells(line)
                style = "bold" if line.arm == lead else ""
                table.add_row(line.arm, *accuracies, costs[0], costs[4], costs[5], style=style)
    found = report.verdict
    clocks = f"step-s: planned step-seconds (clock A); billed: {report.unit} (clock B); means of a run"
    tried = f"{facts.tried_line(report)}; seeds {', '.join(map(str, report.seeds))}"
    return Group(
        Text.assemble((report.name, "bold"), "  ", (report.status, STATUS_STYLES[report.status])),
        Text(found.text, style="bold" if found.decided else "bold yellow"),
        table,
        *_beside(report),
        Text(f"{clocks}; {_cost(None) + '; ' if report.price_per_worker_hour is None else ''}{tried}", style="dim"),
        *roi_parts(report.roi),
        Text(facts.detectable_line(report), style="dim"),
        *(Text(f"{arm}: {what}", style="dim") for arm, what in report.defined.items()),
        *_note(report.note),
    )


def _beside(report: PilotReport) -> list[RenderableType]:
    """The arms at T by what they did rather than by seconds, and compared so: secondary."""
    did, equal = _table("arm, at T", *effort.EFFORT_HEADS), _table("at equal", *effort.AMOUNTS)
    for arm, cells in (found := effort.effort_cells(report)):
        did.add_row(arm, *cells)
    for arm, cells in effort.equal_cells(report):
        equal.add_row(arm, *(cell.replace(" (", "\n(") for cell in cells))
    if not found:
        return []
    parts: list[RenderableType] = [Text("beside equal seconds (secondary)", style="italic"), did]
    if equal.row_count:
        parts += [equal, Text(effort.secondary_note(report), style="dim")]
    return parts


def plan_table(plan: Plan, forecast: Forecast | None = None) -> RenderableType:
    """What a job will do, phase by phase.

    Args:
        forecast: What it will cost; None: no costs are shown.
    """
    costs = forecast.costs if forecast else None
    # a column for the step kinds only where they are not the phase's own: 80 columns are few
    kinds = any(turn[0] != phase.kind for phase in plan.phases for turn in phase.turns)
    heads = {"epochs": True, "steps": True, "kinds": kinds, "images": True, "labelled": bool(forecast)}
    heads |= {"lr": True, "w": True, "seconds": bool(costs)}
    table = _table("phase", *(head for head, there in heads.items() if there))
    for index, phase in enumerate(plan.phases):
        cells = _plan_cells(plan, phase, forecast.phases[index] if forecast else None)
        table.add_row(phase.kind, *(cell for cell, there in zip(cells, heads.values(), strict=True) if there))
    table.add_section()
    images, labelled = words.count(plan.num_steps * plan.spec.batch), words.count(forecast.labelled if forecast else 0)
    seconds = words.tenths(costs.train_seconds.value) if costs else ""
    total = ["", words.count(plan.num_steps), "", images, labelled, "", "", seconds]
    table.add_row("all", *(c for c, there in zip(total, heads.values(), strict=True) if there), style="bold")
    facts_ = plan.facts
    tiles = f" ({facts_.tiles} tiles of each image)" if facts_.tiles > 1 else ""
    rows = (
        f"rows: {words.count(facts_.num_train)} train{tiles}, {words.count(facts_.num_labelled)} of them labelled, "
        f"{words.count(facts_.num_select)} select, {words.count(facts_.num_val)} val; {facts_.num_classes} classes"
    )
    parts: list[RenderableType] = [Text(plan.spec.name, style="bold"), table, Text(rows)]
    parts += [Text(line) for line in facts.forecast_lines(forecast)] if forecast else []
    if (elastic := plan.spec.cluster.elastic) is not None:
        held = words.plural(elastic.max, "worker")
        counts = ", ".join(map(str, worker_counts(plan.spec, plan.facts.run)))
        parts.append(Text(f"assumes {held} throughout; {counts} share a batch evenly", style="dim"))
    if plan.spec.optim.batch == "auto":
        text = f"optim.batch: found when the run starts; {plan.spec.batch} stands for it here"
        parts.append(Text(text, style="yellow"))
    if facts_.num_val:
        pilot = plan.spec.pilot
        foretold = facts.foretold_line(pilot.pairs(pilot.compared), plan.spec, facts_)
        parts.append(Text(f"pilot: {foretold}", style="dim"))
    return Group(*parts)


def what_if_table(field: str, lines: Sequence[tuple[str, Forecast]]) -> RenderableType:
    """A line for each value of a field: what the run would cost with it."""
    table = _table(field, "steps", "images", "labelled", "train s", "wall s", "worker-h", "cost")
    for value, forecast in lines:
        costs = forecast.costs
        spent = ["-"] * 4
        if costs:
            money = words.money(costs.money.value) if costs.money else "-"
            wall, train = costs.wall_seconds.value, costs.train_seconds.value
            spent = [words.tenths(train), words.tenths(wall), f"{costs.worker_hours.value:.3g}", money]
        counts = (forecast.steps, forecast.images, forecast.labelled)
        table.add_row(value, *(words.count(number) for number in counts), *spent)
    sources = dict.fromkeys(forecast.source for _, forecast in lines)
    return Group(Text(""), table, *(Text(source, style="dim") for source in sources))


def runs_table(runs: Sequence[tuple[Path | str, RunReport]]) -> RenderableType:
    """Runs, a line each, as `raymix.report.folder.find_runs` gives them."""
    if not runs:
        return Text("no runs")
    table = _table("run", "status", "top-1", "val", "wall", "billed", "cost")
    table.columns[0].overflow = "fold"  # a path is of use whole or not at all
    table.columns[1].justify = "left"
    for path, report in runs:
        final = report.final
        table.add_row(
            str(path),
            Text(report.status, style=STATUS_STYLES[report.status]),
            words.percent(final.top1 if final else None),
            words.count(final.num_val) if final else "-",
            words.seconds(report.totals.wall_seconds),
            f"{words.count(report.totals.worker_seconds)} {'GPU-s' if report.unit == 'GPU-seconds' else 'worker-s'}",
            words.money(report.totals.cost) if report.totals.cost is not None else "-",
        )
    return table


def lines_table(lines: Sequence[Line]) -> RenderableType:
    """Runs and pilots side by side, as `raymix.report.lineup.line_up` gives them."""
    table = _table("run", "status", "top-1", "95 % interval", "seconds", "billed", "cost", "phases")
    table.columns[0].overflow = "fold"
    table.columns[-1].justify = "left"
    for line in lines:
        name, status, top1, interval, _, _, seconds, billed, cost, phases = lineup.cells(line)
        cost = cost if line.cost is not None else "-"
        table.add_row(
            name, Text(status, style=STATUS_STYLES[line.status]), top1, interval, seconds, billed, cost, phases
        )
    paired = _table(*lineup.PAIRED_HEADS)
    for column in paired.columns[:2]:
        column.overflow, column.justify = "fold", "left"
    for pair in lineup.paired_cells(lines):
        paired.add_row(*pair)
    parts: list[RenderableType] = [table]
    if paired.row_count:
        parts += [Text(""), paired]
    return Group(*parts, *(Text(remark, style="dim") for remark in lineup.remarks(lines)))


def _table(first: str, *heads: str) -> Table:
    """A table whose first column is text and whose others are figures."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column(first, justify="left", no_wrap=False)
    for head in heads:
        table.add_column(head, justify="right")
    return table


def _pick(cells: Sequence[str]) -> list[str]:
    """Of `facts.phase_cells`, what fits: without labelled images, predicted seconds, worker-seconds and cost."""
    return [cells[i] for i in (0, 1, 2, 4, 6, 9, 10)]


def _cost(cost: float | None) -> str:
    return words.PRICE_NOT_SET if cost is None else f"cost {words.money(cost)}"


def _note(note: str) -> list[RenderableType]:
    return [Text(note, style="yellow")] if note else []


def _plan_cells(plan: Plan, phase: Phase, cost: PhaseForecast | None) -> list[str]:
    last = phase.start + phase.steps - 1
    # turns that alternate are one kind each: say which there are, not each turn
    kinds = ", ".join(dict.fromkeys(kind for kind, _ in phase.turns))
    return [
        words.epochs(phase.epochs),
        words.count(phase.steps),
        kinds,
        words.count(phase.steps * plan.spec.batch),
        words.count(cost.labelled if cost else 0),
        _change(f"{rate(plan, phase.start):.1e}", f"{rate(plan, last):.1e}"),
        _change(f"{weight(plan, phase.start):.2f}", f"{weight(plan, last):.2f}"),
        words.figure(cost.seconds if cost else None, ",.1f"),
    ]


def _change(start: str, end: str) -> str:
    return start if start == end else f"{start} > {end}"
