"""The pages: whole, self-contained, escaped."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from raymix.plan import Decision
from raymix.report import words
from raymix.report.html import compare_html, notebook_html, pilot_html, run_html
from raymix.report.ledger import ACCOUNTS
from raymix.report.lineup import line_up
from raymix.report.pilot import PilotReport
from raymix.report.run import RunReport, phase_reports
from tests.report.factory import make_beside, make_course, make_history, make_pilot, make_plan, make_run, make_samples

VOID = {"meta", "br", "hr", "img", "link", "input"}


class _Reader(HTMLParser):
    """Collects ids, references and text, and checks that every tag is closed where it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href") and value]
        self.links += re.findall(r"url\(([^)]*)\)", " ".join(value or "" for value in found.values()))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += " " + data


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


PAGES = {
    "run": lambda: run_html(make_run(price=2.5), make_beside(price=2.5)),
    "course": lambda: run_html(make_course(40, price=2.5)),
    "nothing done": lambda: run_html(make_course(1, phases=(), curve=(), final=None)),
    "interrupted": lambda: run_html(make_run(status="interrupted")),
    "failed": lambda: run_html(make_run(status="failed").model_copy(update={"curve": (), "phases": ()})),
    "pilot": lambda: pilot_html(make_pilot(5), {"mix": (make_run(), make_run()), "sl": ()}, make_beside()),
    "pilot, all arms": lambda: pilot_html(make_pilot(2), dict.fromkeys(make_pilot(2).arms, (make_course(0),))),
    "compared": lambda: compare_html(line_up([("runs/a", make_run()), ("runs/p", make_pilot(5))])),
    "quick": lambda: pilot_html(make_pilot(1, lengths=(1.0,))),
    "empty": lambda: pilot_html(make_pilot(1).model_copy(update={"arms": {}})),
    "notebook run": lambda: notebook_html(make_run()),
    "notebook pilot": lambda: notebook_html(make_pilot(5)),
}


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]()


def test_a_page_fetches_nothing_and_its_tags_and_ids_are_in_order(page: str) -> None:
    assert not re.findall(r"https?://|//[a-z]+\.|@import|<script|<link|<iframe", page)
    reader = read(page)
    assert len(reader.ids) == len(set(reader.ids))
    inside = [link[1:] for link in reader.links if link.startswith("#")]
    assert set(inside) <= set(reader.ids)
    outside = [link for link in reader.links if not link.startswith(("#", "data:image/png;base64,"))]
    assert all(re.fullmatch(r"runs/[\w./-]+report\.html", link) for link in outside)


def test_two_reports_in_one_notebook_share_no_id() -> None:
    first, second = notebook_html(make_run("one")), notebook_html(make_run("two"))
    assert not set(read(first).ids) & set(read(second).ids)
    assert notebook_html(make_run("one")) == first


def test_a_run_page_holds_what_the_report_says() -> None:
    report = make_run(price=2.5)
    text = read(run_html(report)).text
    for part in (
        "71.3 %",
        "300 val images",
        "at 2.5 per worker-hour",
        "worker-seconds",
        "skipped: truncated",
        "seen: all",
    ):
        assert part in text
    for phase in report.phases:
        assert f"{phase.images:,}" in text
    assert all(kind in text for kind in ("ssl", "mix", "sl", "start-up", "data wait", "checkpoints"))


def words_of(page: str) -> str:
    return " ".join(read(page).text.split())


def test_a_run_page_tells_the_course_of_the_run() -> None:
    report = make_course(40)
    text = words_of(run_html(report))
    assert "Ended: the budget was spent." in text
    assert "Budget, wall time: asked 1 min 40 s, spent 98.5 s, 1.5 s (1.5 %) under." in text
    told = [number for number in range(40) if f"reason number {number}." in text]
    assert told == [*range(5), *range(25, 40)]
    assert text.index("reason number 4.") < text.index("20 more left out here") < text.index("reason number 25.")
    assert "ssl 103, mix 40, sl 90" in text
    assert f"{report.curve[2].step} 21.5 % 34.5 %" in text
    few = words_of(run_html(make_course(20)))
    assert "left out here" not in few
    assert all(f"reason number {number}." in few for number in range(20))


def test_a_run_page_holds_the_ledger() -> None:
    for price, cost in ((None, ""), (3600.0, " 6.00")):
        report = make_course(price=price)
        assert report.ledger is not None
        page = run_html(report)
        text = words_of(page)
        assert all(f"{account} " in text for account in ACCOUNTS)
        assert f"before the first one 6.0 {100 * 6 / report.ledger.worker_seconds:.1f} %{cost}" in text
        assert ("price not set" in text) == (price is None)
        assert "wall time x 2 workers" in text
        assert "Where the wall time went" not in text
        assert page.count("<svg") == 4, "top-1, losses, rate and weight, predicted and actual seconds"
    assert "Where the wall time went" in words_of(run_html(make_run()))


def test_a_budget_that_held_no_step_is_said_in_words() -> None:
    text = words_of(run_html(make_course(1, phases=(), curve=(), final=None)))
    assert "The budget was spent before the first step: nothing was trained, and val was not read." in text


def test_a_price_that_is_not_set_is_not_zero() -> None:
    for page in (run_html(make_run()), pilot_html(make_pilot(5))):
        text = read(page).text
        assert "price not set" in text
        assert "0.00 %" not in text


def test_seconds_are_called_by_the_device() -> None:
    assert "GPU-seconds" in run_html(make_run(device="cuda"))
    assert "GPU-seconds" not in run_html(make_run(device="cpu"))


def test_a_pilot_page_puts_the_verdict_first() -> None:
    report = make_pilot(5, gain=4)
    text = " ".join(read(pilot_html(report)).text.split())
    assert report.verdict.text in text
    assert text.index("mix wins") < text.index("How good each arm is")
    assert all(name in text for name in report.arms)
    assert "Configurations tried for each arm: 1" in text


def test_a_pilot_page_links_the_runs_below_it_and_no_other() -> None:
    report = make_pilot(1, lengths=(1.0,))
    strange = ("javascript:alert(1)//report.json", "../report.json", "/etc/report.json")
    runs = tuple(
        report.arms["mix"][0].model_copy(update={"seed": seed, "report": path}) for seed, path in enumerate(strange)
    )
    links = read(pilot_html(report.model_copy(update={"arms": {"mix": runs}}))).links
    assert [link for link in links if not link.startswith("#")] == []
    assert "runs/seed0-1/report.html" in read(pilot_html(report)).links


@pytest.mark.parametrize("build", [run_html, notebook_html])
def test_everything_is_escaped(build: object) -> None:
    evil = "<script>alert('x')</script>"
    report = make_run(environment={evil: evil}).model_copy(
        update={"name": evil, "note": evil, "class_names": (evil, *"123456789")},
    )
    page = build(report)  # type: ignore[operator]
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_reasons_are_escaped() -> None:
    evil = Decision(step=1, steps=(1, 2, 3), reason="<script>alert(1)</script>")
    page = run_html(make_course(decisions=(evil,)))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_an_arm_of_any_name_is_escaped_in_table_and_plot() -> None:
    report = make_pilot(1, lengths=(1.0,))
    named = report.model_copy(update={"arms": {"<script>": report.arms["mix"], "mix": report.arms["mix"]}})
    assert "<script>" not in pilot_html(named)


def test_reports_show_themselves_in_a_notebook() -> None:
    for report in (make_run(), make_pilot(1)):
        assert "<svg" in report._repr_html_()


def test_reports_survive_json() -> None:
    run, pilot = make_course(price=1.0), make_pilot(5)
    assert RunReport.model_validate_json(run.model_dump_json()) == run
    assert PilotReport.model_validate_json(pilot.model_dump_json()) == pilot
    assert run_html(RunReport.model_validate_json(run.model_dump_json())) == run_html(run)


def test_reports_and_sinks_import_nothing_slow() -> None:
    """Beyond what `import raymix` has loaded already, for which a test of its own answers."""
    code = (
        "import sys, raymix\n"
        "before = set(sys.modules)\n"
        "import raymix.report.html, raymix.report.compare, raymix.report.folder\n"
        "import raymix.watch.console, raymix.watch.jsonl, raymix.watch.tensorboard\n"
        "slow = {'matplotlib', 'jinja2', 'numpy', 'torch', 'ray', 'tensorboardX', 'rich'}\n"
        "print(sorted(slow & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_phases_show_what_their_steps_were_predicted_to_take() -> None:
    run = make_run()
    predicted = [phase.predicted_seconds for phase in run.phases]
    assert predicted == pytest.approx([phase.seconds for phase in run.phases]), "the factory's steps cost its rates"
    page = run_html(run)
    assert "predicted s" in page
    assert f"{sum(part for part in predicted if part is not None):,.1f}" in page
    for phase in run.phases:
        assert f"predicted {phase.predicted_seconds:,.1f} s" in page
        assert f"took {phase.seconds:,.1f} s" in page


def test_nothing_is_predicted_where_a_kind_was_not_measured() -> None:
    history = make_history(make_plan())
    rates = history.rates.model_copy(update={"step_seconds": {"ssl": 0.1}})
    phases = phase_reports(make_plan(), history.model_copy(update={"rates": rates}))
    assert [phase.predicted_seconds is None for phase in phases] == [False, True, True]


def test_a_run_page_holds_what_was_foretold_against_what_came() -> None:
    run, found = make_course(0, price=2.5), make_beside(price=2.5)
    assert found.foretold is not None
    text = words_of(run_html(run, found))
    wall = found.foretold.costs.wall_seconds
    assert f"{words.seconds(wall.value)} {words.seconds(wall.low)} to {words.seconds(wall.high)}" in text
    assert f"Foretold before the run began, {found.foretold.source}." in text
    late = run.model_copy(update={"totals": run.totals.model_copy(update={"wall_seconds": 3 * wall.high})})
    assert f"{words.seconds(3 * wall.high)}, outside" in words_of(run_html(late, found))
    assert "Foretold" not in words_of(run_html(run))


def test_a_run_page_shows_samples_and_who_was_mistaken() -> None:
    page = run_html(make_run(), make_beside())
    assert page.count("data:image/png;base64,") == 12
    assert 'alt="reconstructed, class 2"' in page
    assert "is 2, called 3 (wrong)" in words_of(page)
    assert "is 1, called 1" in words_of(page)
    assert "Sample images" not in words_of(run_html(make_run()))


def test_with_the_most_that_a_page_can_hold_it_is_below_two_megabytes() -> None:
    run = make_course(40)
    long = tuple(run.curve[0].model_copy(update={"seconds": float(i), "select_top1": i / 400}) for i in range(40_000))
    page = run_html(run.model_copy(update={"curve": long}), make_beside(samples=make_samples(8, 96)))
    assert len(page.encode()) < 2_000_000


def test_classes_stand_from_best_to_worst_and_the_middle_is_left_out_where_they_are_many() -> None:
    run = make_run()
    assert run.final is not None
    names = tuple(f"class {i}" for i in range(30))
    by_class = tuple((20, (7 * i) % 20) if i else (0, 0) for i in range(30))
    final = run.final.model_copy(update={"by_class": by_class})
    text = words_of(run_html(run.model_copy(update={"final": final, "class_names": names})))
    assert "9 more between the best and the worst 10" in text
    assert "class 0 " not in text, "no val row, no figure"
    assert text.index("95.0 %") < text.index("9 more between") < text.index("class 20 0.0 %")


def test_a_pilot_page_tells_class_by_class_where_the_lead_is_ahead() -> None:
    run = make_run()
    assert run.final is not None
    weak = run.final.model_copy(update={"by_class": ((30, 6),) * 10})
    other = run.model_copy(update={"final": weak})
    text = words_of(pilot_html(make_pilot(1), {"sl": (other,), "mix": (run,)}))
    num, right = run.final.by_class[3]
    assert f"3 30 20.0 {100 * right / num:.1f} {100 * right / num - 20:+.2f}" in text


def test_the_job_stands_at_the_end_of_its_page() -> None:
    for page in (run_html(make_run(), make_beside()), pilot_html(make_pilot(1), {}, make_beside())):
        assert "name: demo seed: 0" in words_of(page)
