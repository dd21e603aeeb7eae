"""What steps cost in earlier runs of a like job, on a like machine: a small JSON file each, in the user's cache folder.

The driver writes one after a run has measured; `raymix plan` reads them, and needs neither torch nor ray for that. No
run skips its own measurement because of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from raymix.plan import Kind, Plan
from raymix.report.folder import write_text
from raymix.report.history import Rates
from raymix.report.run import RunReport
from raymix.spec import Section

KEPT = 10  # runs that are remembered under one key
PACKAGES = ("raymix", "torch", "torchvision")


class Key(Section):
    """All that a step's cost depends on."""

    backbone: dict[str, Any]
    objective: dict[str, Any]
    augment: dict[str, Any]
    speed: dict[str, Any]
    image_size: int
    tiles: int = Field(description="of an image, which evaluation goes through; 1: none")
    channels: str
    num_classes: int
    batch: int
    accumulate: int
    precision: str
    averaged: bool = Field(description="averaged weights are kept (optim.ema)")
    clipped: bool = Field(description="gradients are clipped (optim.clip)")
    layered: bool = Field(description="rates by layer (optim.layer_decay)")
    gated: bool = Field(description="parts of the backbone may be masked (shrink)")
    adapted: int = Field(description="rank of the adapters that SL steps train (lora); 0: there are none")
    shared_pass: str
    whole_rows: int = Field(description="of a mix batch, which the classifier sees whole (schedule.whole_rows)")
    workers: int
    cpus_per_worker: float
    gpus_per_worker: float
    versions: dict[str, str]

    @classmethod
    def of(cls, plan: Plan) -> Key:
        """The key of a plan under the versions that are installed."""
        spec = plan.spec
        sections = {name: getattr(spec, name).model_dump(mode="json") for name in ("backbone", "objective", "speed")}
        return cls(
            **sections,
            augment=spec.data.augment.model_dump(mode="json"),
            image_size=spec.data.image_size,
            tiles=plan.facts.tiles,
            channels=spec.data.channels,
            num_classes=plan.facts.num_classes,
            batch=spec.batch,
            accumulate=spec.optim.accumulate,
            precision=spec.optim.precision,
            averaged=spec.optim.ema is not None,
            clipped=spec.optim.clip is not None,
            layered=spec.optim.layer_decay < 1,
            gated=spec.shrink is not None,
            adapted=spec.lora.rank if spec.lora is not None else 0,
            shared_pass=spec.schedule.shared_pass,
            whole_rows=spec.num_whole(spec.batch),
            workers=spec.cluster.max_workers,
            cpus_per_worker=spec.cluster.cpus_per_worker,
            gpus_per_worker=spec.cluster.gpus_per_worker,
            versions={name: installed(name) for name in PACKAGES},
        )


class Seen(Section):
    """What one run measured, and how that held."""

    at: float = Field(description="time.time() when it was written")
    rates: Rates
    ratio: float | None = Field(None, description="training seconds over what `rates` had predicted; null: cut short")
    startup_seconds: float | None = Field(
        None, description="wall time without prepare, training, evaluation and checkpoints; null: not the run's own"
    )
    ray_seconds: float = Field(0.0, description="of these, those before workers were held")

    @classmethod
    def of(cls, report: RunReport, rates: Rates, alone: bool) -> Seen:
        """What a run showed; `alone`: its command served it only, so the start-up is its own."""
        totals, done = report.totals, report.status == "done"
        predicted = sum(phase.predicted_seconds or 0.0 for phase in report.phases)
        trained = totals.trained_seconds
        work = trained + totals.evaluate_seconds + totals.checkpoint_seconds + rates.prepare_seconds
        return cls(
            at=now(),
            rates=rates,
            ratio=trained / predicted if done and predicted else None,
            startup_seconds=max(0.0, totals.wall_seconds - work) if done and alone else None,
            ray_seconds=totals.startup.get("ray", 0.0),
        )


class Entry(Section):
    """One file: the key in clear, the device, and the last runs, oldest first."""

    key: Key
    device: str = Field(description="cpu or cuda")
    device_name: str
    seen: tuple[Seen, ...]

    def with_kinds(self, kinds: tuple[Kind, ...]) -> tuple[Seen, ...]:
        """The runs that measured all of these kinds."""
        return tuple(seen for seen in self.seen if set(kinds) <= set(seen.rates.step_seconds))


def folder() -> Path:
    """Where the files lie: `$RAYMIX_CACHE`, `$XDG_CACHE_HOME/raymix` or `~/.cache/raymix`, and there in rates/."""
    if own := os.environ.get("RAYMIX_CACHE"):
        return Path(own) / "rates"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "raymix" / "rates"


def remember(plan: Plan, device: str, device_name: str, seen: Seen) -> None:
    """Adds a run to its file. A folder that cannot be written is no reason to fail: nothing is remembered then."""
    key = Key.of(plan)
    try:
        path = folder() / f"{_digest(key, device_name)}.json"
        before = _read(path)
        runs = (*(before.seen if before else ()), seen)[-KEPT:]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, Entry(key=key, device=device, device_name=device_name, seen=runs).model_dump_json(indent=1))
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return


def recall(plan: Plan) -> Entry | None:
    """The newest entry of a like job on the kind of device that the job asks for; None: there is none.

    A job that trains in this process (no workers) takes a GPU where there is one: there the newest of either counts.
    """
    key, cluster = Key.of(plan), plan.spec.cluster
    try:
        files = sorted(folder().glob("*.json"))
    except (OSError, RuntimeError):
        return None
    wanted = ("cuda",) if cluster.gpus_per_worker else ("cpu",) if cluster.max_workers else ("cpu", "cuda")
    found = [entry for path in files if (entry := _read(path)) is not None]
    like = [e for e in found if e.key == key and e.device in wanted and e.with_kinds(plan.kinds)]
    return max(like, key=lambda entry: entry.with_kinds(plan.kinds)[-1].at, default=None)


def now() -> float:
    """The clock of `Seen.at`."""
    return time.time()


def installed(package: str) -> str:
    """The version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout, as the working directory of a Ray job is
        return "not installed"


def _digest(key: Key, device_name: str) -> str:
    text = json.dumps([key.model_dump(mode="json"), device_name], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> Entry | None:
    """An entry; None: there is none that this version can read."""
    try:
        return Entry.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
