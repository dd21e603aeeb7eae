"""A run that a sink is told of without anybody training: its plan and the reports of all its segments."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raymix.plan import Plan
from raymix.policy import unroll
from raymix.report.history import History, Rates, SegmentReport

RATES = Rates(step_seconds={"ssl": 0.1, "mix": 0.2, "sl": 0.1}, workers=1)


def reports_of(plan: Plan) -> tuple[SegmentReport, ...]:
    """A report for each segment; losses are known by their step."""
    return tuple(
        SegmentReport(
            segment=segment,
            seconds=2.0,
            data_seconds=0.5,
            images=100,
            labelled=50,
            ssl_loss=1.0 / (1 + segment.start) if segment.kind != "sl" else None,
            sl_loss=2.0 / (1 + segment.start) if segment.kind != "ssl" else None,
        )
        for segment in unroll(plan, RATES)
    )


def history(*reports: SegmentReport) -> History:
    return History(rates=RATES, reports=reports)


def wandb_records(folder: Path) -> list[Any]:
    """What Weights & Biases has written of a run, attempt by attempt: the records of its log files."""
    from wandb.proto.wandb_internal_pb2 import Record

    files = sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    return [Record.FromString(data) for file in files for data in _logged(file.read_bytes())]


def _logged(raw: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log: blocks of 32 KiB, fragments of a header (checksum, length, type) and data."""
    place, whole = 7, b""
    while place + 7 <= len(raw):
        if 2**15 - place % 2**15 < 7:  # no header fits into what is left of the block
            place += 2**15 - place % 2**15
            continue
        _, length, kind = struct.unpack_from("<IHB", raw, place)
        whole += raw[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last fragment
            yield whole
            whole = b""
