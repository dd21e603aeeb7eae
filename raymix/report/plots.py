"""What all plots share: a palette that colour-blind readers can tell apart, one size of panel, and inline SVG.

A panel is as wide as a phone; on a wider page several stand side by side. Drawn in the page's own text colour.
Matplotlib is imported when a plot is drawn and not before; figures are made without pyplot, so nothing global is left.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import Any

INK = "#010203"  # stands for the page's text colour until the SVG is written
# Okabe and Ito's palette, and two greys
BLUE, ORANGE, GREEN, RED, PINK, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
YELLOW, GREY, PALE = "#b8a000", "#7b818a", "#c3c8cf"
PHASE_COLORS = {"ssl": BLUE, "mix": PINK, "sl": ORANGE}
WIDTH = 4.4  # inches: at 72 points each and a font of 9.5, letters are 10 pixels high on a phone of 375
SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "svg.hashsalt": "raymix",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
}


def panel(draw: Callable[[Any], None], tall: float, prefix: str, label: str) -> str:
    """One figure as an SVG element.

    Args:
        draw: Gets the figure.
        tall: Its height in inches.
        prefix: Starts every id in the SVG, so that plots on one page do not clash.
        label: What it shows, for who cannot see it.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH, tall), layout="constrained")
        draw(figure)
        return _svg(figure, prefix, label)


def legend_above(figure: Any, axis: Any, columns: int = 2) -> None:
    """A legend outside the axes, where it hides nothing."""
    if axis.get_legend_handles_labels()[0]:
        figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left", ncols=columns, borderaxespad=0.2)


def _svg(figure: Any, prefix: str, label: str) -> str:
    """The figure as an SVG element that can stand in a page beside others, without any address outside it."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r'(<g) id="[^"]*"', r"\1", text)  # nothing refers to groups
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = text.replace("url(#", f"url(#{prefix}").replace('xlink:href="#', f'href="#{prefix}')
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)  # inside HTML they mean nothing
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)  # it would hold for the whole page
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), text)  # a hundredth of a point will do
    text = re.sub(r' width="[^"]*pt"| height="[^"]*pt"', "", text, count=2)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "inherit", text)
    text = re.sub(r"(?m)^ +|\n(?=<)", "", text)
    named = f'<svg role="img" aria-label="{html.escape(label)}"'
    return text.replace(INK, "currentColor").replace("<svg", named, 1)
