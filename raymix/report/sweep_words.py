"""What a sweep says, in sentences and in cells of tables: the page, the terminal and Markdown show the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raymix.report import words
from raymix.report.compare import MIN_SEEDS
from raymix.report.pilot import Verdict
from raymix.report.sweep import AtLength, Cell, Edge, Gain, Line, Saved, SweepReport, Turns, Within
from raymix.spec import share_text

MIXING, SSL = "mixing", "SSL"
WHAT = {MIXING: "mix minus the best other arm", SSL: "the best arm with SSL, mix apart, minus sl"}
NOT_SEEN = "not seen in this range"
AXIS_WORDS = {"data.fraction": "images", "data.label_fraction": "labels"}
CROSSING_HEADS = ("along", "difference", "changes sign at", "95 % interval", "what it says")
SAVED_HEADS = ("where", "mix has", "sl needs", "95 % interval", "saved")


def headline(report: SweepReport) -> tuple[str, list[str]]:
    """The answer in a sentence, and what stands behind it, along the main line."""
    line = main_line(report)
    if line is None:
        return "No two cells to compare yet.", []
    rest = [f"Along {line.axis}, at {line.other} {share_text(line.held)}:"]
    rest += [words.sentence(f"{WHAT[name]}: {turns_text(line, of)}") for name, of in _differences(line)]
    rest += [saved_text(line, one) for one in line.saved[:1]]
    if not report.decided:
        why = f"{words.plural(len(line.seeds), 'seed')}{', preset quick' if report.preset == 'quick' else ''}"
        return f"This decides nothing ({why}; it needs {MIN_SEEDS} seeds or more and preset full).", rest
    return _answer(line), rest


def main_line(report: SweepReport) -> Line | None:
    """The line of the headline: along the labels where they are swept, at T, with the most images."""
    return report.lines[0] if report.lines and report.lines[0].length == 1.0 else None


def _answer(line: Line) -> str:
    turns, share = line.mixing, AXIS_WORDS[line.axis]
    if turns is None:
        return "mix was not compared."
    if told := [crossover for crossover in turns.crossovers if crossover.told]:
        parts = [
            f"{'from' if one.rises else 'up to'} {edge(one.at.value, line)} of the {share} "
            f"({span(one.at, line, share_text)})"
            for one in told
        ]
        return f"Mixing pays {' and '.join(parts)}."
    parts = [
        f"{does} at {listed}"
        for does, wanted in (("pays", 1), ("loses", -1))
        if (listed := _listed(line, [sign == wanted for sign in turns.signs]))
    ]
    if not parts:
        return f"At none of these shares of the {share} can a difference that mixing makes be told."
    open_ = _listed(line, [not sign for sign in turns.signs])
    rest = f"; at {open_} no difference can be told" if open_ else ", all that were swept"
    return f"Mixing {' and '.join(parts)} of the {share}{rest} (each by its own 95 % interval)."


def _listed(line: Line, which: Sequence[bool]) -> str:
    *others, last = [share_text(share) for share, there in zip(line.shares, which, strict=True) if there] or [""]
    return f"{', '.join(others)} and {last}" if others else last


def turns_text(line: Line, turns: Turns) -> str:
    """Where a difference changes its sign."""
    if not turns.crossovers:
        return f"a change of sign is {NOT_SEEN}, {tally(turns)}"
    return "; ".join(
        f"{'from behind to ahead' if one.rises else 'from ahead to behind'} at {edge(one.at.value, line)} "
        f"({span(one.at, line, share_text)}; between the cells {share_text(one.between[0])} and "
        f"{share_text(one.between[1])}){'' if one.told else ', which may be chance'}"
        for one in turns.crossovers
    )


def tally(turns: Turns) -> str:
    """In how many cells a difference is ahead or behind, and in how many that is told."""
    num = len(turns.signs)
    ahead, told = sum(turns.ahead), (sum(sign > 0 for sign in turns.signs), sum(sign < 0 for sign in turns.signs))
    certain = f"told in {told[0]} and {told[1]}" if any(told) else "told in none"
    return f"ahead in {ahead} of {num} cells, behind in {num - ahead} ({certain})"


def saved_text(line: Line, one: Saved) -> str:
    """Labels of sl for what mix reaches with some number of them."""
    labels, needed, interval, _ = saved_cells(line, one)
    return f"With {labels} labels mix is as good as sl with {needed} (95 % interval {interval})."


def where(line: Line) -> str:
    """The axis of a line and what is held: labels, at images 0.5."""
    return f"{AXIS_WORDS[line.axis]}, at {AXIS_WORDS[line.other]} {share_text(line.held)}"


def edge(value: Edge, line: Line) -> str:
    """A share on the axis of a line."""
    ends = (share_text(min(line.shares)), share_text(max(line.shares)))
    return _edge(value, ends, lambda share: f"{share:.2g}", ("below", "above"))


def span(within: Within, line: Line, shown: Callable[[float], str]) -> str:
    """The 95 % interval of a share."""
    return f"95 % interval {edge(within.low, line)} to {edge(within.high, line)}"


def _edge(value: Edge, ends: tuple[str, str], shown: Callable[[float], str], beyond: tuple[str, str]) -> str:
    if value == "below":
        return f"{beyond[0]} {ends[0]}"
    if value == "above":
        return f"{beyond[1]} {ends[1]}"
    assert not isinstance(value, str)
    return shown(value)


def _differences(line: Line) -> list[tuple[str, Turns]]:
    return [(name, of) for name, of in ((MIXING, line.mixing), (SSL, line.ssl)) if of is not None]


# ---- tables -------------------------------------------------------------------------------------------------------


def cell_heads(report: SweepReport, intervals: bool = True) -> list[str]:
    """Of the table of cells at a length."""
    arms = [f"{arm}, %" for arm in report.arms]
    gains = ["mix minus best other", "SSL minus sl"]
    return ["cell", "images", "labels", "T", *gains, "verdict", *(arms if intervals else [])]


def cell_cells(cell: Cell, at: AtLength, report: SweepReport, intervals: bool = True) -> list[str]:
    """A cell at a length; `intervals`: with the arms' own figures."""
    arms = [
        f"{top.value:.2f} ({top.low:.2f} to {top.high:.2f})" if (top := at.arms.get(arm)) else "-"
        for arm in report.arms
    ]
    return [
        cell_name(cell),
        words.count(cell.num_train),
        words.count(cell.num_labelled),
        words.seconds(cell.unit_seconds) if cell.unit_seconds else "-",
        _gain(at.mixing, "mix"),
        _gain(at.ssl, "sl"),
        verdict_word(cell.verdict) if at.length == 1.0 else "",
        *(arms if intervals else []),
    ]


def cell_name(cell: Cell) -> str:
    """Images 0.5, labels 0.1: its shares."""
    return f"images {share_text(cell.fraction)}, labels {share_text(cell.label_fraction)}"


def verdict_word(found: Verdict | None) -> str:
    """A pilot's verdict in a few words."""
    if found is None or found.top1_gain is None:
        return "-"
    if not found.decided:
        return "decides nothing"
    gain = found.top1_gain
    if gain.low > 0 or gain.high < 0:
        return f"{found.winner} wins" if gain.low > 0 else f"mix loses to {found.rival}"
    return f"no difference above {words.figure(found.detectable, '.2f')}"


def _gain(gain: Gain | None, shown: str) -> str:
    if gain is None:
        return "-"
    named = gain.rival if shown == "mix" else gain.arm
    return f"{words.points(gain.points.value)} ({words.point_interval(gain.points)}; {named})"


def crossing_cells(report: SweepReport, length: float) -> list[tuple[str, ...]]:
    """A line for each crossover, and for each difference that has none; what they are of is in `WHAT`."""
    found: list[tuple[str, ...]] = []
    for line in _lines(report, length):
        for name, turns in _differences(line):
            start = (where(line), name)
            for one in turns.crossovers:
                at = f"{edge(one.at.value, line)}, {'to ahead' if one.rises else 'to behind'}"
                low_high = f"{edge(one.at.low, line)} to {edge(one.at.high, line)}"
                cells = f"between {share_text(one.between[0])} and {share_text(one.between[1])}"
                told = "told on both sides" if one.told else _chance(report)
                found.append((*start, at, low_high, f"{cells}; {told}"))
            if not turns.crossovers:
                found.append((*start, NOT_SEEN, "", tally(turns)))
    return found


def _lines(report: SweepReport, length: float) -> list[Line]:
    return [line for line in report.lines if line.length == length]


def _chance(report: SweepReport) -> str:
    return "may be chance: not told on both sides" if report.decided else "decides nothing"


def saved_rows(report: SweepReport, length: float) -> list[tuple[str, ...]]:
    """A line for each cell: labels that mix had, that sl needs for it, and what that saves."""
    return [
        (f"{AXIS_WORDS[line.other]} {share_text(line.held)}", *saved_cells(line, one))
        for line in _lines(report, length)
        for one in line.saved
        if line.axis == "data.label_fraction" or len(report.axes) == 1
    ]


def saved_cells(line: Line, one: Saved) -> tuple[str, str, str, str]:
    """Labels of mix, labels of sl, their interval, labels saved."""
    ends = (words.count(min(line.labels)), words.count(max(line.labels)))

    def number(value: Edge) -> str:
        return _edge(value, ends, words.count, ("fewer than", "more than"))

    value, low, high = one.needed.value, number(one.needed.low), number(one.needed.high)
    if value == "above":
        least = max(line.labels) - one.labels
        saved = f"more than {words.count(least)}" if least else "not told"
    elif isinstance(value, str) or value <= one.labels:
        saved = "none"
    else:
        saved = f"{words.count(value - one.labels)} ({100 * (1 - one.labels / value):.0f} %)"
    return (words.count(one.labels), number(value), low if low == high else f"{low} to {high}", saved)


def counts(report: SweepReport) -> str:
    """How many of its cells are done."""
    return f"{sum(cell.status == 'done' for cell in report.cells)} of {len(report.cells)} cells"


def top_cells(report: SweepReport, cells: Sequence[tuple[Cell, AtLength]]) -> list[list[str]]:
    """For each cell the arms' mean top-1."""
    return [
        [cell_name(cell), *(f"{at.arms[arm].value:.2f}" if arm in at.arms else "-" for arm in report.arms)]
        for cell, at in cells
    ]


def cost_heads(report: SweepReport) -> list[str]:
    """Of what each cell took."""
    return ["cell", "wall", f"{report.unit} billed (B)", "cost"]


def cost_rows(report: SweepReport) -> list[tuple[str, ...]]:
    """What each cell took, what came beside them, and all of it."""
    cells = [(cell_name(cell), cell.wall_seconds, cell.worker_seconds, cell.cost) for cell in report.cells if cell.at]
    all_ = ("all, start-up included", report.wall_seconds, report.worker_seconds, report.cost)
    return [
        (name, words.seconds(wall), words.count(held), words.money(cost) if cost is not None else "-")
        for name, wall, held, cost in (*cells, all_)
    ]


def cells_at(report: SweepReport) -> list[tuple[float, list[tuple[Cell, AtLength]]]]:
    """Length by length, T first, the cells that have runs of it."""
    order: Sequence[float] = sorted(report.lengths, key=lambda length: (length != 1.0, length))
    return [
        (length, found)
        for length in order
        if (found := [(cell, at) for cell in report.cells for at in cell.at if at.length == length])
    ]
