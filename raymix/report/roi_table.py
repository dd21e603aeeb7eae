"""The return on investment in a terminal of 80 columns: a line a finding, and the sum that was spent."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from raymix.report import roi_words, words
from raymix.report.money import MONEY, Roi


def roi_parts(roi: Roi | None) -> list[RenderableType]:
    """What a pilot's table ends with; nothing where the return was not reckoned."""
    if roi is None:
        return []
    *_, (_, _, held, cost) = roi_words.once_cells(roi)
    head = Text.assemble("return on investment", style="bold")
    spent = f"{held} {roi_words.once_heads(roi)[2]}, {f'cost {cost}' if roi.unit == MONEY else words.PRICE_NOT_SET}"
    if roi.open:
        return [head, Text(f"  spent once: {spent}"), Text(f"  no return is claimed: {roi.open}", style="yellow")]
    lines = [Text(f"  {name}: {figure}; {what}") for name, figure, what in roi_words.findings(roi)]
    return [head, Text("  95 % intervals in brackets", style="dim"), Text(f"  spent once: {spent}"), *lines]
