"""What `raymix bench scale` trains: presets, the job of a cell of its table, and the plan of a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

from raymix.bench.setting import KINDS, facts
from raymix.plan import Kind, Plan, resolve
from raymix.spec import JobError, JobSpec, Mae, Vit

_Name = TypeVar("_Name", bound=str)
Scaling = Literal["weak", "strong"]
SCALINGS: tuple[Scaling, ...] = ("weak", "strong")
_MAE = {"type": "mae", "mask_ratio": 0.75, "mix_mask_ratio": 0.75, "decoder_width": 96}
# sections of a job, by name; `optim.batch` is a worker's in weak scaling and all workers' in strong scaling
MODELS: dict[str, dict[str, object]] = {
    "vit-nano": {
        "data": {"image_size": 32},
        "backbone": {"type": "vit", "size": "nano", "patch": 4},
        "objective": {**_MAE, "mix_mask_ratio": 0.5, "decoder_width": 32},
        "optim": {"batch": 48},
    },
    "vit-tiny": {
        "data": {"image_size": 64},
        "backbone": {"type": "vit", "size": "tiny", "patch": 8},
        "objective": _MAE,
        "optim": {"batch": 1024},
    },
    "vit-small": {
        "data": {"image_size": 224},
        "backbone": {"type": "vit", "size": "small", "patch": 16},
        "objective": _MAE,
        "optim": {"batch": 256},
    },
    "resnet-50": {
        "data": {"image_size": 224},
        "backbone": {"type": "torchvision", "name": "resnet50"},
        "objective": {"type": "simclr"},
        "optim": {"batch": 256},
    },
}


class Cell(NamedTuple):
    """A worker count under one of the two scalings."""

    workers: int
    scaling: Scaling

    def batch(self, asked: int) -> int:
        """Images a step over all workers, where the job has `asked`."""
        return asked * self.workers if self.scaling == "weak" else asked


def job(model: str) -> dict[str, object]:
    """A preset as a job, which `--set` may change.

    Raises:
        JobError: there is no such preset.
    """
    if model not in MODELS:
        raise JobError("--model", f"{model} is none of {', '.join(MODELS)}")
    preset = MODELS[model]
    data, size = {"train": {"format": "digits"}, "augment": {"crop": [0.25, 1.0], "flip": True}}, preset["data"]
    assert isinstance(size, dict)
    # a job must name a source; the images that are drawn take its place
    return {"name": "bench-scale", "cluster": {"workers": 0}, **preset, "data": {**data, **size}}


def counts_of(text: str) -> tuple[int, ...]:
    """`1,2,4` as numbers, in order and each once.

    Raises:
        JobError: it is no such list.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 0 < int(part) <= 64 for part in parts):
        raise JobError("--workers", f"{text} is no list of counts from 1 to 64", "as in 1,2,4")
    return tuple(sorted({int(part) for part in parts}))


def kinds_of(text: str) -> tuple[Kind, ...]:
    """`ssl,mix,sl` as step kinds.

    Raises:
        JobError: it is no such list.
    """
    return _chosen(text, KINDS, "--kinds")


def scalings_of(text: str) -> tuple[Scaling, ...]:
    """`weak,strong` as scalings.

    Raises:
        JobError: it is no such list.
    """
    return _chosen(text, SCALINGS, "--scaling")


def _chosen(text: str, known: Sequence[_Name], option: str) -> tuple[_Name, ...]:
    """Those of the known names that a list has, in the order in which they are known."""
    parts = [part.strip() for part in text.split(",")]
    if not set(parts) <= set(known):
        raise JobError(option, f"{text} is no list of {', '.join(known)}")
    return tuple(name for name in known if name in parts)


def cells(count: int, scalings: Sequence[Scaling] = SCALINGS) -> list[Cell]:
    """What is measured with so many workers; of one, the two scalings are the same."""
    return [Cell(count, scaling) for scaling in (scalings if count > 1 else SCALINGS[:1])]


def check(spec: JobSpec, counts: Sequence[int], num_gpus: int | None) -> None:
    """Refuses what cannot be measured; `num_gpus`: those of this machine, None: CPUs train.

    Raises:
        JobError: there are too few GPUs; a batch that cannot be shared out; mix steps of several kinds.
    """
    if num_gpus is not None and counts[-1] > num_gpus:
        problem = f"{counts[-1]} workers with a GPU each, and this machine has {num_gpus}"
        raise JobError("--workers", problem, f"at most {num_gpus}, or --device cpu")
    if spec.optim.batch == "auto":
        raise JobError("optim.batch", "auto is not the same for every count", "name one, as in optim.batch=256")
    for count in counts:
        if spec.batch % count:
            near = max(count, round(spec.batch / count) * count)
            raise JobError("optim.batch", f"{spec.batch} cannot be shared out to {count} workers", f"{near} can")
    if isinstance(spec.objective, Mae) and len(spec.objective.mix_ratios) > 1:
        raise JobError("objective.mix_mask_ratio", "a list has mix steps of several kinds", "measure one at a time")


def has_rival(spec: JobSpec, kind: Kind) -> bool:
    """Whether the plain loop has a step: sl, and those of MAE on raymix's own ViT that see the visible patches."""
    if kind == "sl":
        return True
    if not isinstance(spec.objective, Mae) or not isinstance(spec.backbone, Vit):
        return False
    passes = spec.passes(drops=True)
    return (passes.ssl if kind == "ssl" else passes.mix) == "masked" and not spec.schedule.whole_rows


def cell_spec(spec: JobSpec, cell: Cell, gpus: bool, images: str) -> JobSpec:
    """The job of a cell, on the images of an .npz file; a CPU or a GPU a worker."""
    cluster = {"workers": cell.workers, "cpus_per_worker": 1, "gpus_per_worker": int(gpus)}
    optim = spec.optim.model_copy(update={"batch": cell.batch(spec.batch)})
    data = {**spec.data.model_dump(exclude_unset=True), "train": {"format": "npz", "path": images}}
    return JobSpec.model_validate({**dict(spec), "cluster": cluster, "optim": optim, "data": data})


def window(spec: JobSpec, steps: dict[Kind, int], num_rows: int) -> Plan:
    """A run of so many steps of each kind, a phase a kind."""
    schedule = {
        "policy": "phases",
        "phases": [{"kind": kind, "for": number} for kind, number in steps.items()],
        "shared_pass": spec.schedule.shared_pass,
        "whole_rows": spec.schedule.whole_rows,
        "weight": spec.schedule.weight,
    }
    return resolve(JobSpec.model_validate({**dict(spec), "schedule": schedule}), facts(num_rows))
