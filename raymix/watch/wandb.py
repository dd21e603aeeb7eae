"""Weights & Biases: a run there for a run here; offline, its files lie in the run folder until `wandb sync`."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from raymix.report.run import Status
from raymix.spec import Wandb
from raymix.watch.outbox import Ending, Point
from raymix.watch.service import Keeper, Kept

EXIT_CODE: dict[Status, int] = {"done": 0, "failed": 3, "interrupted": 130}

INIT_SECONDS = 20.0  # that an attempt to reach it may take
GONE_SECONDS = 5.0  # in which a killed process is gone


class WandbService:
    """One run of Weights & Biases; `wandb.json` in the run folder names it, for a run that is resumed."""

    name = "Weights & Biases"

    def __init__(self, spec: Wandb, folder: Path, params: dict[str, str]) -> None:
        self._spec, self._folder, self._params = spec, folder, params
        self._keeper = Keeper(folder, "wandb")
        self._kept: Kept | None = None
        self._run: Any = None
        self._others: set[int] = set()  # processes of a session that was there before, in a notebook say

    def open(self) -> None:
        """Goes on with the run that the folder names, or makes one."""
        import wandb

        kept = self._keeper.read(self._spec.mode) or Kept(uuid.uuid4().hex[:12], self._spec.mode, 0)
        self._keeper.write(kept)
        self._others = {child.pid for child in _processes()}
        # raymix's own report says what it ran on; a command line, a host and its packages go to nobody
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            init_timeout=INIT_SECONDS,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=self._spec.project,
            mode=self._spec.mode,
            id=kept.id,
            name=self._folder.name,
            resume="allow",
            dir=str(self._folder),
            config=self._params,
            settings=settings,
        )
        self._run.define_metric("step")  # its own counts calls, and refuses one that goes back
        self._run.define_metric("*", step_metric="step")
        self._kept = kept

    def deliver(self, messages: Sequence[Point | Ending]) -> None:
        """Points as rows; the end as summary, files and the run's state."""
        assert self._kept is not None
        for one in messages:
            if isinstance(one, Ending):
                self._end(one)
            elif not one.old or one.step > self._kept.sent:
                self._run.log({**one.values, "step": one.step, "_timestamp": one.at})
                self._kept = self._kept._replace(sent=one.step)
        self._keeper.write(self._kept)

    def leave(self) -> str:
        """Ends the process that would go on trying, for which this one would wait; how it hears of it later."""
        ours = [child for child in _processes() if child.pid not in self._others]
        for child in ours:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(ours, timeout=GONE_SECONDS)
        if not self._others:
            with suppress(Exception):  # it takes leave of who is gone; without this, at the process's end
                import wandb

                wandb.teardown()
        if self._run is None:
            return f"{self._folder} has all of it"
        return f"wandb sync {Path(self._run.dir).parent} tells it"

    def _end(self, ending: Ending) -> None:
        self._run.summary.update({**ending.values, "status": ending.status})
        for file in ending.files:
            copied = shutil.copy(file, self._run.dir)  # of a file elsewhere it makes a link, and a warning of that
            self._run.save(copied, base_path=self._run.dir, policy="now")
        self._run.finish(exit_code=EXIT_CODE[ending.status])


def _processes() -> list[psutil.Process]:
    """Those of W&B that this one has started."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.name().startswith("wandb") and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found
