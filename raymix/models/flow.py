"""Images through a trained model: read ahead by threads and computed in this process, or on Ray. Memory stays flat."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raymix.data.find import find_source
from raymix.data.formats import index_source
from raymix.data.frame import Pixels
from raymix.data.images import Answered
from raymix.data.reading import read_in_order
from raymix.data.rows import Ids, Rows
from raymix.datacmd import How
from raymix.jobfile import load_options
from raymix.spec import Cluster, JobError, Reading, Section, Source
from raymix.train.model import Output, Trained, load
from raymix.train.stepper import dtype_of
from raymix.train.supply import as_tensor, to_device

R = TypeVar("R", bound=Reading)


class Done(Section):
    """What a model was shown, and what came of it."""

    images: int
    skipped: dict[str, int]
    seconds: float
    device: str
    workers: int

    @property
    def rate(self) -> float:
        """Images a second, unreadable ones included."""
        return self.images / self.seconds


class Asked(NamedTuple):
    """A run folder, how its model may be loaded, and what is told meanwhile."""

    run: Path
    allow_import: tuple[str, ...] = ()
    how: How = How()


def options(kind: type[R], source: str | None, overrides: list[str]) -> R:
    """The options of a command that reads SOURCE, a path whose format is found out; `overrides` as `--set` has them.

    Raises:
        JobError: SOURCE or one of them is wrong.
    """
    data: dict[str, object] = {"cluster": {"workers": 0}}  # of a section that is named a job would start two
    if source is not None:
        formats = [text.partition("=")[2].strip() for text in overrides if text.startswith("source.format=")]
        data["source"] = find_source(source, formats[-1] if formats else None, "SOURCE", "--set source.format=")
    return load_options(kind, data, overrides)


def loaded(asked: Asked, spec: Reading) -> Trained:
    """The model of a run.

    Raises:
        JobError: see `raymix.load_model`.
    """
    return load(asked.run, asked.allow_import, best=spec.checkpoint == "best")


def listed(source: Source, part: str) -> tuple[Rows, Ids]:
    """The rows of SOURCE, and the ids of those in a part of it.

    Raises:
        JobError: the source is wrong, or that part of it is empty.
    """
    try:
        rows = index_source(source, "source")
    except JobError as error:
        raise JobError(error.field.replace("data.train", "source", 1), error.problem, error.hint) from None
    ids = {"all": np.arange(len(rows)), "train": np.flatnonzero(~rows.is_val), "val": np.flatnonzero(rows.is_val)}[part]
    if not len(ids):
        raise JobError("part", f"{part} of the source holds no image", "part=all takes what there is")
    return rows, ids


def device_of(cluster: Cluster) -> str:
    """What a model computes on: cpu or cuda."""
    on_gpu = cluster.gpus_per_worker > 0 if cluster.max_workers else torch.cuda.is_available()
    return "cuda" if on_gpu else "cpu"


@dataclass(eq=False)
class Computing:
    """From stored pixels to logits or features in float32, on the device of the process that calls it.

    A GPU computes as it did when the run was evaluated: in bf16, unless the job says otherwise.
    """

    trained: Trained
    output: Output
    gpu: bool

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Pixels (N, *Frame.shape) to values (N, width)."""
        if not len(pixels):
            return np.zeros((0, self.trained.width(self.output)), dtype=np.float32)
        device = torch.device("cuda", 0) if self.gpu else torch.device("cpu")
        dtype = dtype_of(self.trained.spec.optim.precision, device)
        self.trained.to(device)
        computes: dict[Output, Callable[[Tensor], Tensor]] = {
            "logits": self.trained,
            "features": self.trained.embed,
            "both": self.trained.both,
            "located": self.trained.located,
        }
        compute = computes[self.output]
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
            values: NDArray[np.float32] = compute(to_device(as_tensor(pixels), device)).float().cpu().numpy()
        return values


@contextmanager
def answers(
    trained: Trained, output: Output, rows: Rows, ids: Ids, spec: Reading, verbose: bool = False
) -> Generator[Generator[Answered, None, None], None, None]:
    """What the model says of `ids`, in their order, a batch or a block at a time.

    Raises:
        JobError: the job's cluster does not answer.
    """
    computing = Computing(trained, output, device_of(spec.cluster) == "cuda")
    batch = max(1, spec.batch // trained.frame.num_tiles)
    if spec.cluster.max_workers == 0:
        with closing(_here(computing, rows, ids, batch)) as found:
            yield found
        return
    from raymix.on_ray.answers import answers_on_ray, ray_for_answers

    with (
        ray_for_answers(spec.cluster, verbose),
        closing(answers_on_ray(computing, rows, ids, trained.frame, batch, spec.cluster)) as found,
    ):
        yield found


def _here(computing: Computing, rows: Rows, ids: Ids, batch: int) -> Generator[Answered, None, None]:
    with closing(read_in_order(rows, ids, computing.trained.frame, batch)) as parts:
        for part in parts:
            yield Answered(part.ids, computing(part.pixels), part.skipped)
