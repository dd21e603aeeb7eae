"""From a segment to its batches: which rows, with which keys, on this rank.

All row ids, keys, labels and scales of a segment go to the device at its start, so that a step only picks a slice.
b batch of this rank, T steps of a run of one kind.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from raymix.data.order import Order
from raymix.data.splits import Splits
from raymix.method import draw
from raymix.method.steps import Batch
from raymix.plan import STREAM_OF, Kind, Plan, Segment, Stream, positions
from raymix.train.runtime import Runtime

CHUNK = 256  # steps whose row ids are made at a time; bounds memory when a step takes microseconds


class Feed:
    """The batches of one run on this rank; a pure function of (plan, splits, step)."""

    def __init__(self, plan: Plan, splits: Splits, runtime: Runtime) -> None:
        self.plan, self.splits, self.runtime = plan, splits, runtime
        seed = plan.spec.seed
        ids: dict[Stream, np.ndarray] = {"all": splits.train, "labelled": splits.labelled}
        # handed out so far, over all ranks: rows that feed the supervised loss, and steps with such a row
        self.labelled, self.labelled_steps = 0, 0
        self._orders = {stream: Order(rows, seed, stream) for stream, rows in ids.items() if len(rows)}

    def batches(self, segment: Segment) -> Iterator[tuple[Kind, Batch]]:
        """The steps of a segment, one by one."""
        consumed = positions(self.plan, segment.start)
        for kind, steps in segment.pattern:
            stream = STREAM_OF[kind]
            for first in range(0, steps, CHUNK):
                count = min(CHUNK, steps - first)
                for batch in self.slice(kind, consumed[stream], count):
                    yield kind, batch
                consumed[stream] += count * self.plan.spec.optim.batch

    def slice(self, kind: Kind, start: int, steps: int) -> Iterator[Batch]:
        """`steps` batches of this rank from position `start` of the kind's stream on."""
        runtime, batch = self.runtime, self.plan.spec.optim.batch
        ids, epochs = self._orders[STREAM_OF[kind]].rows(start, steps * batch)
        labels = self.splits.labels[ids]
        share = batch // runtime.world
        mine = np.s_[:, runtime.rank * share : (runtime.rank + 1) * share]
        # the count comes from the order function, so no collective is needed (DESIGN section 3, rule 8)
        labelled = (labels >= 0).reshape(steps, batch).sum(1)
        if kind != "ssl":
            self.labelled += int(labelled.sum())
            self.labelled_steps += int(np.count_nonzero(labelled))
        scales = np.where(labelled > 0, runtime.world / np.maximum(labelled, 1), 0.0)

        def on_device(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(runtime.device, non_blocking=True)

        local_ids = ids.reshape(steps, batch)[mine]
        slots_Tb = runtime.cache.slots(np.ascontiguousarray(local_ids))
        rows, when = on_device(local_ids.reshape(-1)), on_device(epochs.reshape(steps, batch)[mine].reshape(-1))
        keys_Tb = draw.Keys(draw.keys(self.plan.spec.seed, when, rows).view(steps, share))
        labels_Tb = on_device(labels.reshape(steps, batch)[mine])
        scales_T = on_device(scales.astype(np.float32))
        for slots_b, y_b, key_b, scale in zip(slots_Tb, labels_Tb, keys_Tb, scales_T, strict=True):
            yield Batch(runtime.cache.take(slots_b), y_b, key_b, scale)
