"""Figures as a reader meets them: the same words in the verdict, the pages and the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from raymix.report.pilot import Interval
from raymix.spec import MIX_KINDS

PRICE_NOT_SET = "price not set"
ARM_WORDS = {
    "sl": "supervised only",
    "ssl_sl": "SSL, then SL; each with its own rate cycle and fresh optimizer state",
    "ssl_sl_one": "SSL, then SL; one rate cycle, optimizer state kept",
    "ssl_sl_drop": "SSL, then SL on the patches that masked mix steps see, with a full-token tail",
    "mix": "SSL, then both losses in shared steps, then SL",
    "pretrained": "fine-tuning of given weights",
}
KIND_WORDS: dict[str, str] = {
    "ssl": "self-supervised",
    "mix": "mixed",
    **{kind: f"mixed, part {number} of its phase" for number, kind in enumerate(MIX_KINDS[1:], 2)},
    "sl": "supervised",
    "sl_drop": "supervised, patches dropped",
}


def money(cost: float | None) -> str:
    """A cost in the currency of `price_per_worker_hour`: more digits where it is small."""
    if cost is None:
        return PRICE_NOT_SET
    return f"{cost:,.2f}" if cost >= 1 or cost == 0 else f"{cost:.4f}" if cost >= 0.01 else f"{cost:.2g}"


def seconds(value: float) -> str:
    """A duration: 0.42 s, 42.7 s, 3 min 12 s, 2 h 05 min."""
    if value < 99.95:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def count(value: float) -> str:
    """A number of things: 12,345."""
    return f"{value:,.0f}"


def causes(skipped: Mapping[str, int]) -> str:
    """Why images were left out: each cause and how many; '' where there is none."""
    return ", ".join(f"{cause} {count(number)}" for cause, number in skipped.items())


def tenths(value: float) -> str:
    """Seconds in a table: a digit behind the point while it says something."""
    return f"{value:,.1f}" if value < 1000 else count(value)


def figure(value: float | None, form: str = ".3f") -> str:
    """A number in a given format; a dash where there is none."""
    return "-" if value is None else format(value, form)


def epochs(value: float) -> str:
    """Epochs: whole ones without a point."""
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def times(length: float) -> str:
    """A length of a pilot as a multiple of T: T/1.29, T, 2T."""
    if abs(length - 1) < 1e-6:
        return "T"
    return f"T/{1 / length:.3g}" if length < 1 else f"{length:.3g}T"


def percent(value: float | None) -> str:
    """Top-1 in percent."""
    return "-" if value is None else f"{value:.1f} %"


def points(value: float) -> str:
    """A difference of top-1 in points, with its sign."""
    return f"{value:+.2f}"


def point_interval(interval: Interval) -> str:
    """The 95 % interval of a difference."""
    return f"{points(interval.low)} to {points(interval.high)}"


def percent_interval(interval: Interval) -> str:
    """The 95 % interval of a share."""
    return f"{interval.low:.1f} to {interval.high:.1f} %"


def speedup(interval: Interval) -> str:
    """A speed-up with its interval; see `raymix.report.intervals.speedup` for its two limits."""
    least = "at least " if interval.value == interval.high else ""
    return f"{least}{interval.value:.2f}x (95 % interval over seeds {speedup_interval(interval)})"


def speedup_interval(interval: Interval) -> str:
    """The 95 % interval of a speed-up."""
    return f"{f'{interval.low:.2f}' if interval.low else 'never reached'} to {interval.high:.2f}"


def plural(number: int, thing: str) -> str:
    """1 seed, 2 seeds."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def near(val: int, select: int, without: int) -> str:
    """How many images of val and select look like a training image."""
    left = f"; {plural(without, 'image')} of one colour not looked at" if without else ""
    if not val and not select:
        return f"none among val and select images{left}"
    parts = [f"{count(number)} {part}" for number, part in ((val, "val"), (select, "select")) if number]
    verb = "looks" if val + select == 1 else "look"
    return f"{' and '.join(parts)} {'image' if val + select == 1 else 'images'} {verb} like a training image{left}"


def sentence(text: str) -> str:
    """A line as a sentence, with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def skipped(steps: int) -> str:
    """What was done about steps whose loss or gradient was not finite."""
    return f"{plural(steps, 'step')} skipped: loss or gradient not finite"


def size(num_bytes: int) -> str:
    """'12.3 MB'."""
    value = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def ago(value: float) -> str:
    """How long ago something was: moments, minutes, hours or days."""
    for seconds_each, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if value >= seconds_each:
            return f"{plural(int(value // seconds_each), name)} ago"
    return "moments ago"
