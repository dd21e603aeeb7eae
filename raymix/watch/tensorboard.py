"""TensorBoard: the curves of a run as scalars by global step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raymix.plan import Decision, Plan
from raymix.report.history import History, SegmentReport
from raymix.report.run import RunReport


class TensorBoardSink:
    """Event files in `folder`: a run named as the folder writes into it, any other into a subfolder of its own."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._writer: Any = None  # a tensorboardX.SummaryWriter
        self._step = 0

    def stage(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Stages have no curve."""

    def begin(self, run: str, plan: Plan, history: History) -> None:
        """Open the run's event file; what an earlier attempt wrote beyond `history` is hidden by TensorBoard."""
        self.close()
        self._step = history.done_steps
        self._open(run)

    def decided(self, run: str, decision: Decision) -> None:
        """Decisions have no curve."""

    def segment(self, run: str, report: SegmentReport) -> None:
        """A point for each figure that the segment has."""
        if self._writer is None:
            self._open(run)
        self._step = report.segment.start + report.segment.steps
        for name, value in scalars(report).items():
            if value is not None:
                self._writer.add_scalar(name, value, self._step)

    def note(self, text: str) -> None:
        """Notes have no curve."""

    def end(self, run: str, report: RunReport) -> None:
        """The final top-1, as a point at the last step."""
        if self._writer is not None and report.final is not None:
            self._writer.add_scalar("top1/val", report.final.top1, self._step)
        self.close()

    def close(self) -> None:
        """Write out what is buffered."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, run: str) -> None:
        from tensorboardX import SummaryWriter  # slow to import, and `raymix validate` must be quick

        folder = self.folder if run == self.folder.name else self.folder / run
        # the first step that comes again is the one after the last that is kept
        self._writer = SummaryWriter(str(folder), purge_step=self._step + 1 if self._step else None, flush_secs=10)


def scalars(report: SegmentReport) -> dict[str, float | None]:
    """The figures of a segment by TensorBoard tag; rate and weight are those of its last step."""
    seconds = report.seconds
    return {
        "loss/ssl": report.ssl_loss,
        "loss/sl": report.sl_loss,
        "top1/train": report.train_top1,
        "top1/select": report.select_top1,
        "top1/select_ema": report.select_ema_top1,
        "schedule/lr": report.segment.lr[1],
        "schedule/weight": report.segment.weight[1],
        "speed/images_per_second": report.images / seconds if seconds else None,
        "speed/data_wait_share": report.data_seconds / seconds if seconds else None,
    }
