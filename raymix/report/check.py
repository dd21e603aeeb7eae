"""What `raymix data check` found, as data and as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raymix.report import words
from raymix.report.run import NearRows
from raymix.report.tables import pairs
from raymix.spec import Section, Source

Part = Literal["train", "unlabelled", "val"]
_ENDS = 5  # classes shown at each end where there are more than twice as many
_FIRST = 3  # images shown of each cause, groups of duplicates


class RowCounts(Section):
    """Rows of each part.

    Attributes:
        shared: images of data.unlabelled left out because another part has them.
        groups: of all rows together, by data.group; None: not asked for.
    """

    train: int
    unlabelled: int
    val: int
    shared: int
    groups: int | None = None


class ClassCount(Section):
    """Labelled training rows and validation rows of a class."""

    name: str
    train: int
    val: int


class Span(Section):
    """Of one side, in pixels."""

    min: int
    median: int
    max: int


class Sizes(Section):
    """Sizes of the readable images.

    Attributes:
        below_image_size: share of them of whose tiles, or of themselves, the shorter side is below image_size.
        unseen: share of their area, or their region's, that is in no tile's middle square; None: there are no tiles.
    """

    width: Span
    height: Span
    image_size: int | None
    below_image_size: float | None
    unseen: float | None = None


class KindCount(Section):
    """Images of one kind: JPEG, RGB, 8 bits."""

    format: str
    mode: str
    bits: int
    images: int


class Located(Section):
    """An image: where it is, and what it is said to be."""

    part: Part
    label: str | None
    path: str


class UnreadableImage(Section):
    """An image that cannot be used, and why."""

    cause: str
    part: Part
    path: str


class Unreadable(Section):
    """All unreadable images. `stops`: a run would stop, as they are more than `max_bad_fraction` of all."""

    images: tuple[UnreadableImage, ...]
    causes: dict[str, int]
    share: float
    max_bad_fraction: float
    stops: bool


class Duplicates(Section):
    """Images whose content is the same to the last bit.

    Attributes:
        within_train: training images that another training image repeats, one of each group not counted.
        within_val: the same of validation images.
        val_in_train: validation images that are training images too: they make top-1 look better than it is.
        conflicting_groups: groups whose labels differ.
        groups: all groups, those between train and val first.
    """

    within_train: int
    within_val: int
    val_in_train: int
    conflicting_groups: int
    groups: tuple[tuple[Located, ...], ...]


class NearImage(Section):
    """An image of select or val, and a training image that looks like it."""

    part: Literal["select", "val"]
    distance: int
    path: str
    train_path: str


class NearDuplicates(NearRows):
    """Which rows they are, those of val first."""

    images: tuple[NearImage, ...]


class CheckReport(Section):
    """What is in a source. `num_bytes`: of the images as stored; `seconds`: that reading all of them took."""

    sources: tuple[Source, ...]
    rows: RowCounts
    classes: tuple[ClassCount, ...]
    sizes: Sizes | None
    kinds: tuple[KindCount, ...]
    num_bytes: int
    unreadable: Unreadable
    duplicates: Duplicates
    near_duplicates: NearDuplicates | None = None
    seconds: float
    images_per_second: float


def check_table(report: CheckReport) -> RenderableType:
    """The report for a terminal of 80 columns."""
    grid = pairs()
    for head, lines in _lines(report):
        for number, line in enumerate(lines):
            grid.add_row(head if number == 0 else "", line)
    sources = [Text.assemble((source.format, "bold"), f"  {_where(source)}") for source in report.sources]
    return Group(
        *sources,
        Text(),
        grid,
        *_class_table(report.classes),
        *_first_bad(report),
        *_first_groups(report),
        *_first_near(report),
    )


def skipped_table(images: Iterable[UnreadableImage]) -> str:
    """Cause, part and path of each unreadable image, tab separated, under a line of heads."""
    return "cause\tpart\tpath\n" + "".join(f"{i.cause}\t{i.part}\t{printable(i.path)}\n" for i in images)


def near_table(images: Iterable[NearImage]) -> str:
    """Part and path of each image, the training image that looks like it, and by how many bits they differ."""
    lines = (f"{i.part}\t{printable(i.path)}\t{printable(i.train_path)}\t{i.distance}\n" for i in images)
    return "part\tpath\ttrain path\tdistance\n" + "".join(lines)


def printable(path: str) -> str:
    """A path on one line, whatever bytes a file name holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)


def _where(source: Source) -> str:
    path = getattr(source, "path", "")
    paths = (path,) if isinstance(path, str) else path
    return printable(", ".join(paths[:_FIRST])) + (f" and {len(paths) - _FIRST} more" if len(paths) > _FIRST else "")


# ---- a line of text each ----------------------------------------------------------------------------------------


def _lines(report: CheckReport) -> Iterator[tuple[str, list[Text]]]:
    total = report.rows.train + report.rows.unlabelled + report.rows.val
    yield "rows", _rows(report.rows)
    if report.classes:
        yield "classes", [_balance([one.train for one in report.classes])]
    if report.sizes:
        yield "pixels", _sizes(report.sizes)
    if report.kinds:
        kinds = (f"{kind.format} {kind.mode} {kind.bits} bits {kind.images:,}" for kind in report.kinds)
        yield "kinds", [Text(", ".join(kinds))]
    yield "bytes", [Text(f"{in_bytes(report.num_bytes)}, {in_bytes(report.num_bytes / max(1, total))} an image")]
    yield "unreadable", _unreadable(report.unreadable, total)
    yield "duplicates", _duplicates(report.duplicates)
    if report.near_duplicates is not None:
        near = report.near_duplicates
        style = "yellow" if near.val or near.select else "green"
        yield "near-duplicates", [Text(words.near(near.val, near.select, near.without), style=style)]
    yield "read in", [Text(f"{words.seconds(report.seconds)}, {words.count(report.images_per_second)} images/s")]


def _rows(rows: RowCounts) -> list[Text]:
    counts = (("train", rows.train), ("unlabelled", rows.unlabelled), ("val", rows.val))
    lines = [Text(", ".join(f"{words.count(number)} {part}" for part, number in counts if number) or "none")]
    if rows.shared:
        lines.append(Text(f"{words.count(rows.shared)} of data.unlabelled left out: train or val has them"))
    if rows.groups is not None:
        lines.append(Text(f"in {words.plural(rows.groups, 'group')}"))
    return lines


def _balance(counts: Sequence[int]) -> Text:
    low, high, empty = min(counts), max(counts), counts.count(0)
    if low == high:
        return Text(f"{words.count(len(counts))} of {words.plural(low, 'training image')}")
    text = Text(f"{words.count(len(counts))} of {words.count(low)} to {words.count(high)} training images")
    if empty:
        text.append(f", {empty:,} without any", style="yellow")
    else:
        text.append(f", largest {high / low:.3g} times the smallest")
    return text


def _sizes(sizes: Sizes) -> list[Text]:
    lines = [
        Text(f"{name} {span.min:,}" + (f" to {span.max:,}, median {span.median:,}" if span.min < span.max else ""))
        for name, span in (("width", sizes.width), ("height", sizes.height))
    ]
    if sizes.below_image_size is not None:
        whose = "" if sizes.unseen is None else "tiles with "
        text = f"{sizes.below_image_size:.1%} have {whose}a shorter side below data.image_size {sizes.image_size}"
        lines.append(Text(text, style="yellow" if sizes.below_image_size > 0 else ""))
    if sizes.unseen:
        text = f"{sizes.unseen:.1%} of their area lies outside of every tile's middle square; square tiles show all"
        lines.append(Text(text, style="yellow"))
    return lines


def in_bytes(num_bytes: float) -> str:
    """Bytes in a unit that leaves three or four digits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.0f} {unit}" if unit == "bytes" else f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.3g} TB"


def _unreadable(bad: Unreadable, total: int) -> list[Text]:
    if not bad.images:
        return [Text("none", style="green")]
    causes = words.causes(bad.causes)
    lines = [Text(f"{len(bad.images):,} of {total:,} ({bad.share:.2%}): {causes}", style="yellow")]
    if bad.stops:
        lines.append(Text(f"above data.max_bad_fraction {bad.max_bad_fraction:g}: a run would stop", style="bold red"))
    return lines


def _duplicates(found: Duplicates) -> list[Text]:
    if not found.groups:
        return [Text("none", style="green")]
    lines = []
    if found.val_in_train:
        text = f"{words.plural(found.val_in_train, 'validation image')} also among the training images"
        lines.append(Text(text, style="bold red"))
    if found.within_train:
        lines.append(Text(f"{words.plural(found.within_train, 'training image')} repeated from others", style="yellow"))
    if found.within_val:
        lines.append(Text(f"{words.plural(found.within_val, 'validation image')} repeated from others", style="yellow"))
    if found.conflicting_groups:
        text = f"{words.plural(found.conflicting_groups, 'group')} of the same content with different labels"
        lines.append(Text(text, style="bold red"))
    return lines


# ---- tables below them ------------------------------------------------------------------------------------------


def _class_table(classes: Sequence[ClassCount]) -> list[RenderableType]:
    """Every class, or where they are many the smallest and the largest; nothing where many are all alike."""
    many = len(classes) > 2 * _ENDS
    if not classes or (many and len({(one.train, one.val) for one in classes}) == 1):
        return []
    table = _table("class", "train", "val")
    ordered = sorted(classes, key=lambda one: (one.train, one.val)) if many else list(classes)
    for number, one in enumerate(ordered):
        if not many or number < _ENDS or number >= len(ordered) - _ENDS:
            table.add_row(printable(one.name), words.count(one.train), words.count(one.val))
        elif number == _ENDS:
            table.add_row(Text(f"{len(ordered) - 2 * _ENDS:,} more", style="dim"), "", "")
    return [Text(), table]


def _first_bad(report: CheckReport) -> list[RenderableType]:
    images = report.unreadable.images
    if not images:
        return []
    table = _table("unreadable", "part", "path")
    for cause, number in report.unreadable.causes.items():
        first = [image for image in images if image.cause == cause][:_FIRST]
        for image in first:
            table.add_row(cause, image.part, printable(image.path))
        if number > len(first):
            table.add_row("", "", Text(f"and {number - len(first):,} more", style="dim"))
    return [Text(), _left(table)]


def _first_groups(report: CheckReport) -> list[RenderableType]:
    groups = report.duplicates.groups
    if not groups:
        return []
    table = _table("same content", "class", "path")
    for group in groups[:_FIRST]:
        for image in group[:_FIRST]:
            table.add_row(image.part, printable(image.label or "-"), printable(image.path))
        if len(group) > _FIRST:
            table.add_row("", "", Text(f"and {len(group) - _FIRST:,} more", style="dim"))
        table.add_section()
    rest = len(groups) - _FIRST
    return [Text(), _left(table), *([Text(f"and {words.plural(rest, 'group')} more", style="dim")] if rest > 0 else [])]


def _first_near(report: CheckReport) -> list[RenderableType]:
    images = report.near_duplicates.images if report.near_duplicates else ()
    if not images:
        return []
    table = _table("looks alike", "bits", "path", "training image")
    for image in images[:_FIRST]:
        table.add_row(image.part, str(image.distance), printable(image.path), printable(image.train_path))
    rest = len(images) - _FIRST
    return [Text(), _left(table), *([Text(f"and {rest:,} more", style="dim")] if rest > 0 else [])]


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left", overflow="fold")
    return table


def _left(table: Table) -> Table:
    """Columns of text."""
    for column in table.columns:
        column.justify = "left"
    return table
