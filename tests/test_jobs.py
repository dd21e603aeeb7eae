"""Every file that ships in jobs/ is a job that a dataset of a plausible size can carry."""

from __future__ import annotations

from pathlib import Path

import pytest

from raymix.jobfile import load_spec
from raymix.plan import Facts, resolve

JOBS = sorted((Path(__file__).parent.parent / "jobs").glob("*.y*ml"))
FACTS = {
    "digits": Facts(num_train=1213, num_labelled=1213, num_select=135, num_val=449, class_names=tuple("0123456789")),
    "tiny_imagenet": Facts(
        num_train=9000,
        num_labelled=9000,
        num_select=1000,
        num_val=5000,
        class_names=tuple(f"n{i:08d}" for i in range(200)),
    ),
}


def test_there_are_jobs() -> None:
    assert {"digits.yaml", "tiny-imagenet-10pct.yaml"} <= {path.name for path in JOBS}


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_job_loads_and_resolves(path: Path) -> None:
    spec = load_spec(path)
    plan = resolve(spec, FACTS[spec.data.train.format])
    assert plan.num_steps > 0
    assert spec.name == path.stem


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_job_says_its_command_first(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# raymix ")
    assert f"jobs/{path.name}" in first


def test_the_digits_job_splits_over_one_to_four_workers() -> None:
    path = next(path for path in JOBS if path.name == "digits.yaml")
    for workers in range(5):
        assert load_spec(path, [f"cluster.workers={workers}"]).cluster.workers == workers
