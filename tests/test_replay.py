"""A run repeated from its folder alone: what is equal, what is refused, what is told."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import raymix as package
from raymix.jobfile import load_spec
from raymix.plan import Added, Asked, Decision, Extension
from raymix.replay import original, replay, steps_of
from raymix.report.folder import read_run
from raymix.runner import run
from raymix.signals import Interrupted
from raymix.spec import JobError, JobSpec
from tests.conftest import Raymix, image_tree_of, spec_in


def tree_job(folder: Path, **sections: Any) -> JobSpec:
    """A job of a second on 36 drawn images below a folder."""
    image_tree_of(folder / "images", per_class=12)
    data = {"train": {"format": "image_folder", "path": str(folder / "images")}, "image_size": 16, "fraction": 1}
    patches = {"backbone": {"size": "nano", "patch": 4}}
    return spec_in(folder, data={**data, "select": 0}, **{**patches, "optim": {"batch": 12}, **sections})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a run on them."""
    folder = tmp_path_factory.mktemp("trained")
    run(tree_job(folder), quiet=True)
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """A copy of its run folder, below runs/, to be changed at will; the images stay where they are."""
    return Path(shutil.copytree(trained / "runs" / "digits", tmp_path / "runs" / "digits"))


def changed_json(file: Path, change: Callable[[Any], None]) -> None:
    there = json.loads(file.read_text())
    change(there)
    file.write_text(json.dumps(there))


# ---- equal ------------------------------------------------------------------------------------------------------


def test_the_command_repeats_a_run_bit_for_bit(copy: Path, tmp_path: Path, raymix: Raymix) -> None:
    done = raymix("run", "--replay", copy, "--set", f"storage={tmp_path / 'again'}")
    assert (done.code, "the same, bit for bit" in done.out) == (0, True), done.err
    again = tmp_path / "again" / "digits-replay"
    assert done.out.endswith(f"report: {again}/report.html\n")
    first, second = read_run(copy), read_run(again)
    assert first.final is not None
    assert second.final is not None
    assert [p.ssl_loss for p in first.curve] == [p.ssl_loss for p in second.curve]
    assert first.final.correct == second.final.correct


def test_an_adaptive_run_has_the_same_steps_and_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = {"policy": "adaptive", "tail": 0.4, "trials": 0.3}
    spec = spec_in(tmp_path, schedule=schedule, budget={"flops": 5e10}, data={"select": 0.3})
    first = run(spec, quiet=True)
    assert first.decisions
    assert any(point.trial for point in first.curve), "an amount of FLOPs holds one on any machine"
    monkeypatch.setattr("raymix.policy.segments.SEGMENT_SECONDS", 0.01)  # a policy that is asked would answer otherwise
    done = replay(tmp_path / "runs" / "digits", quiet=True)
    assert (done.equal, done.outcome, done.first_step) == (True, (), None)
    assert done.report.decisions == first.decisions
    assert [point.step for point in done.report.curve] == [point.step for point in first.curve]


def test_a_run_that_was_interrupted_and_extended(tmp_path: Path, interrupt: Callable[[int, int], None]) -> None:
    spec = tree_job(tmp_path)
    interrupt(1, signal.SIGINT)
    with pytest.raises(Interrupted):
        run(spec, quiet=True)
    with pytest.raises(JobError, match=r"^--replay: .* is not done, but interrupted \(end it first, with --resume\)"):
        replay(tmp_path / "runs" / "digits", quiet=True)
    interrupt(-1, signal.SIGINT)
    run(spec, resume=True, quiet=True)
    first = run(load_spec(spec, ["schedule.sl_epochs=2"]), resume=True, quiet=True)
    assert [decision.extension is not None for decision in first.decisions] == [True]
    folder = tmp_path / "runs" / "digits"
    told = sorted(path.name for path in folder.glob("environment*"))
    assert told == ["environment-002.json", "environment-003.json", "environment.json"], "one for each attempt"
    done = replay(folder, quiet=True)
    assert (done.equal, done.outcome, done.first_step) == (True, (), None)
    assert done.report.decisions == first.decisions


def test_python_repeats_it_elsewhere_with_its_images_moved(copy: Path, trained: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(trained / "images", tmp_path / "moved")
    overrides = [f"data.train.path={moved}", f"storage={tmp_path / 'again'}", "name=other", "checkpoint.keep=1"]
    done = package.replay(copy, overrides, quiet=True)
    assert done.equal
    assert done.replay == str(tmp_path / "again" / "other")
    with pytest.raises(JobError, match=r"^name: .* is already used"):
        package.replay(copy, overrides, quiet=True)
    assert package.replay(copy, overrides, quiet=True, overwrite=True).equal


# ---- not equal --------------------------------------------------------------------------------------------------


def test_what_differs_is_told_and_the_code_is_4(copy: Path, tmp_path: Path, raymix: Raymix) -> None:
    changed_json(copy / "plan.json", lambda plan: plan["spec"].update(seed=1))
    changed_json(copy / "environment.json", lambda told: told["versions"].update(torch="1.0"))
    command = ("run", "--replay", copy, "--set", f"storage={tmp_path / 'again'}")
    done = raymix(*command)
    assert done.code == 4
    assert "not the same" in done.out
    assert "from step 0 on not equal, largest difference" in done.out
    for row in ("final tensors, sha256", "torch "):
        assert row in done.out
    told = json.loads(raymix(*command, "--overwrite", "--json").out)
    assert told["largest_loss_difference"] > 0
    assert [pair["what"] for pair in told["made_with"]] == ["torch"]


def test_another_version_alone_is_listed_and_equal(copy: Path, tmp_path: Path) -> None:
    changed_json(copy / "environment.json", lambda told: told["versions"].update(scipy="0.1"))
    shutil.rmtree(copy / "checkpoints")
    done = replay(copy, [f"storage={tmp_path / 'again'}"], quiet=True)
    assert done.equal
    assert [(pair.what, pair.before) for pair in done.made_with] == [("scipy", "0.1")]
    assert done.not_compared == ("final tensors: a checkpoint is gone",)


# ---- refused ----------------------------------------------------------------------------------------------------


def larger(images: Path) -> None:
    with (images / "class1" / "003.jpg").open("ab") as file:
        file.write(b"\0")


def renamed(images: Path) -> None:
    (images / "class1" / "003.jpg").rename(images / "class1" / "003b.jpg")


def moved(images: Path) -> None:
    (images / "class1" / "003.jpg").rename(images / "class0" / "999.jpg")


def added(images: Path) -> None:
    shutil.copy(images / "class2" / "011.jpg", images / "class2" / "012.jpg")


def removed(images: Path) -> None:
    (images / "class2" / "011.jpg").unlink()


def other_bytes(images: Path) -> None:
    raw = bytearray((images / "class0" / "000.jpg").read_bytes())
    raw[-3] ^= 1
    (images / "class0" / "000.jpg").write_bytes(raw)


@pytest.mark.parametrize(
    ("change", "row"),
    [
        (larger, "row 15 ({}/class1/003.jpg) is not the image, label or size that it was"),
        (renamed, "row 15 ({}/class1/003b.jpg) is not the image"),
        (moved, "row 12 ({}/class0/999.jpg) is not the image"),
        (added, "row 36 ({}/class2/012.jpg) is new"),
        (removed, "row 35 is gone, there were 36"),
        (other_bytes, "row 0 ({}/class0/000.jpg) has another content"),
    ],
)
def test_changed_data_is_refused_with_its_first_changed_row(
    copy: Path, trained: Path, tmp_path: Path, raymix: Raymix, change: Callable[[Path], None], row: str
) -> None:
    images = Path(shutil.copytree(trained / "images", tmp_path / "images"))
    change(images)
    settings = ("--set", f"data.train.path={images}", "--set", f"storage={tmp_path / 'again'}")
    done = raymix("run", "--replay", copy, *settings)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    told = f"error: data: is not what it was when {copy} was trained: {row.format(images)}"
    assert done.err.startswith(told), done.err
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["optim.lr=1"], "error: optim.lr: a replay trains what the run did (with it go name, storage, cluster, "),
        (["seed=3"], "error: seed: a replay trains"),
        (["budget={wall: 2h}"], "error: budget: a replay trains"),
        (["data.image_size=8"], "error: data.image_size: a replay trains"),
        (["optim.batch=7", "cluster.workers=2"], "error: optim.batch: 7 is not divisible"),
    ],
)
def test_another_training_is_refused(copy: Path, raymix: Raymix, settings: list[str], line: str) -> None:
    done = raymix("run", "--replay", copy, *(part for setting in settings for part in ("--set", setting)))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(line)


def test_what_cannot_be_repeated(copy: Path, tmp_path: Path, raymix: Raymix) -> None:
    def line(*arguments: object) -> str:
        done = raymix("run", *arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        return done.err

    assert line("--replay", tmp_path / "none").startswith(f"error: {tmp_path}/none: no such folder")
    assert line("--replay", copy, copy / "job.yaml").startswith("error: --replay: goes without JOB")
    assert line().startswith("error: JOB: missing")
    (copy / "rows.npy").rename(copy / "away.npy")
    assert line("--replay", copy).startswith(f"error: --replay: {copy} cannot be repeated: rows.npy")
    (copy / "rows.npy").write_bytes(b"\x80\x04\x95")
    assert line("--replay", copy).startswith(f"error: --replay: {copy} cannot be repeated: ")
    (copy / "environment.json").write_text("{}")
    assert line("--replay", copy).startswith(f"error: --replay: {copy}: not of this raymix: Environment")
    changed_json(copy / "report.json", lambda report: report.update(status="interrupted"))
    assert line("--replay", copy).startswith(f"error: --replay: {copy} is not done, but interrupted")


def test_two_decisions_at_one_step_are_one_or_refused(copy: Path) -> None:
    before = original(copy)
    steps, end = tuple(phase.steps for phase in before.plan.phases), before.plan.num_steps
    extension = Extension(asked=Asked(), phases=(Added(kind="sl", steps=4),), fills=False)
    more = Decision(step=1, steps=(*steps[:-1], steps[-1] + 1), reason="measured anew")
    most = Decision(step=1, steps=(*steps[:-1], steps[-1] + 2), reason="other machines")
    cut = Decision(step=end - 1, steps=(*steps[:-1], steps[-1] - 1), reason="nothing more fits")
    longer = Decision(step=end - 1, steps=(*cut.steps, 4), reason="extended", extension=extension)

    def told(*decisions: Decision) -> tuple[Decision, ...]:
        return steps_of(before._replace(report=before.report.model_copy(update={"decisions": decisions}))).decisions

    assert told(more, most) == (most,)
    with pytest.raises(JobError, match=r"^--replay: .* was extended at the step at which its budget had ended it"):
        told(cut, longer)
