"""What people see: lines that do not flood, a bar on a terminal, results left to standard output."""

from __future__ import annotations

import io
import os
import pty

import pytest
from rich.console import Console

from raymix.plan import Decision, Plan
from raymix.report.history import History, Rates
from raymix.watch import Sinks, console
from raymix.watch.console import ConsoleSink
from raymix.watch.progress import Progress
from raymix.watch.views import Bars, Cell
from tests.report.factory import make_history, make_plan, make_reports, make_run


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def play(sink: ConsoleSink, clock: Clock, name: str = "demo", seconds: float | None = None, skip: int = 0) -> None:
    """A whole run, its segments taking their own seconds or `seconds` each."""
    plan = make_plan(name)
    sink.begin(name, plan, make_history(plan, skip))
    for report in make_reports(plan)[skip:]:
        clock.now += report.seconds if seconds is None else seconds
        sink.segment(name, report)
    sink.end(name, make_run(name))


def test_progress_is_single_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    sink = ConsoleSink(clock=clock)
    play(sink, clock)
    sink.close()
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert "\x1b" not in captured.err
    assert lines[0] == "demo: starts; 501 steps (ssl 188, mix 188, sl 125)"
    assert "demo: phase mix" in lines
    assert "demo: phase sl" in lines
    assert lines[-1].startswith("demo: done, top-1 71.3 %")
    assert 10 <= len(lines) <= 20
    assert any("ssl loss" in line and "img/s" in line and "select" in line and "left" in line for line in lines)


def test_quick_runs_do_not_flood(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    sink = ConsoleSink(num_runs=25, clock=clock)
    for seed in range(25):
        play(sink, clock, f"mix-{seed}", seconds=0.01)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 25 * 6
    assert "mix-3 (run 4 of 25): starts" in "\n".join(lines)


def test_a_long_run_says_something_every_minute_and_not_more_than_it_must(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    play(ConsoleSink(clock=clock), clock, seconds=59.0)
    assert len(capsys.readouterr().err.splitlines()) >= len(make_reports(make_plan())) / 2


def test_a_run_that_goes_on_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    play(ConsoleSink(clock=clock), clock, skip=4)
    assert "demo: goes on at step" in capsys.readouterr().err


def test_a_restart_is_not_another_run(capsys: pytest.CaptureFixture[str]) -> None:
    plan, sink = make_plan(), ConsoleSink(num_runs=2)
    sink.begin("a", plan, make_history(plan, 0))
    sink.begin("a", plan, make_history(plan, 2))
    sink.begin("b", plan, make_history(plan, 0))
    assert "b (run 2 of 2)" in capsys.readouterr().err


def side_by_side(sink: ConsoleSink, clock: Clock) -> None:
    """Two runs whose segments come in turns; the second ends first."""
    plans = {name: make_plan(name) for name in ("a", "b")}
    for name, plan in plans.items():
        sink.begin(name, plan, make_history(plan, 0))
    for report in make_reports(plans["a"])[:-1]:
        for name in plans:
            clock.now += report.seconds
            sink.segment(name, report)
    for name in ("b", "a"):
        sink.segment(name, make_reports(plans[name])[-1])
        sink.end(name, make_run(name))


def test_runs_side_by_side_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    side_by_side(ConsoleSink(num_runs=2, clock=clock), clock)
    lines = capsys.readouterr().err.splitlines()
    for name, number in (("a", 1), ("b", 2)):
        own = [line for line in lines if line.startswith(f"{name} (run {number} of 2): ")]
        assert [line.rsplit(": ", 1)[1] for line in own if ": phase " in line] == ["phase mix", "phase sl"]
        steps = [int(line.split("step ")[1].split("/")[0]) for line in own if ": step " in line]
        assert steps == sorted(steps)
        assert len(steps) > 5
    assert [line.split(" ")[0] for line in lines[-2:]] == ["b", "a"]


def test_a_terminal_gets_a_bar_for_each_run_side_by_side(terminal: io.StringIO) -> None:
    clock = Clock()
    sink = ConsoleSink(num_runs=3, clock=clock)
    sink.stage("measuring step times")
    side_by_side(sink, clock)
    text = terminal.getvalue()
    assert text.index("b (run 2 of 3): done") < text.index("a (run 1 of 3): done")
    assert text.count("\x1b[?25h") == 1, "the bars stay until the last of them is done"
    sink.close()


def test_stages_and_notes_need_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    sink = ConsoleSink(clock=clock)
    sink.note("a note [with] brackets")
    for done in range(0, 1001, 10):
        clock.now += 0.2
        sink.stage("decoding images", done, 1000)
    sink.stage("starting 2 workers")
    sink.segment("demo", make_reports(make_plan())[0])
    sink.end("demo", make_run())
    sink.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "a note [with] brackets"
    assert "decoding images: 1,000 of 1,000" in lines
    assert "starting 2 workers" in lines
    assert len(lines) < 10


def test_quiet_leaves_notes(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    sink = ConsoleSink(quiet=True, clock=clock)
    sink.stage("decoding")
    play(sink, clock)
    sink.note("worker group restarted")
    assert capsys.readouterr().err.splitlines() == ["worker group restarted"]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    out = io.StringIO()
    shown = Console(file=out, force_terminal=True, width=80, force_jupyter=False)
    monkeypatch.setattr(console, "view", lambda clock: Bars(shown))
    return out


def test_a_terminal_gets_a_bar_that_leaves_the_last_line(terminal: io.StringIO) -> None:
    clock = Clock()
    sink = ConsoleSink(num_runs=2, clock=clock)
    sink.stage("decoding images", 500, 1000)
    sink.stage("starting [2] workers")
    play(sink, clock)
    sink.note("[kept] whole")
    sink.close()
    sink.close()
    text = terminal.getvalue()
    assert "demo (run 1 of 2)" in text
    assert "demo (run 1 of 2): done, top-1 71.3 %" in text
    assert "[kept] whole" in text
    assert "\x1b[?25h" in text  # the cursor is back


def test_a_terminal_gets_a_line_for_a_change_of_plan(terminal: io.StringIO) -> None:
    plan = make_plan()
    sink = ConsoleSink()
    sink.begin("demo", plan, make_history(plan, 1))
    sink.decided("demo", shorter(20, "[slower]"))
    sink.close()
    text = terminal.getvalue()
    assert "200 steps (ssl 60, mix 40, sl 100) from now on: [slower]" in text
    assert "/200" in text


def test_a_notebook_gets_one_block_that_ends_as_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, shown = Clock(), list[tuple[str, str]]()
    monkeypatch.setattr(console, "view", lambda clock: Cell(clock, lambda markup, text: shown.append((markup, text))))
    sink = ConsoleSink(clock=clock)
    sink.note("<b>odd</b>")
    play(sink, clock)
    sink.close()
    assert any("<progress" in markup and "demo ssl" in markup for markup, _ in shown)
    markup, text = shown[-1]
    assert "<progress" not in markup
    assert "&lt;b&gt;odd&lt;/b&gt;" in markup
    first, *_, last = text.splitlines()
    assert first == "<b>odd</b>"
    assert last.startswith("demo: done")


def test_a_notebook_is_drawn_four_times_a_second_at_most() -> None:
    clock, shown = Clock(), list[str]()
    cell = Cell(clock, lambda markup, text: shown.append(text))
    for done in range(100):
        cell.stage("reading images", done, 100)
        clock.now += 0.01
    assert len(shown) == 4


def shorter(step: int, reason: str = "steps are slower") -> Decision:
    return Decision(step=step, steps=(60, 40, 100), reason=reason)


def test_a_change_of_plan_is_told_with_its_reason_and_the_total_follows(capsys: pytest.CaptureFixture[str]) -> None:
    plan, clock = make_plan(), Clock()
    sink, reports = ConsoleSink(clock=clock), make_reports(plan)
    sink.begin("demo", plan, make_history(plan, 0))
    sink.segment("demo", reports[0])
    done = reports[0].segment.steps
    sink.decided("demo", shorter(done))
    sink.decided("demo", shorter(done).model_copy(update={"steps": (60, 40, 101)}))
    clock.now += 20
    sink.segment("demo", reports[1])
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2] == "demo: 200 steps (ssl 60, mix 40, sl 100) from now on: steps are slower"
    assert lines[-1].startswith("demo: step 40/201 (20%), "), "the same reason again is not told again"


def test_a_run_that_is_made_longer_shows_progress_again(capsys: pytest.CaptureFixture[str]) -> None:
    plan, clock = make_plan(), Clock()
    sink, reports = ConsoleSink(clock=clock), make_reports(plan)
    sink.begin("demo", plan, make_history(plan))
    sink.decided("demo", Decision(step=501, steps=(188, 188, 1125), reason="more"))
    for number, report in enumerate(reports[-10:]):
        clock.now += 10
        start = 501 + 50 * number
        segment = report.segment.model_copy(update={"start": start, "steps": 50})
        sink.segment("demo", report.model_copy(update={"segment": segment}))
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("demo: step ") for line in lines) > 3


def test_the_time_left_follows_a_change_of_plan() -> None:
    plan = make_plan()
    run = Progress("demo", plan, make_history(plan, 0))
    run.decide(shorter(0))
    assert run.remaining_seconds() == pytest.approx(60 * 0.1 + 40 * 0.15 + 100 * 0.2)


def remaining(plan: Plan, history: History) -> float | None:
    return Progress("demo", plan, history).remaining_seconds()


def test_the_time_left_follows_the_rates_of_each_kind() -> None:
    plan = make_plan()
    assert remaining(plan, make_history(plan, 0)) == pytest.approx(188 * 0.1 + 188 * 0.15 + 125 * 0.2)
    assert remaining(plan, make_history(plan)) == 0
    assert remaining(plan, History(rates=Rates(step_seconds={}))) is None


def test_the_time_left_is_corrected_by_what_was_measured() -> None:
    plan = make_plan()
    run = Progress("demo", plan, make_history(plan, 0))
    for report in make_reports(plan, slower=2.0)[:5]:
        run.add(report)
    done = sum(report.segment.steps for report in make_reports(plan)[:5])
    assert run.remaining_seconds() == pytest.approx(2 * ((188 - done) * 0.1 + 188 * 0.15 + 125 * 0.2))


def test_sinks_pass_everything_on() -> None:
    heard: list[str] = []

    class Ear:
        def __getattr__(self, name: str) -> object:
            return lambda *args: heard.append(name)

    sinks = Sinks([Ear(), Ear()])  # type: ignore[list-item]
    plan = make_plan()
    sinks.stage("a")
    sinks.begin("a", plan, make_history(plan, 0))
    sinks.decided("a", shorter(0))
    sinks.segment("a", make_reports(plan)[0])
    sinks.note("a")
    sinks.end("a", make_run())
    sinks.close()
    told = ("stage", "begin", "decided", "segment", "note", "end", "close")
    assert heard == [name for name in told for _ in range(2)]


def test_skipped_steps_are_told_even_where_nothing_else_is(capsys: pytest.CaptureFixture[str]) -> None:
    sink, plan = ConsoleSink(quiet=True), make_plan("demo")
    sink.begin("demo", plan, make_history(plan, 0))
    first, second = make_reports(plan)[:2]
    sink.segment("demo", first)
    sink.segment("demo", second.model_copy(update={"skipped": 1}))
    start, end = second.segment.start, second.segment.start + second.segment.steps
    told = f"demo: 1 step skipped: loss or gradient not finite, of steps {start} to {end - 1}\n"
    assert capsys.readouterr().err == told


def test_a_terminal_that_was_just_closed_is_written_to_in_vain() -> None:
    """Its signal comes a moment later, and is what ends the run."""
    there, terminal = pty.openpty()
    out = os.fdopen(terminal, "w")
    bars = Bars(Console(file=out, force_terminal=True))
    os.close(there)
    bars.stage("reading", 1, 2)
    bars.note("a line")
    bars.close()
    with pytest.raises(OSError, match="Input/output error"):
        out.close()  # there was something to write, and nowhere to
