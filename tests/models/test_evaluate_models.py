"""evaluate: figures of a run on labelled images, in a folder of a page and tables; mistakes are one line."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_auc_score

import raymix
from raymix.report.evaluation import Evaluated
from tests.conftest import Raymix, image_tree_of

FILES = ["classes.csv", "confusion.csv", "evaluation.html", "evaluation.json", "images.csv"]
ALONE = ("--set", "knn=null", "--set", "probe=false")


def table(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_says_what_the_model_says(trained_run: Path, images: Path, tmp_path: Path, command: Raymix) -> None:
    out = tmp_path / "judged"
    costs = "costs={class1: {class0: 5}}"
    done = command("evaluate", trained_run, images, "--out", out, "--set", "batch=4", "--set", costs)
    assert done.code == 0, done.err
    assert sorted(path.name for path in out.iterdir()) == FILES
    found = Evaluated.model_validate_json((out / "evaluation.json").read_bytes())
    model, rows = raymix.load_model(trained_run), table(out / "images.csv")
    assert [row["uri"] for row in rows if row["problem"]] == [str(images / "class0" / "001.jpg")]
    read = [row for row in rows if not row["problem"]]
    p = torch.softmax(torch.cat([model(model.transform(row["uri"])[None]) for row in read]), 1).numpy()
    y = np.array([model.class_names.index(Path(row["uri"]).parent.name) for row in read])
    assert [row["label"] for row in read] == [model.class_names[label] for label in y]
    assert [row["class"] for row in read] == [model.class_names[place] for place in p.argmax(1)]
    np.testing.assert_allclose([float(row["score"]) for row in read], p.max(1), rtol=1e-4)

    assert (found.images, found.skipped, found.trained_on) == (20, {"not an image": 1}, 0)
    assert found.top1.value == pytest.approx(100 * (p.argmax(1) == y).mean())
    assert found.top1.low < found.top1.value < found.top1.high
    assert (found.top1.interval, found.top1.n, found.top5) == ("wilson", 20, None)
    assert found.balanced_accuracy.value == pytest.approx(100 * balanced_accuracy_score(y, p.argmax(1)))
    expected = 100 * roc_auc_score(y, p / p.sum(1, keepdims=True), multi_class="ovr", average="macro")
    assert found.auroc.value == pytest.approx(expected, abs=0.01)
    counts = np.zeros((3, 3), dtype=int)
    for label, predicted, number in found.confusion:
        counts[label, predicted] = number
    assert counts.tolist() == confusion_matrix(y, p.argmax(1), labels=range(3)).tolist()
    names = np.array(model.class_names)
    assert [(row["label"], row["class"]) for row in table(out / "confusion.csv")] == [
        (names[i], names[j]) for i, j, _ in found.confusion
    ]
    assert [row["name"] for row in table(out / "classes.csv")] == list(names)
    assert found.costs.matrix[1] == (5.0, 0.0, 1.0)
    assert found.costs.predicted.value == pytest.approx(
        np.mean([found.costs.matrix[i][j] for i, j in zip(y, p.argmax(1), strict=True)])
    )

    wrong = sorted(p.max(1)[p.argmax(1) != y], reverse=True)
    assert [one.confidence for one in found.mistakes] == pytest.approx(wrong, rel=1e-4), "the most confident first"
    page = (out / "evaluation.html").read_text()
    assert page.count("<img alt=") == len(wrong) > 0
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)|@import|url\((?!#)""", page), "nothing is fetched"
    for shown in ("balanced accuracy", "Calibration", "linear probe", "What decisions cost", "class2"):
        assert shown in page
    assert f"{found.top1.value:.1f} %" in done.out


def test_probes_learn_from_labelled_training_rows_of_the_run(trained_run: Path, images: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from raymix.models.own import own_rows

    found = raymix.evaluate(trained_run, images, ["knn=3"], quiet=True)
    knn, linear = found.probes
    own, model = own_rows(trained_run), raymix.load_model(trained_run)
    assert (knn.kind, linear.kind, knn.fitted_images) == ("knn", "linear", len(own.labelled))
    assert knn.about.startswith("3 nearest")

    def vectors(paths: list[str]) -> np.ndarray:
        with torch.no_grad():
            return torch.cat([model.embed(model.transform(path)[None]) for path in paths]).numpy()

    train, labels = vectors([own.rows.uris[row] for row in own.labelled]), own.rows.labels[own.labelled]
    paths = [str(path) for path in sorted(images.rglob("*.jpg")) if path.stat().st_size > 100]
    new, y = vectors(paths), np.array([model.class_names.index(Path(path).parent.name) for path in paths])
    expected = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(train, labels).score(new, y)
    assert linear.top1.value == pytest.approx(100 * expected)
    unit, others = (vector / np.linalg.norm(vector, axis=1, keepdims=True) for vector in (new, train))
    cosine = unit @ others.T
    votes = np.zeros((len(new), 3))
    for place, near in enumerate(np.argsort(-cosine, axis=1)[:, :3]):
        np.add.at(votes[place], labels[near], np.exp(cosine[place, near] / 0.07))
    assert knn.top1.value == pytest.approx(100 * (votes.argmax(1) == y).mean())
    assert "<svg" in found._repr_html_()


def test_hidden_labels_stay_hidden_and_the_job_may_hold_costs_and_rate(
    trained_run: Path, images: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    plan = json.loads((run / "plan.json").read_text())
    plan["spec"]["data"]["label_fraction"] = 0.5
    plan["spec"]["report"] |= {"costs": {"class1": {"class0": 7}}, "false_alarms": 0.2}
    (run / "plan.json").write_text(json.dumps(plan))
    found = raymix.evaluate(run, images, ["resamples=100"], quiet=True)
    assert {probe.fitted_images for probe in found.probes} == {19}, "half of 48, less select"
    assert found.costs.matrix[1] == (7.0, 0.0, 1.0)
    assert found.false_alarms == 0.2
    few = raymix.evaluate(run, images, ["resamples=100", "probe_images=9", "knn=null", "false_alarms=0.1"], quiet=True)
    assert few.false_alarms == 0.1
    assert [(probe.kind, probe.fitted_images) for probe in few.probes] == [("linear", 9)]


def test_images_that_the_run_was_trained_on_are_counted(trained_run: Path, command: Raymix, tmp_path: Path) -> None:
    source = trained_run.parent.parent / "images"
    done = command("evaluate", trained_run, source, "--out", tmp_path / "out", "--json", *ALONE)
    told = json.loads(done.out)
    report = json.loads((trained_run / "report.json").read_text())
    assert told["trained_on"] == report["rows"]["train"] > 0
    assert told["probes"] == []
    assert "trained on" in (tmp_path / "out" / "evaluation.html").read_text()


def test_the_validation_set_of_a_source_is_taken_and_absent_classes_are_told(trained_run: Path, tmp_path: Path) -> None:
    image_tree_of(tmp_path / "new" / "train", per_class=4)
    image_tree_of(tmp_path / "new" / "val", per_class=2, seed=2)
    options = ["knn=null", "probe=false", "resamples=100"]
    found = raymix.evaluate(trained_run, tmp_path / "new", options, quiet=True)
    assert found.images == 6
    assert raymix.evaluate(trained_run, tmp_path / "new", [*options, "part=all"], quiet=True).images == 18
    image_tree_of(tmp_path / "two", classes=2, per_class=3)
    found = raymix.evaluate(trained_run, tmp_path / "two", options, quiet=True)
    assert [one.recall is None for one in found.classes] == [False, False, True]
    assert found.balanced_accuracy.value == pytest.approx(np.mean([one.recall for one in found.classes[:2]]))
    assert "class2" in found._repr_html_()


def _flat(tmp_path: Path) -> str:
    source = image_tree_of(tmp_path / "flat", classes=1, per_class=2)
    return str(source / "class0")


def _stranger(tmp_path: Path) -> str:
    source = image_tree_of(tmp_path / "other", classes=4, per_class=1)
    return str(source)


@pytest.mark.parametrize(
    ("source", "out", "options", "line"),
    [
        (_stranger, "out", [], r"^error: source: .*other has class 'class3', unknown to the run \(it has 'class0', "),
        (_flat, "out", ["source.format=images"], r"^error: source: .*class0 has no labels \(raymix predict takes"),
        (
            _flat,
            "out",
            ["source.format=imags"],
            r"^error: --set source.format: unknown value imags \(did you mean images",
        ),
        (None, "there", [], r"^error: --out: .*there exists \(name another, or pass --overwrite\)"),
        (None, "out", ["costs={cat: {class0: 1}}"], r"^error: costs: the model has no class cat \(it has class0, "),
        (None, "out", ["costs={class0: {class1: -1}}"], r"^error: costs.class0.class1: .*at least 0"),
        (None, "out", ["false_alarms=0"], r"^error: false_alarms: must be above 0 and below 1"),
        (None, "out", ["neighbours=3"], r"^error: neighbours: unknown key"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    source: Any, out: str, options: list[str], line: str,
    trained_run: Path, images: Path, tmp_path: Path, command: Raymix,
) -> None:  # fmt: skip
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("years of work")
    given = source(tmp_path) if source else images
    before = sorted(tmp_path.iterdir())
    flags = [text for option in options for text in ("--set", option)]
    done = command("evaluate", trained_run, given, "--out", tmp_path / out, *flags)
    assert done.code == 2, done.err
    assert re.search(line, done.err), done.err
    assert done.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_overwrite_replaces_an_evaluation_and_nothing_else(
    trained_run: Path, images: Path, tmp_path: Path, command: Raymix
) -> None:
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    done = command("evaluate", trained_run, images, "--out", mine, "--overwrite", *ALONE)
    assert (done.code, "holds something else than an evaluation" in done.err) == (2, True)
    assert (mine / "thesis.txt").read_text() == "years of work"
    for gallery in ("3", "1"):
        flags = ("--overwrite", "--set", f"gallery={gallery}")
        assert command("evaluate", trained_run, images, "--out", out, *flags, *ALONE).code == 0
    assert len(Evaluated.model_validate_json((out / "evaluation.json").read_bytes()).mistakes) == 1


def test_an_exported_model_is_judged_without_probes_in_a_process_without_ray(
    trained_run: Path, images: Path, tmp_path: Path, command: Raymix
) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    assert command("export", trained_run, "--out", model).code == 0
    done = command("evaluate", model, images, "--out", out)
    assert done.code == 2
    assert "(knn and probe learn from the run's own training images; --set knn=null" in done.err
    arguments = ["evaluate", str(model), str(images), "--out", str(out), *ALONE]
    code = f"import sys\nsys.modules['ray'] = None\nfrom raymix.__main__ import main\nmain({arguments!r})"
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    found = Evaluated.model_validate_json((out / "evaluation.json").read_bytes())
    assert found.trained_on is None
    assert found.top1 == raymix.evaluate(trained_run, images, list(ALONE[1::2]), quiet=True).top1
