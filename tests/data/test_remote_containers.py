"""Parquet and tar shards on S3 and on a web server: the same rows as on a disk, few requests, errors in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from containers import error_of, hf_parquet, tar
from pictures import data
from test_remote import BUCKET, moto, s3, same_rows, web  # noqa: F401

from raymix.data.formats import fetch, index_data
from raymix.data.rows import Rows

Put = Callable[[Path, str], None]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Parquet files and tar shards, two for training and one for validation of each."""
    for i, name in enumerate(("train-000", "train-001", "val-000")):
        hf_parquet(tmp_path / "shards" / "parquet" / f"{name}.parquet")
        tar(tmp_path / "shards" / "webdataset" / f"{name}.tar", 10 * i)
    return tmp_path / "shards"


def index(form: str, path: str) -> Rows:
    return index_data(data({"format": form, "path": path}))


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_on_s3(form: str, shards: Path, s3: Put) -> None:  # noqa: F811
    s3(shards, "shards")
    local, prefix = index(form, str(shards / form)), f"{BUCKET}/shards"
    assert (len(local), local.is_val.sum()) == (18, 6)
    same_rows(local, index(form, f"{prefix}/{form}"), shards, prefix)
    same_rows(index(form, str(shards / form / "train-*")), index(form, f"{prefix}/{form}/train-*"), shards, prefix)


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_on_the_web(form: str, shards: Path, web: str) -> None:  # noqa: F811
    pattern = f"{form}/train-{{000..001}}.{'tar' if form == 'webdataset' else form}"
    same_rows(index(form, str(shards / pattern)), index(form, f"{web}/shards/{pattern}"), shards, f"{web}/shards")


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_what_is_gone_or_cut_off(form: str, shards: Path, s3: Put) -> None:  # noqa: F811
    s3(shards / form, form)
    rows = index(form, f"{BUCKET}/{form}")
    name = sorted(path.name for path in (shards / form).iterdir())[1]
    (shards / form / name).write_bytes((shards / form / name).read_bytes()[:700])
    s3(shards / form, form)
    raws = fetch(rows, np.arange(18))
    assert all(isinstance(raw, bytes) for raw in [*raws[:6], *raws[12:]])
    assert all(isinstance(raw, OSError) for raw in raws[6:12]) or form == "parquet"  # whose file may still be open
    assert f"{BUCKET}/{form}/{name} " in error_of({"format": form, "path": f"{BUCKET}/{form}"})
    assert "no such file or folder: s3://pictures/none" in error_of({"format": form, "path": f"{BUCKET}/none"})
