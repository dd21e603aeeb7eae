"""One Ray for all tests of this folder, to which raymix attaches; each worker group costs many seconds."""

from __future__ import annotations

import copy
import logging
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import JOB

needs_plain_python = pytest.mark.skipif(
    shlex.quote(sys.executable) != sys.executable, reason="Ray does not start in a folder with a space in its name"
)
NUM_CPUS = 6  # logical ones: a group of three, one of two and a reader, side by side


@contextmanager
def ray_of(num_cpus: int, store: int) -> Iterator[None]:
    """A Ray that is there before raymix is called, as in a notebook that has used Ray already."""
    import ray

    from raymix.on_ray.cluster import ENVIRONMENT
    from raymix.on_ray.shell import quoted_python

    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("RAY_metrics_report_interval_ms", "500")  # 10 s otherwise
        ray.init(
            address="local",
            num_cpus=num_cpus,
            object_store_memory=store,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env=quoted_python() or None,
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="package")
def attached() -> Iterator[None]:
    """A Ray of NUM_CPUS for raymix to attach to."""
    with ray_of(NUM_CPUS, 200 * 2**20):
        yield


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`unbroken(schedule={...}, ...)`: the folder of that run when nothing happens to it; trained once a session."""
    import json

    import raymix
    from tests.on_ray.killing import killed_job

    done: dict[str, Path] = {}

    def of(**sections: Any) -> Path:
        key = json.dumps(sections, sort_keys=True)
        if key not in done:
            storage = tmp_path_factory.mktemp("unbroken")
            assert raymix.run(killed_job(storage, **sections), quiet=True).status == "done"
            done[key] = storage / "digits"
        return done[key]

    return of


@pytest.fixture
def damaged(image_tree: Callable[..., Path], tmp_path: Path) -> Path:
    """Three classes of 40 images; one is empty, one cut short, one no image."""
    return damage(image_tree(tmp_path / "tree", per_class=40))


def damage(root: Path) -> Path:
    """Spoils three images of a tree."""
    (root / "class0" / "003.jpg").write_bytes(b"")
    whole = (root / "class1" / "005.jpg").read_bytes()
    (root / "class1" / "005.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "class2" / "007.jpg").write_text("not an image\n")
    return root


def short_job(storage: Path) -> dict[str, Any]:
    """Two workers, one epoch."""
    return {
        **copy.deepcopy(JOB),
        "storage": str(storage / "runs"),
        "schedule": {"ssl_epochs": 0, "sl_epochs": 1, "mix_ratio": 0},
        "cluster": {"workers": 2},
    }


def tree_job(root: Path, workers: int, **data: Any) -> dict[str, Any]:
    return {
        **copy.deepcopy(JOB),
        "name": "tree",
        "storage": str(root.parent / "runs"),
        "data": {"train": {"format": "image_folder", "path": str(root)}, "image_size": 16, "holdout": 0.2, **data},
        "backbone": {"size": "nano", "patch": 4},
        "optim": {"batch": 24},
        "cluster": {"workers": workers},
    }
