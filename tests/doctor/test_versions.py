from collections.abc import Callable
from pathlib import Path

import pytest

from raymix.doctor import versions
from raymix.doctor.patient import Patient


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`installed("ray", "2.55.1")`: the metadata of that version, found before what is installed."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name: str, version: str, *requires: str) -> None:
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        lines = [f"Requires-Dist: {line}" for line in requires]
        (folder / "METADATA").write_text(
            "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines])
        )

    return install


def test_what_is_installed_here_is_in_range(patient: Callable[..., Patient]) -> None:
    told = versions.look(patient())
    assert told.status == "ok"
    assert all(f"{name} " in told.found for name in versions.SHOWN)


@pytest.mark.parametrize(
    ("package", "version", "found"),
    [
        ("ray", "2.55.1", "CVE-2026-41486"),
        ("pyarrow", "14.0.0", "CVE-2023-47248"),
        ("ray", "2.56.0", ">=2.58 as raymix needs"),
        ("torch", "2.10.0", "torch 2.10.0 is not >=2.11"),
    ],
)
def test_an_old_version_is_refused_with_what_to_install(
    package: str, version: str, found: str, patient: Callable[..., Patient], installed: Callable[..., None]
) -> None:
    installed(package, version)
    told = versions.look(patient())
    assert told.status == "problem"
    assert found in told.found
    assert "pip install" in told.todo


def test_a_torchvision_of_another_torch_is_told(
    patient: Callable[..., Patient], installed: Callable[..., None]
) -> None:
    installed("torchvision", "0.99.0", "torch==9.9.9")
    told = versions.look(patient())
    assert told.status == "problem"
    assert told.found.endswith("is not ==9.9.9 as torchvision needs")
