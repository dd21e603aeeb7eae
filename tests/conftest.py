"""Fixtures that many tests share: a small job, plans from bare numbers, a tree of drawn images."""

from __future__ import annotations

import copy
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw

from raymix.jobfile import load_spec
from raymix.plan import Facts, Plan, resolve
from raymix.report.history import SegmentReport
from raymix.spec import JobSpec
from raymix.watch.jsonl import JsonlSink

# small models are quickest on one thread, in the commands that tests start too; torch looks here when it is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent
JOB: dict[str, Any] = {
    "name": "digits",
    "data": {
        "train": {"format": "digits"},
        "holdout": 0.25,
        "image_size": 8,
        "augment": {"crop": [0.6, 1.0], "flip": False},
    },
    "backbone": {"size": "nano", "patch": 2},
    "objective": {"type": "mae", "decoder_width": 32, "decoder_depth": 1},
    "schedule": {"ssl_epochs": 2, "sl_epochs": 2, "mix_ratio": 0.5},
    "optim": {"batch": 96, "lr": 2e-3},
    "cluster": {"workers": 0},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--few", action="store_true", help="the chaos belt with few rounds of each kind, as CI runs it")


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`rounds(100, 5)`: how often something is done to a run: 100 times, or 5 under --few."""

    def choose(all_of_them: int, few: int) -> int:
        return few if request.config.getoption("--few") else all_of_them

    return choose


@pytest.fixture(scope="session", autouse=True)
def _no_users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that several tests share are made before `own_cache`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMIX_CACHE", str(tmp_path_factory.mktemp("shared-cache")))
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What runs measured is remembered here, and not where the user's runs are remembered; empty in every test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RAYMIX_CACHE", str(folder))
    return folder


@pytest.fixture
def digits_job() -> dict[str, Any]:
    """A job on scikit-learn's digits that trains in seconds without Ray; a fresh copy, to be changed at will."""
    return copy.deepcopy(JOB)


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """`plan_of(num_train=1000, num_labelled=..., schedule={...})`: the plan of the digits job with other sections."""

    def make(
        num_train: int = 1000, num_labelled: int | None = None, num_select: int = 50, run: int = 0, **sections: Any
    ) -> Plan:
        facts = Facts(
            num_train=num_train,
            num_labelled=num_train if num_labelled is None else num_labelled,
            num_select=num_select,
            num_val=100,
            class_names=("a", "b", "c"),
            run=run,
        )
        return resolve(load_spec({**JOB, **sections}), facts)

    return make


@pytest.fixture
def image_tree() -> Callable[..., Path]:
    """`image_tree(folder, classes=3, per_class=20, size=16)`: see `image_tree_of`."""
    return image_tree_of


def image_tree_of(root: Path, classes: int = 3, per_class: int = 20, size: int = 16, seed: int = 0) -> Path:
    """A class-per-folder tree of JPEGs that can be learnt.

    Each class is one shape, at a random place in a random colour; every seventh image is grey, as in TinyImageNet.
    """
    random = np.random.default_rng(seed)
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(per_class):
            image = _drawn(random, label, size)
            (image.convert("L") if number % 7 == 0 else image).save(folder / f"{number:03d}.jpg", quality=95)
    return root


def _drawn(random: np.random.Generator, label: int, size: int) -> Image.Image:
    """One shape of `label % 4` (disc, bar, square, cross), larger by class, on a noisy dark ground."""
    image = Image.fromarray(random.integers(0, 60, (size, size, 3), dtype=np.uint8))
    draw, color = ImageDraw.Draw(image), tuple(int(c) for c in random.integers(120, 256, 3))
    reach = size // 4 + size * (label // 4) // 16
    x, y = (int(v) for v in random.integers(reach, max(size - reach, reach + 1), 2))
    thin = max(1, reach // 3)
    if label % 4 == 0:
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color)
    elif label % 4 == 2:
        draw.rectangle((x - reach, y - reach, x + reach, y + reach), fill=color)
    else:
        draw.rectangle((x - reach, y - thin, x + reach, y + thin), fill=color)
        if label % 4 == 3:
            draw.rectangle((x - thin, y - reach, x + thin, y + reach), fill=color)
    return image


def spec_in(folder: Path, data: dict[str, Any] | None = None, **sections: Any) -> JobSpec:
    """A job of a second on 240 digits, stored in a folder."""
    small = {
        "storage": str(folder / "runs"),
        "schedule": {"ssl_epochs": 1, "sl_epochs": 1},
        "optim": {"batch": 24},
        "evaluate": {"every": 0.2, "max_share": 1},
        "checkpoint": {"every": 0},
    }
    few = {**JOB["data"], "fraction": 0.15, **(data or {})}
    return load_spec({**JOB, **small, "data": few, **sections})


@pytest.fixture
def spec_of(tmp_path: Path) -> Callable[..., JobSpec]:
    """`spec_of(name="...", optim={...})`: `spec_in` the test's own folder."""
    return partial(spec_in, tmp_path)


@contextmanager
def no_larger_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: what a full disk does, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """`interrupt(after, signum)`: the process gets a signal after that many segments of the next run."""

    from raymix import conduct

    def arm(after: int, signum: int = signal.SIGINT) -> None:
        class Signalling(JsonlSink):
            heard = 0

            def segment(self, run: str, report: SegmentReport) -> None:
                super().segment(run, report)
                self.heard += 1
                if self.heard == after:
                    signal.raise_signal(signum)

        monkeypatch.setattr(conduct, "JsonlSink", Signalling)

    return arm


class Done(NamedTuple):
    code: int
    out: str
    err: str


Raymix = Callable[..., Done]


@pytest.fixture
def raymix(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Raymix:
    """`raymix("run", job)` in this process, on a terminal of 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")

    from raymix.__main__ import main

    def call(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return Done(end.value.code, *capsys.readouterr())  # type: ignore[arg-type]

    return call
