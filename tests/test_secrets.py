"""Planted secrets are found nowhere: not in a run's folder, not on the console, not in a report or a refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from raymix.jobfile import load_spec
from raymix.spec import JobError

PLANTED = {
    "AWS_SECRET_ACCESS_KEY": "planted/aws+secret",
    "AWS_SESSION_TOKEN": "planted.aws.session",
    "WANDB_API_KEY": "planted-wandb-4711",
    "HF_TOKEN": "hf_planted00112233",
    "RAY_AUTH_TOKEN": "planted-ray-token-1",
    "RAY_REDIS_PASSWORD": "planted-redis-pass",
    "RAY_JOB_CONFIG_NOTE": "planted-in-job-config-1",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-pw1",
    "DATABASE_URL": "postgres://u:planted-db-pass@h/d",
}
URLS = [
    "s3://AKIAKEY:planted-url-secret@bucket/images",
    "https://user:planted-url-secret@host/a.parquet",
    "https://host/a.parquet?X-Amz-Signature=planted-url-secret&x=1",
    "https://host/a.parquet?se=2026&sig=planted-url-secret",
    "gs://planted-url-secret@bucket/x",
]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    return PLANTED


def test_a_run_leaves_none(digits_job: dict[str, Any], tmp_path: Path, planted: dict[str, str]) -> None:
    small = {"schedule": {"ssl_epochs": 1, "sl_epochs": 1}, "optim": {"batch": 24}}
    if find_spec("wandb") is not None:  # it has a key in its environment, and writes into the folder
        small["watch"] = {"wandb": {}}
    digits_job["data"]["fraction"] = 0.15
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**digits_job, **small}))
    command = [sys.executable, "-m", "raymix", "run", "job.yaml", "--verbose"]
    environment = {**os.environ, "RAYMIX_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"environment.json", "report.html", "metrics.jsonl", "state.json"} <= {path.name for path in files}
    written = done.stdout + done.stderr + b"".join(path.read_bytes() for path in files)
    assert b"OMP_NUM_THREADS" in written, "settings are kept"
    assert [name for name, value in planted.items() if value.encode() in written] == []
    assert b"planted" not in written


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("field", ["data.train.path", "data.val.path", "storage"])
def test_a_url_with_a_secret_is_refused_without_saying_it(digits_job: dict[str, Any], url: str, field: str) -> None:
    source = "{format: parquet, path: X}"
    digits_job["data"]["train"] = {"format": "parquet", "path": "x"}
    settings = [f"data.val={source}", f"{field}={url}"] if "val" in field else [f"{field}={url}"]
    with pytest.raises(JobError, match=rf"^{field}: holds a secret, and a job is kept and shown") as refused:
        load_spec(digits_job, settings)
    assert "planted" not in str(refused.value)


def test_one_in_a_list_of_paths_and_in_wrong_places(digits_job: dict[str, Any]) -> None:
    def line(*settings: str) -> str:
        with pytest.raises(JobError) as refused:
            load_spec({**digits_job, "data": {"train": {"format": "parquet", "path": "x"}}}, settings)
        return str(refused.value)

    assert line(f"data.train.path=[a, '{URLS[0]}']").startswith("data.train.path: holds a secret")
    for settings in ([f"optim.lr={URLS[0]}"], [URLS[0]], [f"{URLS[0]}=1"], [f"name={URLS[0]}"], [f"x={{{URLS[0]}"]):
        assert "planted" not in line(*settings)
    assert load_spec(digits_job, ["data.train={format: parquet, path: 'https://h/a.parquet?version=3'}"])


@pytest.mark.parametrize("field", ["name", "data.train.path", "backbone.args.x", "what", "storage"])
@pytest.mark.parametrize("variable", ["WANDB_API_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD"])
def test_a_secret_of_the_environment_is_refused_in_any_field(
    digits_job: dict[str, Any], planted: dict[str, str], field: str, variable: str
) -> None:
    with pytest.raises(
        JobError, match=rf"^{field}: holds the value of the environment variable {variable}, "
    ) as refused:
        load_spec(digits_job, [f"{field}=a-{planted[variable]}-b"])
    assert planted[variable] not in str(refused.value)
    with pytest.raises(JobError) as refused:
        load_spec({**digits_job, planted[variable]: 1})
    assert planted[variable] not in str(refused.value)


def test_words_and_names_of_files_are_none(digits_job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_BACKEND", "kubernetesxy")
    monkeypatch.setenv("GITHUB_TOKEN_PATH", "some-folder-0815")
    assert load_spec(digits_job, ["storage=some-folder-0815/kubernetesxy"])


def test_an_argument_that_is_one_by_its_name(digits_job: dict[str, Any]) -> None:
    backbone = {"type": "import", "factory": "a:b", "args": {"api_key": "12345"}}
    with pytest.raises(
        JobError, match=r"^backbone\.args\.api_key: is a secret, .*\(let the factory read it from"
    ) as told:
        load_spec({**digits_job, "backbone": backbone})
    assert "12345" not in str(told.value)
