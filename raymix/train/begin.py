"""`backbone.weights`: found before anything starts, and put into a run's state before its first step.

The driver finds it and keeps its sha256; every worker reads it by itself and holds it against that, so all begin alike.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from raymix.bucket import is_bucket, shown, visited
from raymix.method import backbones
from raymix.method.backbones import Matched
from raymix.method.backbones.weights import BACKBONE, FIELD, HEAD
from raymix.plan import Plan
from raymix.report.start import WeightsReport
from raymix.spec import JobError, JobSpec
from raymix.train import checkpoint, exported
from raymix.train.kept import newest_of
from raymix.train.runtime import Runtime
from raymix.train.state import AVERAGED, MODEL, TrainState
from raymix.train.task import Task

_NOT_COMPARED = ("weights", "weights_head", "pretrained", "drop_path")  # where it began and how it is trained
_HEAD_FIELD = f"{FIELD}_head"
_HEAD_NAMES = ("linear.weight", "linear.bias")


class NotBegun(RuntimeError):  # noqa: N818 (it is what happened)
    """What a run is to begin with is not there any more; the message is one line."""


class _Place(NamedTuple):
    """A file of tensors, and what is known of the model they are of."""

    kind: Literal["run", "export", "file"]
    file: Path
    prefix: str  # of raymix's names in it
    told: str
    spec: JobSpec | None = None  # None: a file says nothing
    class_names: tuple[str, ...] = ()


def found(spec: JobSpec, class_names: tuple[str, ...], allow_import: tuple[str, ...] = ()) -> WeightsReport | None:
    """What a job begins with; None: it asks for nothing. Reads the tensors; starts nothing.

    Raises:
        JobError: nothing is there, or it does not fit the job's backbone, classes or channels.
    """
    if spec.backbone.weights is None:
        return None
    place = _place(spec.backbone.weights)
    _check_same(place, spec, class_names)
    tensors = _read(place.file, place.prefix)
    f = backbones.outline(spec, allow_import)
    taken = backbones.matched(spec, f, tensors, place.told)
    head = spec.backbone.weights_head
    if head and any(HEAD + name not in tensors for name in _HEAD_NAMES):
        raise JobError(_HEAD_FIELD, f"{place.told} holds no classifier", "leave it out")
    return WeightsReport(
        source=spec.backbone.weights,
        kind=place.kind,
        file=shown(place.file),
        prefix=place.prefix,
        told=place.told,
        matched=len(taken.tensors),
        tensors=len(taken.tensors) + len(taken.absent),
        absent=taken.absent,
        resized=taken.resized,
        left=_left(tensors, taken, head),
        head=head,
        sha256=_digest(tensors),
    )


def begin(state: TrainState, task: Task, runtime: Runtime) -> None:
    """Puts those tensors into a state before its first step, averaged weights included.

    Raises:
        NotBegun: on one rank they cannot be read, or are not those that the run began with; on every rank.
    """
    if task.weights is None:
        return
    trouble = ""
    try:
        _load(state, task.plan.spec, task.weights)
    except JobError as error:
        trouble = str(error)
    if told := next(filter(None, runtime.gather(trouble)), ""):
        raise NotBegun(told)


@torch.no_grad()
def _load(state: TrainState, spec: JobSpec, told: WeightsReport) -> None:
    tensors = check_there(told)
    taken = backbones.matched(spec, state.model.f, tensors, told.told)
    for model in filter(None, (state.model, state.averaged)):
        own = model.f.state_dict()
        for name, value in taken.tensors.items():
            own[name].copy_(value)
        if told.head:
            for name, value in model.h.state_dict().items():
                value.copy_(tensors[HEAD + name])


def check_there(told: WeightsReport) -> dict[str, Tensor]:
    """The tensors that a run began with.

    Raises:
        JobError: they cannot be read here, or are not what they were.
    """
    # what lies in a bucket has a copy in each process that asks for it
    file = _place(told.source).file if is_bucket(told.file) else Path(told.file)
    tensors = _read(file, told.prefix)
    if _digest(tensors) != told.sha256:
        raise JobError(FIELD, f"{told.told} is not what it was when the run began", "bring it back, or start anew")
    return tensors


# ---- where the tensors are ------------------------------------------------------------------------------------------


def _place(source: str) -> _Place:
    """Raises JobError where there is neither a run, nor an export, nor a file of tensors."""
    path = Path(os.path.abspath(os.path.expanduser(visited(source, must=True, field=FIELD))))
    if not os.path.exists(path):
        raise JobError(FIELD, f"{source}: no such file", "name a .safetensors file, or a run's folder")
    if path.is_file() and path.name == exported.TENSORS and (path.parent / exported.ABOUT).is_file():
        path = path.parent
    if path.is_file():
        return _Place("file", path, "", source)
    return _exported(path, source) if (path / exported.ABOUT).is_file() else _run(path, source)


def _exported(path: Path, source: str) -> _Place:
    try:
        about = exported.About.model_validate_json((path / exported.ABOUT).read_bytes())
    except (OSError, ValueError) as error:
        raise JobError(FIELD, f"{source}: {exported.ABOUT} cannot be read: {type(error).__name__}") from None
    if about.format != "safetensors":
        raise JobError(FIELD, f"{source} holds a model as {about.format}", "export it with --format safetensors")
    return _Place("export", path / exported.TENSORS, "", source, about.spec, about.class_names)


def _run(path: Path, source: str) -> _Place:
    try:
        plan = Plan.model_validate_json((path / "plan.json").read_bytes())
    except (OSError, ValueError):
        hint = "name a run's folder, one that raymix export wrote, or a .safetensors file"
        raise JobError(FIELD, f"{source} holds no run", hint) from None
    try:
        newest = newest_of(path, checkpoint.run_of(plan.spec))
    except JobError as error:
        named = error.problem if error.field == "storage" else f"{source} {error.problem}"  # a bucket's place is in it
        raise JobError(FIELD, named, error.hint) from None
    averaged = plan.spec.evaluate.weights == "ema"
    told = f"{source}, {newest.name}{' (averaged weights)' if averaged else ''}"
    return _Place(
        "run", newest / checkpoint.TENSORS, AVERAGED if averaged else MODEL, told, plan.spec, plan.facts.class_names
    )


def _check_same(place: _Place, spec: JobSpec, class_names: tuple[str, ...]) -> None:
    """Raises JobError where a run or an export has another backbone, or another classifier is to be taken."""
    head = spec.backbone.weights_head
    if place.spec is None:
        if head:
            raise JobError(_HEAD_FIELD, f"{place.told} names no classes", "give the run's folder, or its export's")
        return
    before, now = _section(place.spec), _section(spec)
    for name in dict.fromkeys(("type", *before, *now)):
        if before.get(name) != now.get(name):
            problem = f"is {_shown(now.get(name))}, and {_shown(before.get(name))} in {place.told}"
            raise JobError(f"backbone.{name}", problem, "train the same backbone, or leave backbone.weights out")
    if place.spec.data.num_channels != spec.data.num_channels:
        problem = f"is {spec.data.channels}, and {place.spec.data.channels} in {place.told}"
        raise JobError("data.channels", problem, "train on the same channels, or leave backbone.weights out")
    if head and place.class_names != class_names:
        other = sorted(set(place.class_names) ^ set(class_names))
        problem = f"the classes of {place.told} are not this job's" + (
            f": {other[0]!r} is in one alone" if other else ""
        )
        raise JobError(_HEAD_FIELD, problem, "leave it out: the backbone alone is taken then")


def _section(spec: JobSpec) -> dict[str, Any]:
    section: dict[str, Any] = json.loads(spec.backbone.model_dump_json(exclude=set(_NOT_COMPARED)))
    return section


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "not set" if value is None else json.dumps(value)


# ---- its tensors ----------------------------------------------------------------------------------------------------


def _read(file: Path, prefix: str) -> dict[str, Tensor]:
    """A file's tensors; of a checkpoint backbone and classifier alone, named as in the model."""
    wanted = (prefix + BACKBONE, prefix + HEAD) if prefix else ("",)
    try:
        with safe_open(file, framework="pt") as held:
            return {name.removeprefix(prefix): held.get_tensor(name) for name in held.keys() if name.startswith(wanted)}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        problem = "no such file" if not file.exists() else f"cannot be read: {' '.join(str(error).split())[:120]}"
        raise JobError(FIELD, f"{file}: {problem}", "every worker must see a .safetensors file there") from None


def _digest(tensors: dict[str, Tensor]) -> str:
    hashed = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        hashed.update(f"{name}\0{value.dtype}\0{list(value.shape)}\0".encode())
        hashed.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def _left(tensors: dict[str, Tensor], taken: Matched, head: bool) -> int:
    used = len(taken.tensors) + (len(_HEAD_NAMES) if head else 0)
    return max(0, len(tensors) - used)
