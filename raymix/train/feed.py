"""From a segment to its batches: which rows, with which keys, on this rank.

Row ids, keys, labels and scales go to the device for many steps at a time, so that a step only picks a slice.
b batch of this rank, B of all, T steps of a run of one kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from raymix.data.order import orders
from raymix.data.rows import Ids
from raymix.data.splits import Splits
from raymix.data.tiles import images_of
from raymix.method import draw
from raymix.method.steps import Batch
from raymix.plan import Kind, Plan, Segment, Stream, classified_rows, positions, rows_per_step
from raymix.train.runtime import Runtime
from raymix.train.supply import Flow, Source, to_device

LOOK_AHEAD = 6  # segments before a change of phase, in which its streams are begun: about ten seconds
NO_END = 2**60  # of a stream whose plan may yet change
# steps whose row ids are made at a time: few at first, for which the device waits, and the next while it works on them;
# at most so many, which bounds memory when a step takes microseconds
FIRST_CHUNK, CHUNK = 8, 256


class Feed:
    """The batches of one run on this rank; a pure function of (plan, splits, step)."""

    def __init__(self, plan: Plan, splits: Splits, runtime: Runtime) -> None:
        self.plan, self.splits, self.runtime = plan, splits, runtime
        # handed out so far, over all ranks: rows that feed the supervised loss, and steps with such a row
        self.labelled, self.labelled_steps = 0, 0
        self._orders = orders(plan, splits)
        self._flow = self._open()

    def begin(self, step: int) -> None:
        """Training goes on at a global step: reading begins, and has begun when this returns."""
        self._begin(step, 1)
        self._flow.wait()

    def batches(self, segment: Segment) -> Iterator[tuple[Kind, Batch]]:
        """The steps of a segment, one by one."""
        consumed = positions(self.plan, segment.start)
        self._begin(segment.start, LOOK_AHEAD * segment.steps)
        most = FIRST_CHUNK
        for kind, left in segment.pattern:
            while left:
                count = min(most, left)
                for batch in self._slice(kind, consumed, count):
                    yield kind, batch
                for stream, rows in rows_per_step(self.plan, kind).items():
                    consumed[stream] += count * rows
                left, most = left - count, min(4 * most, CHUNK)

    def sample(self, kind: Kind, number: int = 0) -> Batch:
        """This rank's share of a kind's batch of a number, read on its own: for steps that are thrown away."""
        start = {stream: number * rows for stream, rows in rows_per_step(self.plan, kind).items()}
        _, ids_TB, epochs_TB = self._rows(kind, start, 1)
        images = torch.cat(list(self.runtime.supply.batches(self._mine(ids_TB)[0])))
        labels_TB = self._labels(ids_TB)
        return next(self._joined(ids_TB, epochs_TB, labels_TB, self._labelled(kind, labels_TB), iter((images,))))

    def rewind(self, plan: Plan, step: int) -> None:
        """Training goes on at an earlier step, under `plan`."""
        self._flow.close()
        self.plan, self._flow = plan, self._open()
        self.begin(step)

    def close(self) -> None:
        """Nothing more is asked for."""
        self._flow.close()

    def _open(self) -> Flow:
        plan, runtime = self.plan, self.runtime
        ends = positions(plan, plan.num_steps) if not plan.may_change else dict.fromkeys(self._orders, NO_END)
        return runtime.supply.open(self._orders, ends, runtime.rank, runtime.world)

    def _begin(self, step: int, horizon: int) -> None:
        """Begins to read the streams of the phases that the next steps are of; a stream goes on where it stopped."""
        coming = [phase for phase in self.plan.phases if phase.start < step + horizon]
        kinds = {kind for phase in coming if phase.start + phase.steps > step for kind, _ in phase.turns}
        soon = {stream for kind in kinds for stream in rows_per_step(self.plan, kind)}
        self._flow.begin({stream: at for stream, at in positions(self.plan, step).items() if stream in soon})

    def _slice(self, kind: Kind, start: Mapping[Stream, int], steps: int) -> Iterator[Batch]:
        """`steps` batches of this rank from the positions `start` of the kind's streams on."""
        parts, ids_TB, epochs_TB = self._rows(kind, start, steps)
        labels_TB = self._labels(ids_TB)
        labelled_T = self._labelled(kind, labels_TB)
        if kind != "ssl":
            self.labelled += int(labelled_T.sum())
            self.labelled_steps += int(np.count_nonzero(labelled_T))
        images = self._flow.steps(parts, self._mine(ids_TB))
        yield from self._joined(ids_TB, epochs_TB, labels_TB, labelled_T, images)

    def _rows(self, kind: Kind, start: Mapping[Stream, int], steps: int) -> tuple[tuple[Source, ...], Ids, Ids]:
        """Where the rows of some steps come from, their ids and their epochs, both (T, B)."""
        parts = tuple(Source(stream, start[stream], rows) for stream, rows in rows_per_step(self.plan, kind).items())
        found = [self._orders[part.stream].rows(part.start, steps * part.rows) for part in parts]
        ids, epochs = (
            np.concatenate([both[which].reshape(steps, part.rows) for both, part in zip(found, parts, strict=True)], 1)
            for which in (0, 1)
        )
        return parts, ids, epochs

    def _mine(self, values_TB: Ids) -> Ids:
        """This rank's share of each batch, (T, b)."""
        return np.ascontiguousarray(values_TB[:, self.runtime.rank :: self.runtime.world])

    def _labelled(self, kind: Kind, labels_TB: Ids) -> Ids:
        """Rows of each batch that feed the supervised loss, over all ranks, (T,)."""
        number: Ids = (labels_TB[:, : classified_rows(self.plan, kind, self.runtime.world)] >= 0).sum(1)
        return number

    def _labels(self, ids_TB: Ids) -> Ids:
        """The labels of some rows: a tile has that of its image."""
        labels: Ids = self.splits.labels[images_of(ids_TB, self.plan.facts.tiles)]
        return labels

    def _joined(
        self, ids_TB: Ids, epochs_TB: Ids, labels_TB: Ids, labelled_T: Ids, images: Iterator[Tensor]
    ) -> Iterator[Batch]:
        """The batches of some steps and their images."""
        runtime = self.runtime
        # the count comes from the order function, so no collective is needed (DESIGN section 3, rule 8)
        scales = np.where(labelled_T > 0, runtime.world / np.maximum(labelled_T, 1), 0.0)

        def on_device(values: np.ndarray) -> Tensor:
            return to_device(torch.from_numpy(np.ascontiguousarray(values)), runtime.device)

        rows_Tb, when_Tb = on_device(self._mine(ids_TB)), on_device(self._mine(epochs_TB))
        keys_Tb = draw.Keys(draw.keys(self.plan.spec.seed, when_Tb.view(-1), rows_Tb.view(-1)).view_as(rows_Tb))
        labels_Tb, scales_T = on_device(self._mine(labels_TB)), on_device(scales.astype(np.float32))
        for x_bSSC, y_b, key_b, scale in zip(images, labels_Tb, keys_Tb, scales_T, strict=True):
            yield Batch(x_bSSC, y_b, key_b, scale)
