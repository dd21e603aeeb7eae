"""The page of an evaluation: escaped, the same facts as the terminal, and short where classes are many."""

from __future__ import annotations

from raymix.report.evaluation import Bin, ClassFigures, Evaluated, Judged
from raymix.report.page_evaluation import evaluation_html, evaluation_lines
from raymix.report.page_parts import ENDS


def judged(value: float, low: float | None = 10.0, high: float | None = 90.0) -> Judged:
    return Judged(value=value, low=low, high=high, interval="bootstrap", n=80)


def evaluated(num_classes: int, **values: object) -> Evaluated:
    """Two images a class; of each class but the last one was taken for the next class."""
    names = tuple(f"class<{k:03d}>" for k in range(num_classes))
    figures = {"predicted": 2, "precision": 50.0, "recall": 50.0, "recall_interval": None, "auroc": None}
    ranked = {"average_precision": None, "recall_at": None, "threshold": None}
    classes = tuple(ClassFigures(name=name, images=2, f1=float(k), **figures, **ranked) for k, name in enumerate(names))
    wrong = tuple((k, k + 1, 1) for k in range(num_classes - 1))
    whole = {
        **{"run": "runs/x", "source": "new", "part": "auto", "images": 80, "unlabelled": 3, "skipped": {"gone": 2}},
        **{"trained_on": 0, "class_names": names, "device": "cpu", "workers": 0, "seconds": 1.0, "resamples": 1000},
        **{"ranking_resamples": 1000, "false_alarms": 0.01, "top1": judged(50.0), "top5": None, "f1": judged(41.5)},
        **{"balanced_accuracy": judged(50.0, None, None), "auroc": None, "average_precision": None, "recall_at": None},
        **{"calibration_error": judged(3.0), "bins": (Bin(low=0, high=1, images=80, confidence=0.5, top1=50.0),)},
        **{"classes": classes, "confusion": wrong, "probes": (), "costs": None, "mistakes": ()},
    }
    return Evaluated.model_validate({**whole, **values})


def test_many_classes_are_shown_by_their_ends_and_without_a_matrix() -> None:
    page = evaluation_html(evaluated(40))
    assert f"{40 - 2 * ENDS} more between the best and the worst {ENDS}" in page
    shown = [f"class&lt;{k:03d}&gt;</th><td>2" in page for k in range(40)]
    assert shown == [k < ENDS or k >= 40 - ENDS for k in range(40)]
    assert page.count("50.0 %</td></tr>") == 15, "the most frequent mistakes"
    assert "Confusion, in % of the class" not in page
    assert "Confusion, in % of the class" in evaluation_html(evaluated(30))
    assert "class<0" not in page, "names are escaped"


def test_page_and_terminal_warn_of_the_same() -> None:
    found = evaluated(3, trained_on=7)
    lines = evaluation_lines(found)
    assert lines["careful"].startswith("the run was trained on 7 of these images")
    assert lines["careful"] in evaluation_html(found)
    assert lines["unreadable"] == "gone 2"
    assert lines["top-1"] == "50.0 %  (95 % 10.0 to 90.0 %, bootstrap over 80 images)"
    assert lines["balanced accuracy"] == "50.0 %  (no interval over 80 images)"
    assert "is not known" in evaluation_lines(evaluated(3, trained_on=None))["careful"]
    assert "careful" not in evaluation_lines(evaluated(3))
