"""`raymix.runner.run` on real images, in this process: what lies in the folder, what is refused, what is resumed."""

from __future__ import annotations

import gzip
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from raymix import conduct
from raymix.data.reading import read_local
from raymix.jobfile import job_text, load_spec
from raymix.pilot import pilot
from raymix.report.ledger import STEPS
from raymix.report.pilot import PilotReport
from raymix.report.run import RunReport
from raymix.runner import Interrupted, RunFailed, check, plan, run
from raymix.spec import JobError, JobSpec
from raymix.train import measure
from raymix.train.model import load
from tests.conftest import Raymix, spec_in

SpecOf = Callable[..., JobSpec]
torch.set_num_threads(1)  # small models are quickest on one thread, most of all beside other tests
FILES = {"job.yaml", "resolved.json", "plan.json", "metrics.jsonl", "checkpoints"}
FILES |= {"report.json", "report.html", "ledger.csv", "samples.json", "forecast.json", "environment.json", "rows.npy"}


@pytest.fixture(autouse=True)
def _measured_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these runs would spend a third of its time on measuring its steps."""
    monkeypatch.setattr(measure, "TIMED", 2)


class Plain(NamedTuple):
    folder: Path
    spec: JobSpec
    report: RunReport


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Plain:
    """The job as it is, run once for all tests that leave its folder alone."""
    folder = tmp_path_factory.mktemp("plain")
    spec = spec_in(folder)
    return Plain(folder, spec, run(spec, quiet=True))


def folder_of(spec: JobSpec) -> Path:
    return Path(spec.storage) / spec.name


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- a run ------------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_the_design_names(spec_of: SpecOf) -> None:
    spec = spec_of(cluster={"workers": 0, "price_per_worker_hour": 3600})
    report = run(spec, quiet=True)
    folder = folder_of(spec)
    names = {path.name for path in folder.iterdir()}
    assert names >= FILES
    assert any(name.startswith("events.out.tfevents.") for name in names)
    assert not [name for name in names if name.startswith(".")], "nothing half-written"
    assert RunReport.model_validate_json((folder / "report.json").read_text()) == report
    page = (folder / "report.html").read_text()
    assert "<html" in page
    assert page.count("data:image/png;base64,") == 24, "eight rows: as they are, masked, reconstructed"
    assert "Foretold before the run began" in page
    assert "The job, with every default" in page
    assert load_spec(folder / "job.yaml") == spec, "as asked, and it can be run again"
    assert set(yaml.safe_load((folder / "job.yaml").read_text())) == spec.model_fields_set | {"spec_version"}

    assert report.status == "done"
    assert report.final is not None
    assert report.final.num_val == report.rows.val == 449
    assert sum(num for num, _ in report.final.by_class) == 449
    assert sum(right for _, right in report.final.by_class) == round(4.49 * report.final.top1)
    assert [phase.kind for phase in report.phases] == ["ssl", "mix", "sl"]
    for phase in report.phases:
        assert phase.steps > 0
        assert phase.images == phase.steps * 24
        assert phase.cost == pytest.approx(phase.worker_seconds)
    rows = metrics(folder)
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    assert rows[-1]["step"] == sum(phase.steps for phase in report.phases)
    assert sum(row["images"] for row in rows) == sum(phase.images for phase in report.phases)
    assert [point.step for point in report.curve] == [row["step"] for row in rows]
    assert report.rows.seen["all"] + report.rows.seen["labelled"] == sum(phase.images for phase in report.phases)
    assert report.rows.skipped == {}
    totals = report.totals
    assert totals.wall_seconds >= totals.worker_seconds >= totals.step_seconds > 0
    assert totals.cost == pytest.approx(totals.worker_seconds)
    assert report.attempts == 1
    assert {"torch", "raymix", "python", "device"} <= report.environment.keys()


def test_the_start_is_accounted_for_part_by_part(plain: Plain) -> None:
    totals = plain.report.totals
    assert set(totals.startup) == {"images", "prepare"}
    assert 0 < sum(totals.startup.values()) <= totals.startup_seconds


def test_every_second_of_every_worker_is_booked(spec_of: SpecOf, interrupt: Callable[..., None]) -> None:
    """In a run that is interrupted and goes on."""
    spec = spec_of(schedule={"ssl_epochs": 4, "sl_epochs": 4}, cluster={"workers": 0, "price_per_worker_hour": 3600})
    interrupt(1)
    with pytest.raises(Interrupted) as stop:
        run(spec, quiet=True)
    interrupt(10_000)
    for report in (stop.value.report, run(spec, resume=True, quiet=True)):
        found, totals = report.ledger, report.totals
        assert found.worker_seconds == pytest.approx(totals.wall_seconds, rel=0.01)
        assert abs(found.of("other")) < 0.01 * found.worker_seconds + 0.5
        assert sum(entry.cost for entry in found.entries) == pytest.approx(totals.cost)
        assert sum(found.of(account) for account in STEPS.values()) == pytest.approx(totals.step_seconds)
        assert found.of("data wait") == pytest.approx(totals.data_seconds)
        assert found.of("lost work") == pytest.approx(0), "a checkpoint was saved"
        assert min(found.of(account) for account in ("start-up", "prepare", "checkpoints", "idle")) > 0
        led = sum(found.of(account) for account in ("before workers", "start-up", "prepare"))
        assert totals.startup_seconds == pytest.approx(led), "totals are of all attempts, too"
        assert totals.evaluate_seconds == pytest.approx(found.of("evaluation"))
        assert totals.checkpoint_seconds == pytest.approx(found.of("checkpoints"))
        assert totals.startup["prepare"] == pytest.approx(found.of("prepare"))
        assert sum(totals.startup.values()) <= totals.startup_seconds
    assert (folder_of(spec) / "ledger.csv").read_text() == found.csv()
    assert len(list(folder_of(spec).glob("attempt-*.json"))) == 2


@pytest.mark.parametrize("policy", ["fixed", "budgeted"])
def test_a_budget_that_holds_no_step_ends_in_words(spec_of: SpecOf, policy: str, raymix: Callable[..., Any]) -> None:
    epochs = {"policy": policy, "ssl_epochs": 1, "sl_epochs": 1}
    spec = spec_of(schedule=epochs, budget={"wall": 0.01})
    report = run(spec)
    assert (report.status, report.ended, report.final) == ("done", "budget", None)
    assert sum(phase.steps for phase in report.phases) == 0
    assert report.budget is not None
    assert report.budget.spent > report.budget.asked
    assert report.ledger is not None
    assert report.ledger.worker_seconds == pytest.approx(report.totals.wall_seconds, rel=0.01)
    told = "The budget was spent before the first step: nothing was trained, and val was not read."
    assert told in (folder_of(spec) / "report.html").read_text()
    assert told in raymix("report", folder_of(spec)).out


def test_averaged_weights_are_reported_beside_the_raw_ones(spec_of: SpecOf) -> None:
    spec = spec_of(optim={"batch": 24, "ema": "5%"}, evaluate={"every": 0.2, "max_share": 1, "weights": "ema"})
    report = run(spec, quiet=True)
    assert report.final is not None
    assert set(report.final.by_weights) == {"raw", "ema"}
    assert (report.final.weights, report.final.top1) == ("ema", report.final.by_weights["ema"])
    told = [row for row in metrics(folder_of(spec)) if row["select_top1"] is not None]
    assert told
    assert all(row["select_ema_top1"] is not None for row in told)
    assert report.final.select_top1 == told[-1]["select_ema_top1"]
    assert "of the averaged ones" in (folder_of(spec) / "report.html").read_text()
    checked = check(spec)
    trained = load(folder_of(spec))
    images = read_local(checked.rows, checked.splits.val, trained.frame)
    logits = trained(torch.from_numpy(images.pixels[images.slots[checked.splits.val]]))
    right = logits.argmax(1).numpy() == checked.splits.labels[checked.splits.val]
    assert 100 * right.mean() == pytest.approx(report.final.by_weights["ema"]), "what is loaded is what was reported"


def test_a_profile_holds_a_trace_of_each_kind_and_changes_nothing(spec_of: SpecOf, plain: Plain) -> None:
    spec = spec_of(name="profiled")
    profiled = run(spec, quiet=True, profile=True)
    assert [p.ssl_loss for p in profiled.curve] == [p.ssl_loss for p in plain.report.curve]
    for kind in ("ssl", "mix", "sl"):
        with gzip.open(folder_of(spec) / "profile" / f"{kind}.json.gz", "rt") as file:
            names = {event.get("name") for event in json.load(file)["traceEvents"]}
        assert {"aten::addmm", "Optimizer.step#AdamW.step"} <= names


def test_a_batch_on_auto_is_planned_for_near_256(spec_of: SpecOf) -> None:
    spec = spec_of(data={"fraction": 1}, optim={"batch": "auto"}, cluster={"workers": 3, "gpus_per_worker": 1})
    assert plan(spec).spec.batch == 255


def test_the_same_job_gives_the_same_model(spec_of: SpecOf, plain: Plain) -> None:
    again = run(spec_of(name="again"), quiet=True)
    assert again.final is not None
    assert plain.report.final is not None
    assert again.final.correct == plain.report.final.correct
    newest = [max((folder_of(spec) / "checkpoints").iterdir()) for spec in (plain.spec, spec_of(name="again"))]
    assert newest[0].name == newest[1].name
    tensors = [(path / "tensors.safetensors").read_bytes() for path in newest]
    assert tensors[0] == tensors[1]


def test_images_on_disk(spec_of: SpecOf, image_tree: Callable[..., Path], tmp_path: Path) -> None:
    """A tree of JPEGs from end to end, held out and larger than what the backbone sees."""
    source = {"format": "image_folder", "path": str(image_tree(tmp_path / "images", classes=3, per_class=30))}
    spec = spec_of(data={"train": source, "holdout": 0.2, "fraction": 1})
    report = run(spec, quiet=True)
    assert report.class_names == ("class0", "class1", "class2")
    assert (report.rows.val, report.rows.select) == (18, 7)
    assert report.rows.train == report.rows.labelled == 90 - 18 - 7
    assert report.final is not None
    assert report.final.num_val == 18


def test_unlabelled_rows_take_part_in_ssl_and_mix(spec_of: SpecOf) -> None:
    spec = spec_of(data={"label_fraction": 0.2}, schedule={"ssl_epochs": 2, "sl_epochs": 2, "mix_ratio": 0.5})
    report = run(spec, quiet=True)
    rows = report.rows
    assert rows.unlabelled > 3 * rows.labelled > 0
    ssl, mix, sl = report.phases
    assert (ssl.labelled, sl.labelled) == (0, sl.images)
    assert 0 < mix.labelled < mix.images
    assert mix.labelled == pytest.approx(mix.images * rows.labelled / rows.train, abs=24)
    assert rows.seen == {"all": ssl.images + mix.images, "labelled": sl.images, "unlabelled": 0}


def test_ssl_alone_needs_no_labels_and_claims_no_accuracy(spec_of: SpecOf) -> None:
    spec = spec_of(data={"label_fraction": 0}, schedule={"ssl_epochs": 1, "sl_epochs": 0})
    report = run(spec, quiet=True)
    assert report.status == "done"
    assert report.final is None, "the classifier has learnt nothing"
    assert (folder_of(spec) / "report.html").is_file()


# ---- images that cannot be read ---------------------------------------------------------------------------------


def broken_tree(image_tree: Callable[..., Path], root: Path) -> dict[str, Any]:
    """90 images, two of which are none."""
    image_tree(root, classes=3, per_class=30)
    (root / "class0" / "004.jpg").write_bytes(b"")
    whole = (root / "class1" / "005.jpg").read_bytes()
    (root / "class1" / "005.jpg").write_bytes(whole[: len(whole) // 2])
    return {"train": {"format": "image_folder", "path": str(root)}, "fraction": 1, "holdout": 0.2}


def test_unreadable_images_are_counted_and_named(
    spec_of: SpecOf, image_tree: Callable[..., Path], tmp_path: Path
) -> None:
    data = broken_tree(image_tree, tmp_path / "images")
    spec = spec_of(data={**data, "max_bad_fraction": 0.05})
    report = run(spec, quiet=True)
    assert sum(report.rows.skipped.values()) == 2
    assert report.rows.train + report.rows.select + report.rows.val == 88
    head, *lines = (folder_of(spec) / "skipped.tsv").read_text().splitlines()
    assert head == "cause\tpath"
    found = dict(line.split("\t")[::-1] for line in lines)
    assert sorted(Path(path).name for path in found) == ["004.jpg", "005.jpg"]
    assert set(found.values()) == set(report.rows.skipped)
    assert run(spec, resume=True, quiet=True) == report


def test_too_many_of_them_stop_the_run(spec_of: SpecOf, image_tree: Callable[..., Path], tmp_path: Path) -> None:
    data = broken_tree(image_tree, tmp_path / "images")
    with pytest.raises(JobError, match=r"^data\.max_bad_fraction: 2 of 90 images are unreadable \(.*\), first: .*jpg"):
        run(spec_of(data={**data, "max_bad_fraction": 0.01}), quiet=True)
    assert not (tmp_path / "runs").exists()


# ---- resume -----------------------------------------------------------------------------------------------------


def test_a_finished_run_is_not_trained_again(spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of()
    report = run(spec, resume=True, quiet=True)  # an unused folder may be resumed: it starts
    before = everything_in(folder_of(spec))
    monkeypatch.setattr("raymix.runner.open_session", None)  # nothing is opened
    assert run(spec, resume=True, quiet=True) == report
    assert everything_in(folder_of(spec)) == before


def test_an_interrupted_run_does_the_rest(spec_of: SpecOf, interrupt: Callable[..., None], plain: Plain) -> None:
    whole, spec = plain.report, spec_of(name="parts")
    for number, signum in enumerate((signal.SIGINT, signal.SIGTERM), 1):
        interrupt(2, signum)
        with pytest.raises(Interrupted) as caught:
            run(spec, resume=number > 1, quiet=True)
        assert caught.value.signum == signum
        assert str(caught.value) == f"checkpoint saved; --resume goes on from {folder_of(spec)}"
        part = caught.value.report
        assert part == RunReport.model_validate_json((folder_of(spec) / "report.json").read_text())
        assert (part.status, part.final, part.attempts) == ("interrupted", None, number)
        assert len(metrics(folder_of(spec))) == 2 * number
    interrupt(-1)
    done = run(spec, resume=True, quiet=True)
    assert done.status == "done"
    assert done.attempts == 3
    assert done.final is not None
    assert whole.final is not None
    assert done.final.correct == whole.final.correct
    steps, images = (
        [[row[key] for row in metrics(folder_of(run_spec))] for run_spec in (spec, plain.spec)]
        for key in ("step", "images")
    )
    assert steps[0] == steps[1], "each step once"
    assert images[0] == images[1]
    assert done.rows.seen == whole.rows.seen
    assert done.totals.wall_seconds > part.totals.wall_seconds, "earlier attempts are paid for, too"


def test_rows_written_after_the_last_checkpoint_come_once(spec_of: SpecOf, interrupt: Callable[..., None]) -> None:
    """As after a kill: metrics are ahead of the checkpoint."""
    spec = spec_of()
    interrupt(3)
    with pytest.raises(Interrupted):
        run(spec, quiet=True)
    newest = max((folder_of(spec) / "checkpoints").iterdir())
    (newest / "commit.json").unlink()
    interrupt(-1)
    report = run(spec, resume=True, quiet=True)
    steps = [row["step"] for row in metrics(folder_of(spec))]
    assert steps == sorted(set(steps))
    assert steps[-1] == sum(phase.steps for phase in report.phases)


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("optim.lr", {"optim": {"batch": 24, "lr": 5e-4}}),
        ("seed", {"seed": 7}),
        ("data.fraction", {"data": {"fraction": 0.2}}),
        ("objective.type", {"objective": {"type": "simclr"}}),
        (
            "schedule.weight.start",
            {"schedule": {"ssl_epochs": 1, "sl_epochs": 1, "weight": {"start": 0.2, "end": 0.2}}},
        ),
        ("data.store_size", {"data": {"store_size": 16}}),
    ],
)
def test_another_job_is_not_resumed(spec_of: SpecOf, field: str, changed: dict[str, Any]) -> None:
    spec = spec_of()
    start_only(spec)
    before = everything_in(folder_of(spec))
    with pytest.raises(JobError) as caught:
        run(spec_of(**changed), resume=True, quiet=True)
    assert str(caught.value).startswith(f"{field}: {folder_of(spec)} holds another job: it differs here")
    assert everything_in(folder_of(spec)) == before


def test_prices_may_change_but_not_what_the_metric_is_reckoned_with(spec_of: SpecOf) -> None:
    judged = {"metric": "recall_at_false_alarms"}
    start_only(spec_of(**judged, report={"false_alarms": 0.02}))
    with pytest.raises(JobError, match=r"^report\.false_alarms: .* holds another job"):
        run(spec_of(**judged), resume=True, quiet=True)
    run(spec_of(**judged, report={"false_alarms": 0.02, "price_per_label": 1}), resume=True, quiet=True)


def start_only(spec: JobSpec) -> None:
    """A run folder as it is when training begins."""
    from raymix.runfolder import RunFolder
    from raymix.runner import check

    RunFolder(spec, folder_of(spec)).start(check(spec).plan, spec.data.image_size)


def test_where_it_runs_may_change(spec_of: SpecOf, interrupt: Callable[..., None]) -> None:
    interrupt(2)
    with pytest.raises(Interrupted):
        run(spec_of(), quiet=True)
    interrupt(-1)
    cluster = {"workers": 0, "price_per_worker_hour": 2}
    done = run(
        spec_of(cluster=cluster, checkpoint={"every": 60, "keep": 5}, pilot={"seeds": 3}), resume=True, quiet=True
    )
    assert done.status == "done"
    assert done.price_per_worker_hour == 2


def test_data_that_changed_is_not_resumed(
    spec_of: SpecOf, interrupt: Callable[..., None], image_tree: Callable[..., Path], tmp_path: Path
) -> None:
    source = {"format": "image_folder", "path": str(image_tree(tmp_path / "images", classes=3, per_class=30))}
    spec = spec_of(data={"train": source, "fraction": 1})
    interrupt(2)
    with pytest.raises(Interrupted):
        run(spec, quiet=True)
    for number in range(4):
        (tmp_path / "images" / "class2" / f"{number:03d}.jpg").unlink()
    before = everything_in(folder_of(spec))
    with pytest.raises(JobError, match=r"^data: is not what it was when .* began \(num_"):
        run(spec, resume=True, quiet=True)
    assert everything_in(folder_of(spec)) == before


# ---- what is refused, and what goes wrong -----------------------------------------------------------------------


def test_a_used_folder_is_refused_and_left_alone(plain: Plain) -> None:
    spec = plain.spec
    before = everything_in(folder_of(spec))
    with pytest.raises(
        JobError, match=r"^name: .* is already used \(add --resume .* --overwrite .* --set name="
    ) as caught:
        run(spec, quiet=True)
    assert "\n" not in str(caught.value)
    assert everything_in(folder_of(spec)) == before


def test_overwrite_starts_anew(spec_of: SpecOf) -> None:
    first = run(spec_of(), quiet=True)
    (folder_of(spec_of()) / "notes.txt").write_text("mine")
    second = run(spec_of(seed=1), overwrite=True, quiet=True)
    assert second.attempts == first.attempts == 1
    assert second.seed == 1
    assert not (folder_of(spec_of()) / "notes.txt").exists()
    assert len(metrics(folder_of(spec_of()))) == len(second.curve)


def test_overwrite_keeps_what_is_there_until_the_new_run_can_start(
    plain: Plain, image_tree: Callable[..., Path], tmp_path: Path
) -> None:
    before = everything_in(folder_of(plain.spec))
    data = {**broken_tree(image_tree, tmp_path / "images"), "max_bad_fraction": 0}
    with pytest.raises(JobError, match="unreadable"):
        run(spec_in(plain.folder, data), overwrite=True, quiet=True)
    assert everything_in(folder_of(plain.spec)) == before


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"cluster": {"workers": 2, "gpus_per_worker": 1}, "optim": {"batch": 24}},
            "cluster.gpus_per_worker: 2 GPU(s) ",
        ),
        ({"data": {"train": {"format": "image_folder", "path": "nowhere"}}}, "data.train.path: "),
        ({"optim": {"batch": 5000}}, "optim.batch: 5000 is larger than the "),
        (
            {"data": {"fraction": 1}, "optim": {"batch": "auto"}},
            "optim.batch: auto fills a GPU's memory, and this",
        ),
        (
            {"data": {"fraction": 1}, "optim": {"batch": "auto"}, "cluster": {"workers": 2}},
            "optim.batch: auto fills a GPU's memory, and this",
        ),
        ({"data": {"fraction": 0.001}}, "data.fraction: 0.001 leaves class "),
    ],
)
def test_a_mistake_starts_and_writes_nothing(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], line: str
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("raymix.runner.open_session", None)
    with pytest.raises(JobError) as caught:
        run(spec_of(**changed), quiet=True)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_run_that_fails_says_so_and_keeps_its_books(spec_of: SpecOf) -> None:
    """A rate at which weights grow beyond every bound; what was done until then is reported and paid for."""
    optim = {"batch": 24, "lr": 1, "weight_decay": 10, "warmup": 0}
    often = {"evaluate": {"every": 0.02}, "checkpoint": {"every": 0}}
    spec = spec_of(optim=optim, schedule={"ssl_epochs": 0, "sl_epochs": 5}, **often)
    line = r"^digits: (the loss|a gradient) is not finite in steps \d+ to \d+: .*; the last good checkpoint is step-"
    with pytest.raises(RunFailed, match=line):
        run(spec, quiet=True)
    report = RunReport.model_validate_json((folder_of(spec) / "report.json").read_text())
    assert report.status == "failed"
    assert report.final is None
    assert (folder_of(spec) / "report.html").is_file()
    rows = metrics(folder_of(spec))
    assert sum(phase.steps for phase in report.phases) == rows[-1]["step"] > 0
    assert len(report.curve) == len(rows)
    assert report.totals.worker_seconds > 0
    assert report.step_seconds


def test_a_report_that_cannot_be_written_is_told_after_the_result(
    spec_of: SpecOf, raymix: Raymix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, file, write = spec_of(), tmp_path / "job.yaml", conduct.write_text
    file.write_text(job_text(spec))

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conduct, "write_text", full)
    code, out, err = raymix("run", file)
    assert code == 3
    assert "top-1" in out
    assert err.splitlines()[-1] == (
        "error: digits: training is done, but the report could not be written to "
        f"{folder_of(spec)}: No space left on device; --resume writes it again"
    )
    monkeypatch.setattr(conduct, "write_text", write)
    code, again, _ = raymix("run", file, "--resume", "--json")
    assert code == 0
    assert RunReport.model_validate_json(again).attempts == 2


def test_a_folder_that_cannot_be_written_ends_a_run_before_it_trains(
    spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("raymix.runfolder.write_text", full)
    with pytest.raises(RunFailed, match=r"digits cannot be written: Read-only file system; nothing was trained$"):
        run(spec_of(), quiet=True)


# ---- a pilot --------------------------------------------------------------------------------------------------------


def test_a_finished_pilot_is_priced_anew_without_training_again(spec_of: SpecOf) -> None:
    sections = {"pilot": {"preset": "quick", "arms": ["sl", "mix"]}}
    first = pilot(spec_of(**sections), quiet=True)
    folder = folder_of(spec_of())
    assert {"pilot.json", "report.html", "decision.html", "roi.csv"} <= {file.name for file in folder.iterdir()}
    assert first.roi is not None
    assert first.roi.once_total == pytest.approx(first.wall_seconds), "one process, held from the start to the report"
    assert first.roi.labels == {"train": 182, "select": 20, "val": 449}
    runs = everything_in(folder / "runs")
    priced = {"cluster": {"workers": 0, "price_per_worker_hour": 36}, "report": {"retrainings_per_year": 12}}
    again = pilot(spec_of(**sections, **priced), resume=True, quiet=True)
    assert everything_in(folder / "runs") == runs
    assert again.roi is not None
    assert again.roi.once_total == pytest.approx(first.wall_seconds / 100)
    assert "preset quick decides nothing" in (folder / "decision.html").read_text()


def test_an_interrupted_pilot_tells_its_costs_and_counts_both_attempts(
    spec_of: SpecOf, interrupt: Callable[..., None]
) -> None:
    spec = spec_of(pilot={"preset": "quick", "arms": ["sl", "mix"]})
    interrupt(2)
    with pytest.raises(Interrupted) as stopped:
        pilot(spec, quiet=True)
    interrupt(-1)
    before = stopped.value.report
    assert isinstance(before, PilotReport)
    assert before.roi is not None
    assert before.roi.open == "the pilot did not come to its end"
    assert before.roi.once_total == pytest.approx(before.wall_seconds)
    after = pilot(spec, resume=True, quiet=True)
    assert after.wall_seconds > before.wall_seconds


def test_a_search_that_is_not_there_is_found_before_a_pilot_starts(spec_of: SpecOf, tmp_path: Path) -> None:
    spec = spec_of(report={"searches": [str(tmp_path / "none")]})
    with pytest.raises(JobError, match=r"^report.searches: .*none: no such folder"):
        pilot(spec, quiet=True)
    assert not folder_of(spec).exists()
