"""`raymix data check`: every image read and decoded once, without training."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial

import numpy as np

from raymix.data.alike import SIDE, near_duplicates
from raymix.data.blocks import Block
from raymix.data.check import check_block, gathered, summary
from raymix.data.frame import Frame
from raymix.data.rows import Rows
from raymix.data.splits import Splits, split
from raymix.datacmd.named import Named, index
from raymix.datacmd.work import How, console, told, workers
from raymix.report.check import CheckReport
from raymix.spec import JobError, JobSpec
from raymix.starting import kept_of

_BLOCK_ROWS = (256, 2_000)  # smallest and largest block
_NUM_BLOCKS = 64  # as far as these allow: each moves the progress bar


def check(what: Named, how: How) -> CheckReport:
    """Reads and decodes every image once.

    Raises:
        JobError: the data is wrong in a way that leaves nothing to be checked.
    """
    rows, data = index(what), what.spec.data
    splits = None if data.near_duplicates is None else _splits(rows, what.spec)
    size = int(np.clip(len(rows) // _NUM_BLOCKS, *_BLOCK_ROWS))
    blocks = (Block.of(rows, np.arange(start, min(start + size, len(rows)))) for start in range(0, len(rows), size))
    with console(how, "nothing is kept") as sink, workers(what.spec.cluster, len(rows), how, sink) as map_blocks:
        started = time.monotonic()
        looks = None if splits is None else Frame(SIDE, data.channels, data.region)
        parts = map_blocks(partial(check_block, channels=data.channels, looks=looks), blocks)
        with closing(told(parts, sink, "reading images", len(rows), lambda part: len(part.ids))) as found:
            facts = gathered(len(rows), found)
        seconds = time.monotonic() - started
        near = None
        if splits is not None and facts.hashes is not None and data.near_duplicates is not None:
            readable = splits.without(np.array(list(facts.skipped), dtype=np.int64))
            near = near_duplicates(rows, readable, facts.hashes, data.near_duplicates)
    return summary(rows, facts, data, seconds, near)


def _splits(rows: Rows, spec: JobSpec) -> Splits:
    """The parts that a run of the job would have, to be compared by the looks of their images.

    Raises:
        JobError: the rows cannot be split.
    """
    if not rows.class_names:
        raise JobError(
            "data.near_duplicates", "images without labels are not split, so there is no val", "leave it out"
        )
    return split(rows, spec.data, spec.seed, kept_of(spec, rows))
