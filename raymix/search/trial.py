"""One trial of a search: values of some fields of the job, and what came of them on the select rows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from raymix.spec import Section

# running: begun and not ended, also where the driver was killed; stopped: by ASHA; refused: the job takes no such
# values together
TrialStatus = Literal["running", "done", "stopped", "interrupted", "failed", "refused"]
OPEN: tuple[TrialStatus, ...] = ("running", "interrupted")  # a search that is resumed goes on with them


class Trial(Section):
    """A configuration and its outcome; travels to the process that trains it and comes back filled in."""

    number: int
    arm: str = Field("", description="way to train that it belongs to; '': the job as it is")
    values: dict[str, Any] = Field(description="path of a field -> its value")
    status: TrialStatus = "running"
    select_top1: float | None = Field(None, description="percent of the select rows, at the last evaluation")
    worker_seconds: float = Field(0.0, description="clock A: steps and the wait for data, times workers")
    billed_worker_seconds: float = Field(0.0, description="clock B: every second that workers were held for it")
    planned: float | None = Field(None, description="clock A of its whole plan, by its measured step times")
    rungs: dict[str, float] = Field({}, description="ASHA: share of the seconds -> select top-1 when it came there")
    num_select: int = Field(0, description="select rows")
    device: str = Field("", description="cpu or cuda; '': it never came to a step")
    error: str = Field("", description="why it failed or was refused")
    source: str = Field("", description="the earlier search that it was taken from; '': of this one")

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.number:04d}"
