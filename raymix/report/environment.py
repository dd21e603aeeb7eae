"""`environment.json`: on what a run was trained, so that it can be repeated and a difference be named. No secrets."""

from __future__ import annotations

from pydantic import Field

from raymix.spec import Section

ENVIRONMENT_FILE = "environment.json"


class DataPrint(Section):
    """A fingerprint of the rows of a run. `rows.npy` beside it has a mark for each, to find the first that changed.

    Noticed are another order, name, label, part or file size of a row, and other bytes of the sampled images; bytes
    that change elsewhere while the size of their file stays are not.
    """

    rows: int
    index: str = Field(description="blake2b of all marks and class names")
    sized: int = Field(description="the sizes of one local file in so many are in the marks; 0: of none")
    sample: dict[int, str] = Field(description="blake2b of an image as it is stored, by row")


class GitState(Section):
    """Of a working tree."""

    commit: str
    dirty: bool = Field(description="tracked files differ from it")


class Environment(Section):
    """Versions, machine and settings of the process that drives the run."""

    data: DataPrint
    versions: dict[str, str] = Field(description="of Python and of packages that figures may depend on")
    platform: str
    cpu: str
    device: str = Field(description="cpu or cuda")
    device_name: str
    workers: int
    git: GitState | None = Field(None, description="of the working directory; null: it is in no repository, or no git")
    code: GitState | None = Field(None, description="of raymix itself, where it runs from a clone")
    variables: dict[str, str] = Field({}, description="settings of threads, CUDA, NCCL and Ray; nothing else is kept")
