"""The pages in a real browser, at the width of a desk and of a phone."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raymix.report.decision import decision_html
from raymix.report.html import compare_html, pilot_html, run_html
from raymix.report.lineup import line_up
from raymix.report.page_sweep import sweep_html
from raymix.report.reckon import with_roi
from raymix.spec import ReportSpec
from tests.report.chromium import Browser, chromium
from tests.report.factory import make_beside, make_course, make_pilot, make_run
from tests.report.sweeps import make_sweep

PRICED = with_roi(make_pilot(5, price=3.0), ReportSpec(retrainings_per_year=12, value_per_point=50), {"train": 800})

PAGES = {
    "run": lambda: run_html(make_run(price=2.5), make_beside(price=2.5)),
    "adaptive run": lambda: run_html(make_course(40), make_beside()),
    "pilot": lambda: pilot_html(make_pilot(5), dict.fromkeys(make_pilot(5).arms, (make_course(0),)), make_beside()),
    "quick pilot": lambda: pilot_html(make_pilot(1, lengths=(1.0,)), {"mix": (make_run(),)}),
    "compared": lambda: compare_html(line_up([("runs/a", make_run()), ("runs/p", make_pilot(5, price=1.0))])),
    "priced pilot": lambda: pilot_html(PRICED),
    "decision": lambda: decision_html(PRICED),
    "sweep": lambda: sweep_html(
        make_sweep(lambda _, share: {"sl": 9 + 9 * share, "ssl_sl": 15, "mix": 16}, num_val=500)
    ),
}
TEXTS = {
    "run": (
        "71.3 %",
        "95 % interval",
        "Curves",
        "Predicted against actual",
        "Sample images",
        "Class by class",
    ),
    "adaptive run": ("Ended: the budget was spent.", "reason number 39.", "Supervised trials", "Ledger"),
    "pilot": ("points of top-1", "Top-1 against worker-seconds", "Curves of each arm", "Class by class", "Ledger"),
    "quick pilot": ("This decides nothing", "How good each arm is", "Every row accounted for"),
    "priced pilot": ("Return on investment", "spent once", "break-even in time"),
    "decision": ("At the accuracy of ssl_sl", "What it costs", "What was not measured"),
    "sweep": ("From where on SSL and mixing pay, at T", "Labels saved, at T", "Rules of the comparison"),
    "compared": ("runs/a", "runs/p: mix", "worker-s"),
}
# what sticks out of the page to the right; tables that are too wide scroll in a frame of their own
STICKING_OUT = """
[...document.querySelectorAll("body *")]
  .filter(e => !e.closest(".wide") && !e.closest("svg"))
  .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(e => e.tagName + " " + e.textContent.slice(0, 40))
"""
BOXES = """
[...document.querySelectorAll("svg, img, .bar")].map(e => {
  const box = e.getBoundingClientRect();
  return {x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height};
})
"""
NATURAL = "[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])"
# letters of a plot as they are on the screen, in pixels
LETTERS = """
[...document.querySelectorAll("svg text")]
  .map(e => Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b) * parseFloat(getComputedStyle(e).fontSize))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_in_a_browser(browser: Browser, tmp_path: Path, name: str, width: int) -> None:
    file = tmp_path / "report.html"
    file.write_text(PAGES[name](), encoding="utf-8")
    browser.open(file, width)

    assert wrongs(browser) == []
    asked = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == [], "nothing is fetched"
    text = browser.value("document.body.innerText")
    assert [part for part in TEXTS[name] if part not in text] == []

    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(STICKING_OUT) == []
    assert min(browser.value(LETTERS), default=10) > 8.5, "plots can be read"
    assert all(done and wide > 0 and high > 0 for done, wide, high in browser.value(NATURAL))
    boxes = browser.value(BOXES)
    assert len(boxes) >= {"compared": 0, "decision": 0, "priced pilot": 1}.get(name, 3)
    for box in boxes:
        assert box["width"] > 20
        assert box["height"] > 20
        assert num_colours(browser.picture(box)) > 1, f"blank: {box}"


def test_the_page_for_a_decision_is_one_sheet(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "decision.html"
    file.write_text(PAGES["decision"](), encoding="utf-8")
    browser.open(file, 1280)
    printed = browser.call("Page.printToPDF", preferCSSPageSize=True)["data"]
    assert len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed))) == 1


def test_a_page_that_is_wrong_is_found_out(browser: Browser, tmp_path: Path) -> None:
    """The checks above do tell."""
    file = tmp_path / "wrong.html"
    body = '<div style="width:900px">wide</div><script>console.error("oh"); throw new Error("no")</script>'
    picture = '<img src="data:image/png;base64,AAAA"><div class="bar" style="height:30px;background:#888"></div>'
    head = '<meta name="viewport" content="width=device-width">'
    file.write_text(f"<!doctype html><head>{head}</head><body>{body}{picture}</body>")
    browser.open(file, 375)
    assert len(wrongs(browser)) == 2
    assert browser.value(STICKING_OUT) == ["DIV wide"]
    assert browser.value(NATURAL) == [[True, 0, 0]]
    assert num_colours(browser.picture(browser.value(BOXES)[-1])) == 1


def wrongs(browser: Browser) -> list[object]:
    """What the console would show as an error."""
    found: list[object] = []
    for event in browser.events:
        told = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            found.append(told["exceptionDetails"])
        if event.get("method") == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            found.append(told["args"])
        if event.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            found.append(told["entry"])
    return found


def num_colours(png: bytes) -> int:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    return len(np.unique(pixels, axis=0))
