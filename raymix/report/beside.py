"""What lies beside a report in its folder and belongs on its page: the job, what was foretold, sample images."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import yaml
from pydantic import Field, ValidationError

from raymix.jobfile import RESOLVED_FILE
from raymix.report.folder import write_text
from raymix.report.forecast import Costs
from raymix.spec import Section

if TYPE_CHECKING:
    import numpy as np

FORECAST_FILE = "forecast.json"
SAMPLES_FILE = "samples.json"

Kept = TypeVar("Kept", bound=Section)


class Sample(Section):
    """A row that was never trained on."""

    label: str
    predicted: str | None = Field(description="null: nothing was learnt with labels")
    pictures: dict[str, str] = Field(description="PNG, base64, by name: the image, then what the objective shows")


class Samples(Section):
    """A few rows, as the model saw them at the end of the run."""

    rows: tuple[Sample, ...]
    note: str = Field("", description="what a reader must know to judge the pictures")


class Foretold(Section):
    """What the run was expected to take, just before it was begun."""

    costs: Costs
    source: str = Field(description="what that was told from")


class Beside(NamedTuple):
    """All of it, as far as it is there."""

    job: str = ""  # YAML, with every default
    foretold: Foretold | None = None
    samples: Samples | None = None


def beside(folder: Path) -> Beside:
    """What is there; a file that is missing, or that another raymix wrote, is left out."""
    return Beside(
        _job(folder / RESOLVED_FILE),
        _section(folder / FORECAST_FILE, Foretold),
        _section(folder / SAMPLES_FILE, Samples),
    )


def write_samples(folder: Path, samples: Samples) -> None:
    """Keeps them for the page."""
    write_text(folder / SAMPLES_FILE, samples.model_dump_json())


def write_foretold(folder: Path, foretold: Foretold) -> None:
    """Keeps it; what was foretold when the run began stands."""
    if not (folder / FORECAST_FILE).exists():
        write_text(folder / FORECAST_FILE, foretold.model_dump_json(indent=1))


def png(pixels_HWC: np.ndarray) -> str:
    """uint8 (H, W, 3) or (H, W, 1) as a PNG, base64."""
    from PIL import Image

    flat = pixels_HWC[:, :, 0] if pixels_HWC.shape[2] == 1 else pixels_HWC
    file = io.BytesIO()
    Image.fromarray(flat).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def samples_of(
    labels: np.ndarray,
    predicted: np.ndarray | None,
    pictures: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    note: str,
) -> Samples:
    """Samples from what a worker handed over: classes by number, and pictures by name as uint8 (H, W, C)."""
    rows = (
        Sample(
            label=class_names[label],
            predicted=None if predicted is None else class_names[predicted[row]],
            pictures={name: png(of_rows[row]) for name, of_rows in pictures.items()},
        )
        for row, label in enumerate(labels)
    )
    return Samples(rows=tuple(rows), note=note)


def _job(file: Path) -> str:
    try:
        asked = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return yaml.safe_dump(asked, sort_keys=False, allow_unicode=True)


def _section(file: Path, kind: type[Kept]) -> Kept | None:
    try:
        return kind.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
