"""The command line: what it prints where, and the exit code of everything that can go wrong."""

from __future__ import annotations

import io
import json
import os
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
        "data": {"train": {"format": "digits"}, "holdout": 0.25, "fraction": 0.2, "image_size": 8},
        "backbone": {"size": "nano", "patch": 2},
        "objective": {"type": "mae", "decoder_width": 32, "decoder_depth": 1},
        "schedule": {"ssl_epochs": 1, "sl_epochs": 1},
        "optim": {"batch": 48},
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
        (["run"], "error: JOB: missing (name a job's YAML file, or a run to repeat: --replay RUN)"),
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


def test_plan_says_what_it_costs_and_that_this_is_an_estimate(raymix: Raymix) -> None:
    done = raymix("plan", DIGITS, "--set", "cluster.device_flops=1e9")
    assert "seconds estimated from GFLOP a step (ssl" in done.out
    assert "1e+09 FLOP/s a worker (cluster.device_flops)" in " ".join(done.out.split())
    assert "price not set" in done.out


def test_plan_goes_by_what_a_like_run_measured(raymix: Raymix, tmp_path: Path) -> None:
    epochs = "schedule={ssl_epochs: 1, sl_epochs: 1}"
    fields = ("cluster.workers=0", f"storage={tmp_path}", epochs, "data.fraction=0.2")
    asked = [part for field in fields for part in ("--set", field)]
    run = json.loads(raymix("run", DIGITS, *asked, "--json").out)
    made = json.loads(raymix("plan", DIGITS, *asked, "--set", "schedule.ssl_epochs=2", "--json").out)["forecast"]
    assert made["measured"]
    assert made["source"].startswith("measured on CPU by 1 run, the last moments ago")
    trained = run["totals"]["step_seconds"] + run["totals"]["data_seconds"]
    ratio = trained / sum(phase["predicted_seconds"] for phase in run["phases"])
    assert made["rates"]["step_seconds"] == pytest.approx({k: v * ratio for k, v in run["step_seconds"].items()})
    other = json.loads(raymix("plan", DIGITS, *asked, "--set", "optim.batch=64", "--json").out)["forecast"]
    assert not other["measured"], "another batch is another step"


def test_plan_answers_what_if(raymix: Raymix) -> None:
    done = raymix("plan", DIGITS, "--what-if", "schedule.mix_ratio=0, 0.5,1")
    assert done.code == 0
    table = done.out.partition("schedule.mix_ratio")[2].splitlines()
    assert [line.split()[:2] for line in table if line.startswith(("0", "1"))] == [
        ["0", "606"],
        ["0.5", "456"],
        ["1", "303"],
    ]
    told = json.loads(raymix("plan", DIGITS, "--what-if", "data.augment.crop=[0.5, 1.0],[1.0, 1.0]", "--json").out)
    assert [(line["field"], line["value"]) for line in told["what_if"]] == [
        ("data.augment.crop", "[0.5, 1.0]"),
        ("data.augment.crop", "[1.0, 1.0]"),
    ]
    assert told["what_if"][0]["forecast"]["costs"]["worker_hours"]["value"] > 0


@pytest.mark.parametrize(
    ("what_if", "line"),
    [
        ("optim.batch", "error: --what-if optim.batch: is not FIELD=V1,V2,... ("),
        ("optim.batch=96,", "error: --what-if optim.batch=96,: is not FIELD=V1,V2,... ("),
        ("optim.bacth=96", "error: optim.bacth: unknown key (did you mean optim.batch?)"),
        ("optim.batch=96,97", "error: optim.batch: 97 is not divisible by cluster.workers 2"),
        ("optim.batch=96,4096", "error: optim.batch: 4096 is larger than the 1213 training rows"),
    ],
)
def test_a_wrong_what_if_is_one_line(raymix: Raymix, what_if: str, line: str) -> None:
    done = raymix("plan", DIGITS, "--what-if", what_if)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(line)


def test_schema_is_json(raymix: Raymix) -> None:
    assert json.loads(raymix("schema").out) == JobSpec.model_json_schema()


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


def test_report_in_other_formats(raymix: Raymix, trained: Path, tmp_path: Path) -> None:
    folder = trained / "runs" / "small"
    before = (folder / "report.html").read_bytes()
    whole = raymix("report", folder, "--format", "json")
    assert json.loads(whole.out) == json.loads((folder / "report.json").read_text())
    assert raymix("report", folder, "--format", "md").out.startswith("# small\n")
    assert raymix("report", folder, "--format", "csv").out.startswith("run,kind,epochs,")
    file = tmp_path / "out.json"
    assert raymix("report", folder, "--format", "json", "--output", file) == Done(0, f"report: {file}\n", "")
    assert file.read_text() == whole.out
    assert (folder / "report.html").read_bytes() == before, "only html writes the page"
    assert raymix("report", folder, "--output", tmp_path / "page.html").out.endswith(f"{tmp_path / 'page.html'}\n")
    assert (tmp_path / "page.html").read_bytes() == before


def test_report_compares(raymix: Raymix, trained: Path, tmp_path: Path) -> None:
    folder = trained / "runs" / "small"
    done = raymix("report", folder, folder / "report.json", "--compare")
    assert done.code == 0
    assert done.out.endswith(f"report: {trained / 'runs' / 'compare.html'}\n")
    assert "<html" in (trained / "runs" / "compare.html").read_text()
    lines = json.loads(raymix("report", folder, folder, "--compare", "--format", "json").out)
    assert [line["path"] for line in lines] == [str(folder)] * 2
    assert raymix("report", folder, "--compare", "--format", "csv").out.startswith("path,arm,status,top1,")


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
        (["report", "{}/small", "{}/smal"], "error: {}/smal: a second folder (add --compare"),
        (["report", "{}/small", "{}/smal", "--compare"], "error: {}/smal: no such run folder (did you mean {}/small?)"),
        (["report", "{}/small", "--output", "{}"], "error: {}: is a folder (--output names a file)"),
        (
            ["report", "{}/small", "--output", "{}/none/a.html"],
            "error: {}/none/a.html: cannot be written: No such file",
        ),
        (["report", "{}/small", "--format", "xml"], "error: raymix report: Invalid value for '--format'"),
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


def test_no_room_for_what_came_of_it(raymix: Raymix, ends_with: Callable[[BaseException], None]) -> None:
    ends_with(OSError(28, "No space left on device", "runs/digits/pilot.json"))
    line = "error: runs/digits/pilot.json could not be written: No space left on device\n"
    assert raymix("run", DIGITS) == Done(3, "", line)


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
