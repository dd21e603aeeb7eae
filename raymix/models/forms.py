"""Forms of one model side by side: top-1 on the same val images, paired; bytes; latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from raymix.data.frame import Frame, Pixels
from raymix.data.reading import read_in_order
from raymix.data.rows import Ids
from raymix.method.tiles import logits_of_images
from raymix.models.own import Own
from raymix.report.intervals import interval_of
from raymix.session import RunFailed
from raymix.spec import Export
from raymix.train.exported import Side

Logits = Callable[[Pixels], NDArray[np.float32]]
_TIMED, _LEAST = 0.5, 5  # seconds and passes that a latency is the median of
_SHORT = 20.0  # seconds in which a float export is judged on all val rows


class Form(NamedTuple):
    """One way in which the model exists."""

    name: str
    logits: Logits
    bytes: int


def side_by_side(
    forms: Sequence[Form], own: Own, frame: Frame, spec: Export, some: Pixels, always: bool
) -> tuple[tuple[Side, ...], int]:
    """What is found of each form, the first being the original; and the val images that their top-1 is of.

    Args:
        some: Images for the latencies.
        always: All val rows are judged, however long it takes; else only where that is a matter of seconds.

    Raises:
        RunFailed: the last form loses more than `spec.max_lost`.
    """
    latencies = [{size: latency(form.logits, repeated(some, size)) for size in (1, spec.batch)} for form in forms]
    ids = own.val if spec.val_images is None else evenly(own.val, spec.val_images)
    seconds = len(ids) * frame.num_tiles / spec.batch * sum(found[spec.batch] for found in latencies) / 1000
    wanted = always or spec.val_images is not None or spec.max_lost is not None
    correct = _correct(forms, own, frame, ids, spec.batch) if wanted or seconds <= _SHORT else None
    sides: list[Side] = []
    for number, (form, times) in enumerate(zip(forms, latencies, strict=True)):
        side = Side(name=form.name, top1=None, bytes=form.bytes, latency_ms=times)
        if correct is not None and correct.size:
            side = side.model_copy(update={"top1": 100 * float(correct[number].mean())})
            if number:
                lost = interval_of(correct[:1].astype(np.float64) - correct[number])
                side = side.model_copy(update={"lost": lost})
        sides.append(side)
    num = 0 if correct is None else correct.shape[1]
    _check_lost(sides[-1], num, spec)
    return tuple(sides), num


def _check_lost(side: Side, num: int, spec: Export) -> None:
    if spec.max_lost is None or side.lost is None or side.lost.value <= spec.max_lost:
        return
    told = f"{side.name} loses {side.lost.value:.2f} points of top-1 on {num} val images"
    raise RunFailed(f"{told}, more than max_lost={spec.max_lost:g}; nothing was written")


def _correct(forms: Sequence[Form], own: Own, frame: Frame, ids: Ids, batch: int) -> NDArray[np.bool_]:
    """Whether each form classifies each image rightly, bool (forms, images); images that cannot be read are left out.

    Each image is read once, and all forms are shown the same.
    """
    found = [np.zeros((len(forms), 0), dtype=np.bool_)]
    for part in read_in_order(own.rows, ids, frame, max(1, batch // frame.num_tiles)):
        if len(part.ids):
            labels, rows = own.rows.labels[part.ids], part.pixels.reshape(-1, *part.pixels.shape[-3:])
            found.append(np.stack([_predicted(form, rows, frame.num_tiles) == labels for form in forms]))
    return np.concatenate(found, axis=1)


def _predicted(form: Form, rows: Pixels, num_tiles: int) -> NDArray[np.int64]:
    """The class of each image; `rows` are the images, or all of their tiles."""
    logits = logits_of_images(torch.from_numpy(form.logits(rows)), num_tiles).numpy()
    found: NDArray[np.int64] = logits.argmax(1)
    return found


def latency(logits: Logits, pixels: Pixels) -> float:
    """Milliseconds of a pass, the median."""
    logits(pixels)
    times: list[float] = []
    until = time.perf_counter() + _TIMED
    while len(times) < _LEAST or time.perf_counter() < until:
        started = time.perf_counter()
        logits(pixels)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def repeated(pixels: Pixels, num: int) -> Pixels:
    """`num` images, the same again and again where there are fewer."""
    taken: Pixels = pixels[np.arange(num) % len(pixels)]
    return taken


def evenly(ids: Ids, num: int) -> Ids:
    """Up to `num` of them, evenly over all."""
    taken: Ids = ids[np.unique(np.linspace(0, len(ids) - 1, num).astype(np.int64))]
    return taken
