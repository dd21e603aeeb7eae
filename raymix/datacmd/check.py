"""`raymix data check`: every image read and decoded once, without training."""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial

import numpy as np

from raymix.data.blocks import Block
from raymix.data.check import check_block, gathered, summary
from raymix.datacmd.named import Named, index
from raymix.datacmd.work import How, console, told, workers
from raymix.report.check import CheckReport

_BLOCK_ROWS = (256, 2_000)  # smallest and largest block
_NUM_BLOCKS = 64  # as far as these allow: each moves the progress bar


def check(what: Named, how: How) -> CheckReport:
    """Reads and decodes every image once.

    Raises:
        JobError: the data is wrong in a way that leaves nothing to be checked.
    """
    rows, data = index(what), what.spec.data
    size = int(np.clip(len(rows) // _NUM_BLOCKS, *_BLOCK_ROWS))
    blocks = (Block.of(rows, np.arange(start, min(start + size, len(rows)))) for start in range(0, len(rows), size))
    with console(how, "nothing is kept") as sink, workers(what.spec.cluster, len(rows), how, sink) as map_blocks:
        started = time.monotonic()
        parts = map_blocks(partial(check_block, channels=data.channels), blocks)
        with closing(told(parts, sink, "reading images", len(rows), lambda part: len(part.ids))) as found:
            facts = gathered(len(rows), found)
        return summary(rows, facts, data, time.monotonic() - started)
