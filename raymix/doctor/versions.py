"""Whether what is installed is what raymix was made for, and has no hole that is known."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from raymix.doctor.patient import Patient
from raymix.report.finding import Told, worst

SHOWN = ("torch", "torchvision", "ray", "pyarrow", "pydantic")


class Bad(NamedTuple):
    """Versions that must not be used, and why."""

    package: str
    versions: SpecifierSet
    why: str


KNOWN_BAD = (
    Bad(
        "ray",
        SpecifierSet("<2.56"),
        "runs code hidden in Parquet and WebDataset files (CVE-2026-41486, CVE-2026-57516)",
    ),
    Bad("pyarrow", SpecifierSet(">=0.14,<14.0.1"), "runs code hidden in Parquet files (CVE-2023-47248)"),
)


def look(patient: Patient) -> Told:
    """Every package that raymix requires, by what is installed."""
    bad = {one.package: known for one in KNOWN_BAD if (known := _bad(one))}
    try:
        wanted = [Requirement(line) for line in requires("raymix") or ()]
        python = metadata("raymix")["Requires-Python"] or ""
    except PackageNotFoundError:
        found = "raymix runs from a folder and is not installed: the versions it needs are not known"
        return worst(*bad.values(), Told("note", found, "pip install -e ."))
    told = list(bad.values())
    if not SpecifierSet(python).contains(platform.python_version(), prereleases=True):
        found = f"Python {platform.python_version()} is not {python}"
        told.append(Told("problem", found, f"make an environment with Python {python}, and install raymix there"))
    needed = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    told += [wrong for one in needed if one.name not in bad and (wrong := _required(one, "raymix"))]
    told += _pair()
    if told:
        return worst(*told)
    shown = ", ".join(f"{name} {version(name)}" for name in SHOWN)
    return Told("ok", f"raymix {version('raymix')}, Python {platform.python_version()}, {shown}")


def _bad(bad: Bad) -> Told | None:
    there = _installed(bad.package)
    if there is None or not bad.versions.contains(there, prereleases=True):
        return None
    return Told(
        "problem",
        f"{bad.package} {there} {bad.why}",
        f"do not read data with it: pip install -U {bad.package}, to a version that is not {bad.versions}",
    )


def _required(wanted: Requirement, by: str) -> Told | None:
    """What is wrong with a package that another one requires; None: nothing."""
    there, range_ = _installed(wanted.name), f"{wanted.name}{wanted.specifier}"
    if there is None:
        return Told("problem", f"{wanted.name} is not installed", f"pip install '{range_}'")
    if wanted.specifier.contains(there, prereleases=True):
        return None
    return Told("problem", f"{wanted.name} {there} is not {wanted.specifier} as {by} needs", f"pip install '{range_}'")


def _pair() -> list[Told]:
    """torchvision is built for one version of torch; with another it fails when it is first used."""
    try:
        wanted = [Requirement(line) for line in requires("torchvision") or ()]
    except PackageNotFoundError:
        return []
    return [found for one in wanted if one.name == "torch" and (found := _required(one, "torchvision"))]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
