"""The command line: what it prints where, and the exit code of everything that can go wrong."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from raymix.__main__ import main
from raymix.signals import Interrupted
from raymix.spec import JobSpec
from tests.conftest import Done, Raymix

REPOSITORY = Path(__file__).resolve().parent.parent
DIGITS = str(REPOSITORY / "jobs" / "digits.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job file beside its finished run, made by the command itself; no test may change it."""
    folder = tmp_path_factory.mktemp("trained")
    job = {
        "name": "small",
        "storage": str(folder / "runs"),
        "data": {"train": {"format": "digits"}, "holdout": 0.25, "image_size": 8},
        "backbone": {"size": "nano", "patch": 2},
        "objective": {"type": "mae", "decoder_width": 32, "decoder_depth": 1},
        "schedule": {"ssl_epochs": 1, "sl_epochs": 1},
        "optim": {"batch": 96},
        "cluster": {"workers": 0},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(job))
    command = [sys.executable, "-m", "raymix", "run", str(folder / "small.yaml"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done", "nothing but JSON on standard output"
    return folder


# ---- help and usage ---------------------------------------------------------------------------------------------


def test_alone_it_shows_help(raymix: Raymix) -> None:
    done = raymix()
    assert done.code == 0
    for command in ("validate", "plan", "run", "pilot", "report", "runs", "schema", "bench"):
        assert f"│ {command} " in done.out
    assert done.out == raymix("--help").out


COMMANDS = ["validate", "plan", "run", "pilot", "report", "schema", "runs ls", "runs show", "runs best", "bench loop"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(raymix: Raymix, command: str) -> None:
    done = raymix(*command.split(), "--help")
    assert done.code == 0
    assert f"Usage: raymix {command}" in done.out
    assert f"Example:  raymix {command}" in done.out


@pytest.mark.parametrize("group", ["runs", "bench"])
def test_a_group_alone_shows_its_commands(raymix: Raymix, group: str) -> None:
    assert raymix(group).code == 0


def test_version(raymix: Raymix) -> None:
    from importlib.metadata import version

    assert raymix("--version") == Done(0, f"raymix {version('raymix')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["rum"], "error: raymix: No such command 'rum'. Did you mean 'run'?"),
        (["run"], "error: raymix run: Missing argument 'JOB' (see raymix run --help)"),
        (["run", DIGITS, "--sett", "x=1"], "error: raymix run: No such option"),
        (["plan", DIGITS, "--set"], "error: raymix: Option '--set' requires an argument (see raymix --help)"),
        (["bench", "loop", "--windows", "0"], "error: raymix bench loop: Invalid value for '--windows'"),
        (["runs", "lss"], "error: raymix runs: No such command 'lss'"),
    ],
)
def test_a_wrong_command_line_is_one_line(raymix: Raymix, arguments: list[str], line: str) -> None:
    done = raymix(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(line)
    assert done.err.count("\n") == 1


# ---- validate, plan, schema -------------------------------------------------------------------------------------


def test_validate_says_what_the_job_comes_to(raymix: Raymix) -> None:
    asked = ("schedule={ssl_epochs: 20, sl_epochs: 20, mix_ratio: 1}", "name=merged")
    done = raymix("validate", DIGITS, *(part for field in asked for part in ("--set", field)))
    line = "ok: merged, 253 steps (mix 253), 1213 training rows (1213 labelled) of 10 classes\n"
    assert done == Done(0, line, "")


def test_validate_reads_standard_input(raymix: Raymix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(Path(DIGITS).read_text()))
    assert raymix("validate", "-").out.startswith("ok: digits, ")


def test_plan_shows_the_phases(raymix: Raymix) -> None:
    done = raymix("plan", DIGITS)
    assert done.code == 0
    for kind in ("ssl", "mix", "sl"):
        assert f"\n{kind} " in done.out


def test_plan_json_is_the_plan(raymix: Raymix) -> None:
    plan = json.loads(raymix("plan", DIGITS, "--json", "--set", "seed=7").out)
    assert plan["spec"]["seed"] == 7
    assert [phase["kind"] for phase in plan["phases"]] == ["ssl", "mix", "sl"]
    assert plan["facts"]["num_train"] == 1213


def test_schema_is_json(raymix: Raymix) -> None:
    assert json.loads(raymix("schema").out) == JobSpec.model_json_schema()


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_validate_and_plan_answer_in_under_a_second(command: str) -> None:
    """Start of the interpreter included; in processor seconds, as the machine may be busy with other tests."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    subprocess.run([sys.executable, "-m", "raymix", command, DIGITS], check=True, capture_output=True)
    assert spent() - before < 1


# ---- wrong jobs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["validate", "plan", "run", "pilot"])
def test_a_wrong_job_is_one_line_and_starts_nothing(raymix: Raymix, command: str, tmp_path: Path) -> None:
    done = raymix(command, DIGITS, "--set", "optim.bacth=64", "--set", f"storage={tmp_path / 'runs'}")
    assert done == Done(2, "", "error: optim.bacth: unknown key (did you mean optim.batch?)\n")
    assert not list(tmp_path.iterdir())


def test_what_only_the_data_tells(raymix: Raymix, tmp_path: Path, image_tree: Callable[..., Path]) -> None:
    def line(path: Path, *overrides: str) -> str:
        sets = [f"data.train={{format: image_folder, path: {path}}}", f"storage={tmp_path / 'runs'}", *overrides]
        done = raymix("run", DIGITS, *(word for override in sets for word in ("--set", override)))
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert not (tmp_path / "runs").exists()
        return done.err

    tree = image_tree(tmp_path / "images", classes=2, per_class=30, size=8)
    (tmp_path / "empty").mkdir()
    one = image_tree(tmp_path / "one", classes=1, per_class=4, size=8)
    assert line(tmp_path / "imags").startswith(f"error: data.train.path: no such folder: {tmp_path / 'imags'}")
    assert line(tmp_path / "empty").startswith("error: data.train.path: ")
    assert line(one).startswith("error: data.train: ")
    assert line(tree, "optim.batch=960").startswith("error: optim.batch: 960 is larger than the ")
    assert line(tree, "optim.batch=8", "data.label_fraction=0.01").startswith("error: data.label_fraction: 0.01 leaves")
    assert line(tree, "optim.batch=8", "data.label_fraction=0").startswith(
        "error: data.label_fraction: no labelled rows"
    )
    wanted = "cluster={workers: 1, gpus_per_worker: 64}"
    assert line(tree, "optim.batch=8", wanted).startswith("error: cluster.gpus_per_worker: 64 GPU(s) asked for in all")


def test_missing_job_file_names_a_near_one(raymix: Raymix) -> None:
    done = raymix("run", DIGITS.replace("digits.yaml", "digit.yaml"))
    assert done.code == 2
    assert done.err.endswith(f"no such job file (did you mean {DIGITS}?)\n")


# ---- runs -------------------------------------------------------------------------------------------------------


def test_a_used_run_folder_is_refused(raymix: Raymix, trained: Path) -> None:
    done = raymix("run", trained / "small.yaml")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: name: {trained / 'runs' / 'small'} is already used (add --resume to go on")


def test_resuming_a_finished_run_shows_it_again(raymix: Raymix, trained: Path) -> None:
    done = raymix("run", trained / "small.yaml", "--resume")
    assert done.code == 0
    assert "top-1" in done.out
    assert done.out.endswith(f"report: {trained / 'runs' / 'small' / 'report.html'}\n")


def test_report_prints_the_table_and_writes_the_page_anew(raymix: Raymix, trained: Path) -> None:
    folder = trained / "runs" / "small"
    (folder / "report.html").unlink()
    done = raymix("report", folder)
    assert done.code == 0
    assert "top-1" in done.out
    assert done.out.endswith(f"report: {folder / 'report.html'}\n")
    assert "<html" in (folder / "report.html").read_text()
    assert raymix("report", folder / "report.json") == done, "the file may be named, too"


def test_runs_ls_show_best(raymix: Raymix, trained: Path) -> None:
    storage = ["--storage", trained / "runs"]
    listed = json.loads(raymix("runs", "ls", *storage, "--json").out)
    assert [(run["name"], run["status"]) for run in listed] == [("small", "done")]
    assert json.loads(raymix("runs", "best", *storage, "--json").out) == listed[0]
    whole = json.loads(raymix("runs", "show", "small", *storage, "--json").out)
    assert whole["final"]["top1"] == listed[0]["top1"]
    for command in (["ls"], ["best"], ["show", "small"]):
        done = raymix("runs", *command, *storage)
        assert done.code == 0
        assert "small" in done.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["report", "{}/smal"], "error: {}/smal: no such run folder (did you mean {}/small?)"),
        (["report", "{}"], "error: {}: no report.json ("),
        (["runs", "show", "smal", "--storage", "{}"], "error: {}/smal: no such run folder (did you mean {}/small?)"),
        (["runs", "ls", "--storage", "{}/none"], "error: {}/none: no such folder"),
        (["runs", "best", "--storage", "{}/small/checkpoints"], "error: {}/small/checkpoints: no finished run"),
    ],
)
def test_runs_that_are_not_there(raymix: Raymix, trained: Path, arguments: list[str], line: str) -> None:
    storage = str(trained / "runs")
    done = raymix(*(argument.replace("{}", storage) for argument in arguments))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(line.replace("{}", storage))


# ---- exit codes -------------------------------------------------------------------------------------------------


@pytest.fixture
def ends_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes every run end with an exception."""

    def install(error: BaseException) -> None:
        def run(spec: JobSpec, **options: Any) -> None:
            raise error

        monkeypatch.setattr("raymix.runner.run", run)

    return install


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run(raymix: Raymix, ends_with: Callable[[BaseException], None], signum: int, code: int) -> None:
    ends_with(Interrupted(signum, "checkpoint saved; --resume goes on"))
    assert raymix("run", DIGITS) == Done(code, "", "interrupted: checkpoint saved; --resume goes on\n")


def test_an_interrupted_run_shows_what_was_done(
    raymix: Raymix, ends_with: Callable[[BaseException], None], trained: Path
) -> None:
    from raymix.report.folder import read_run

    report = read_run(trained / "runs" / "small").model_copy(update={"status": "interrupted", "final": None})
    ends_with(Interrupted(signal.SIGTERM, "checkpoint saved", report))
    done = raymix("run", DIGITS)
    assert done.code == 143
    assert "interrupted" in done.out
    assert json.loads(raymix("run", DIGITS, "--json").out)["status"] == "interrupted"


def test_control_c_outside_a_run(raymix: Raymix, ends_with: Callable[[BaseException], None]) -> None:
    ends_with(KeyboardInterrupt())
    assert raymix("run", DIGITS).code == 130


def test_a_failed_run(raymix: Raymix, ends_with: Callable[[BaseException], None]) -> None:
    from raymix.runner import RunFailed

    ends_with(RunFailed("worker 1 died three times"))
    assert raymix("run", DIGITS) == Done(3, "", "error: worker 1 died three times\n")


def test_our_own_mistakes_keep_their_traceback(ends_with: Callable[[BaseException], None]) -> None:
    ends_with(ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        main(["run", DIGITS])


def test_a_reader_that_leaves_early_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "raymix", "schema"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert "Traceback" not in done.stderr
