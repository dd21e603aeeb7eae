"""Forms of one model side by side: the job's metric on the same val images, paired; bytes; latency."""

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
from raymix.models.work import softmax
from raymix.plan import Plan
from raymix.report.intervals import interval_of
from raymix.report.judging import GRADED, METRIC_WORDS, judged
from raymix.report.scoring import COUNTS
from raymix.session import RunFailed
from raymix.spec import TOP, Export, Tile
from raymix.train.exported import Side

Logits = Callable[[Pixels], NDArray[np.float32]]
_TIMED, _LEAST = 0.5, 5  # seconds and passes that a latency is the median of
_SHORT = 20.0  # seconds in which a float export is judged on all val rows


class Form(NamedTuple):
    """One way in which the model exists; `answers`: logits of a form that is the same and quicker; None: its own."""

    name: str
    logits: Logits
    bytes: int
    answers: Logits | None = None


class _Answers(NamedTuple):
    """Of each form and image whether it is right, and what it counts by the job's metric; (forms, images)."""

    correct: NDArray[np.bool_]
    counts: NDArray[np.float64]


def side_by_side(
    forms: Sequence[Form], own: Own, frame: Frame, spec: Export, some: Pixels, always: bool
) -> tuple[tuple[Side, ...], int]:
    """What is found of each form, the first being the original; and the val images that they were judged on.

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
    found = _answers(forms, own, frame, ids, spec.batch) if wanted or seconds <= _SHORT else None
    sides: list[Side] = []
    for number, (form, times) in enumerate(zip(forms, latencies, strict=True)):
        side = Side(name=form.name, top1=None, bytes=form.bytes, latency_ms=times)
        if found is not None and found.correct.size:
            top1, score = (100 * float(of[number].mean()) for of in (found.correct, found.counts))
            lost = interval_of(found.counts[:1] - found.counts[number]) if number else None
            side = side.model_copy(update={"top1": top1, "score": score, "lost": lost})
        sides.append(side)
    num = 0 if found is None else found.correct.shape[1]
    _check_lost(sides[-1], num, spec, METRIC_WORDS[own.plan.spec.metric])
    return tuple(sides), num


def _check_lost(side: Side, num: int, spec: Export, metric: str) -> None:
    if spec.max_lost is None or side.lost is None or side.lost.value <= spec.max_lost:
        return
    told = f"{side.name} loses {side.lost.value:.2f} points of {metric} on {num} val images"
    raise RunFailed(f"{told}, more than max_lost={spec.max_lost:g}; nothing was written")


def _answers(forms: Sequence[Form], own: Own, frame: Frame, ids: Ids, batch: int) -> _Answers:
    """What each form says of each image; images that cannot be read are left out.

    Each image is read once, and all forms are shown the same; one that answers for two of them is asked once.
    """
    metric, labels, correct = own.plan.spec.metric, [np.zeros(0, dtype=np.int64)], [np.zeros((len(forms), 0), np.bool_)]
    kept = [np.zeros((len(forms), 0, len(own.plan.facts.class_names)), np.float32)]
    asked = [form.answers or form.logits for form in forms]
    for part in read_in_order(own.rows, ids, frame, max(1, batch // frame.num_tiles)):
        if len(part.ids):
            labels.append(own.rows.labels[part.ids].astype(np.int64))
            rows = part.pixels.reshape(-1, *part.pixels.shape[-3:])  # the images, or all of their tiles
            said = {ask: _of_images(ask(rows), frame.tile) for ask in dict.fromkeys(asked)}
            logits = np.stack([said[ask] for ask in asked])
            correct.append(logits.argmax(2) == labels[-1])
            if metric in GRADED:
                kept.append(logits)
    truth, right = np.concatenate(labels), np.concatenate(correct, axis=1)
    if metric not in GRADED:
        return _Answers(right, judged(metric, truth).credits(right))
    return _Answers(right, np.stack([_counts(of, truth, own.plan) for of in np.concatenate(kept, axis=1)]))


def _counts(logits_NK: NDArray[np.float32], y_N: NDArray[np.int64], plan: Plan) -> NDArray[np.float64]:
    """What each image counts by the job's metric."""
    if plan.spec.metric == "top5":
        before_N = (logits_NK > logits_NK[np.arange(len(y_N)), y_N][:, None]).sum(1)
        return np.asarray(before_N < TOP, dtype=np.float64)
    return COUNTS[plan.spec.metric](softmax(logits_NK), y_N, plan.spec.report, plan.facts.class_names)


def _of_images(logits: NDArray[np.float32], tile: Tile | None) -> NDArray[np.float32]:
    """The logits of each image, of those of all tiles."""
    found: NDArray[np.float32] = logits_of_images(torch.from_numpy(logits), tile).numpy()
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
