"""What the frozen backbone's vectors tell of a class by themselves: nearest neighbours and a linear classifier.

Both learn from training images of the run, as `raymix embed` sees them; scikit-learn does the work.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from raymix.data.images import Answered
from raymix.data.rows import Ids
from raymix.datacmd.work import told
from raymix.models.figures import Ints, confusion, macro, wilson
from raymix.models.flow import answers
from raymix.models.own import Own
from raymix.models.work import num_rows
from raymix.report.evaluation import Probe
from raymix.spec import Evaluation, JobError
from raymix.train.model import Trained
from raymix.watch.console import ConsoleSink

_TEMPERATURE = 0.07  # of a neighbour's vote, exp(cosine / t): Wu et al. 2018, as DINO's kNN has it
_ITERATIONS = 300
LEAVE_OUT = "--set knn=null --set probe=false leave them out"


class Fitted(NamedTuple):
    """A classifier of vectors."""

    kind: Literal["knn", "linear"]
    predict: Callable[[NDArray[np.float32]], Ints]
    num: int
    about: str


def fitted(trained: Trained, own: Own, spec: Evaluation, sink: ConsoleSink, verbose: bool) -> list[Fitted]:
    """What the options ask for, learnt from up to `probe_images` labelled training rows, evenly over them.

    Raises:
        JobError: none of them can be read, or their labels are one class.
    """
    ids = own.labelled[np.unique(np.linspace(0, len(own.labelled) - 1, spec.probe_images).astype(np.int64))]
    with (
        answers(trained, "features", own.rows, ids, spec, verbose) as found,
        closing(told(found, sink, "reading training images", len(ids), num_rows)) as heard,
    ):
        vectors, labels = _gathered(heard, own.rows.labels)
    if len(np.unique(labels)) < 2:
        raise JobError("probe", f"{len(labels)} training images of the run can be read", LEAVE_OUT)
    sink.stage("fitting probes")
    makers = ([_knn] if spec.knn else []) + ([_linear] if spec.probe else [])
    return [make(vectors, labels, spec) for make in makers]


def _gathered(heard: Generator[Answered, None, None], labels: Ids) -> tuple[NDArray[np.float32], Ints]:
    parts = [(answered.values, labels[answered.ids]) for answered in heard]
    return np.concatenate([values for values, _ in parts]), np.concatenate([found for _, found in parts])


def _knn(vectors: NDArray[np.float32], labels: Ints, spec: Evaluation) -> Fitted:
    from sklearn.neighbors import KNeighborsClassifier

    assert spec.knn
    num = min(spec.knn, len(labels))

    def votes(distances: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = np.exp((1 - distances) / _TEMPERATURE)
        return found

    model = KNeighborsClassifier(num, metric="cosine", algorithm="brute", weights=votes).fit(vectors, labels)
    about = f"{num} nearest by cosine, votes exp(cosine / {_TEMPERATURE})"
    return Fitted("knn", model.predict, len(labels), about)


def _linear(vectors: NDArray[np.float32], labels: Ints, spec: Evaluation) -> Fitted:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told below
        model.fit(vectors, labels)
    done = int(model[-1].n_iter_.max())
    end = f"{done} iterations" if done < _ITERATIONS else f"not converged after {done} iterations"
    return Fitted("linear", model.predict, len(labels), f"logistic regression on standardised vectors, C 1, {end}")


def judged(fits: list[Fitted], predicted: list[Ints], y_N: Ints, num_classes: int) -> tuple[Probe, ...]:
    """How often each is right."""
    return tuple(
        Probe(
            kind=fit.kind,
            top1=wilson(found_N == y_N),
            balanced_accuracy=float(macro(confusion(y_N, found_N, num_classes))[0]),
            fitted_images=fit.num,
            about=fit.about,
        )
        for fit, found_N in zip(fits, predicted, strict=True)
    )
