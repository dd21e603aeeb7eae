"""Finding and reading run folders: a run is a folder that holds `report.json`, a pilot one that holds `pilot.json`."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from raymix.report.intervals import at_length
from raymix.report.pilot import PilotReport
from raymix.report.run import RunReport
from raymix.report.search import SearchReport
from raymix.report.sweep import SweepReport
from raymix.spec import JobError

RUN_FILE = "report.json"
PILOT_FILE = "pilot.json"
SEARCH_FILE = "search.json"
SWEEP_FILE = "sweep.json"
LEDGER_FILE = "ledger.csv"
JOB_FILE = "job.yaml"  # marks a run folder: what else belongs to it is written before
CHECKPOINTS = "checkpoints"  # a folder

Report = TypeVar("Report", bound=BaseModel)


def write_text(path: str | Path, text: str) -> None:
    """Write a file whole or not at all: under a temporary name beside it, to the disk, then renamed.

    Raises:
        OSError: the folder is missing, read-only or full, and it names the file; what stood there before is untouched.
    """
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, raw: bytes) -> None:
    """The same of bytes.

    Raises:
        OSError: as `write_text`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def read_run(path: str | Path) -> RunReport:
    """The report in a run folder, or in the `report.json` named.

    Raises:
        JobError: there is none, or it cannot be read; one line that says what to do.
    """
    return _read(Path(path), RUN_FILE, PILOT_FILE, RunReport)


def read_pilot(path: str | Path) -> PilotReport:
    """The report in a pilot's folder, or in the `pilot.json` named.

    Raises:
        JobError: there is none, or it cannot be read; one line that says what to do.
    """
    return _read(Path(path), PILOT_FILE, RUN_FILE, PilotReport)


def read_search(path: str | Path) -> SearchReport:
    """The report in a search's folder, or in the `search.json` named.

    Raises:
        JobError: there is none, or it cannot be read; one line that says what to do.
    """
    return _read(Path(path), SEARCH_FILE, RUN_FILE, SearchReport)


def read_sweep(path: str | Path) -> SweepReport:
    """The report in a sweep's folder, or in the `sweep.json` named.

    Raises:
        JobError: there is none, or it cannot be read; one line that says what to do.
    """
    return _read(Path(path), SWEEP_FILE, PILOT_FILE, SweepReport)


def pilot_runs(path: str | Path, report: PilotReport) -> dict[str, tuple[RunReport, ...]]:
    """For each arm the reports of its runs at length 1, as `pilot_html` draws them; runs that are gone are left out.

    Args:
        path: The pilot's folder or its `pilot.json`.
        report: What it holds.

    Raises:
        JobError: a run's report cannot be read.
    """
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    return {
        name: tuple(read_run(folder / run.report) for run in at_length(runs, 1.0) if (folder / run.report).is_file())
        for name, runs in report.arms.items()
    }


def find_runs(storage: str | Path, tell: Callable[[str], None] | None = None) -> list[tuple[Path, RunReport]]:
    """Every run below a folder, a pilot's runs included, in order of path.

    Args:
        storage: The folder; itself a run folder, it is the one run.
        tell: Hears a line about each report that cannot be read, which is left out; None: standard error.

    Raises:
        JobError: there is no such folder.
    """
    root = Path(storage)
    if not root.is_dir():
        raise JobError(str(storage), "no such folder", "name the job's storage, or pass --storage")
    found: list[tuple[Path, RunReport]] = []
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if name != CHECKPOINTS)
        if RUN_FILE not in files:
            continue
        try:
            found.append((Path(folder), read_run(folder)))
        except JobError as error:
            (tell or _to_stderr)(f"left out: {error}")
    return sorted(found, key=lambda item: item[0])


def best_run(storage: str | Path, tell: Callable[[str], None] | None = None) -> tuple[Path, RunReport]:
    """The finished run with the highest top-1 on val; of equals, the one that cost fewer worker-seconds.

    Raises:
        JobError: there is no such folder, or no finished run in it.
    """
    finished = [(path, report) for path, report in find_runs(storage, tell) if report.status == "done" and report.final]
    if not finished:
        raise JobError(str(storage), "no finished run with a top-1", "see raymix runs ls")
    return max(
        finished, key=lambda item: (item[1].final.top1 if item[1].final else 0.0, -item[1].totals.worker_seconds)
    )


def _read(path: Path, name: str, other: str, kind: type[Report]) -> Report:
    file = path / name if path.is_dir() else path
    if not file.is_file():
        if not path.exists():
            raise JobError(str(path), "no such folder", "see raymix runs ls")
        hint = f"it holds {other}" if (path / other).is_file() else "name a folder that raymix made; see raymix runs ls"
        raise JobError(str(path), f"no {name}", hint)
    try:
        return kind.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        problem = f"{field}: {first['msg']}" if field else first["msg"]
        raise JobError(str(file), f"not a report of this raymix: {problem}") from None
    except OSError as error:
        raise JobError(str(file), error.strerror or str(error)) from None


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)
