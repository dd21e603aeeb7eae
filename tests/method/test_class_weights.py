"""Factors on the supervised loss by class, and the runs that have rare ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models import batch_of, model_of, spec_of

from raymix.jobfile import load_spec
from raymix.method import steps
from raymix.method.mixing import Pair
from raymix.plan import Facts, Plan, resolve
from raymix.runner import run
from raymix.spec import JobError

FACTS = Facts(num_train=60, num_labelled=40, num_select=0, num_val=5, class_names=("a", "b"), class_rows=(32, 8))


def test_balanced_is_one_on_average_over_the_rows(digits_job: dict[str, Any]) -> None:
    spec = load_spec({**digits_job, "optim": {"class_weights": "balanced"}})
    u_K = steps.class_weights(spec, FACTS)
    assert u_K is not None
    assert u_K.tolist() == [40 / (2 * 32), 40 / (2 * 8)]
    assert (u_K * torch.tensor(FACTS.class_rows)).sum() / 40 == 1
    named = load_spec({**digits_job, "optim": {"class_weights": {"b": 3}}})
    assert torch.equal(steps.class_weights(named, FACTS), torch.tensor([1.0, 3.0]))
    assert steps.class_weights(load_spec(digits_job), FACTS) is None


@pytest.mark.parametrize("kind", ["mix", "sl"])
def test_a_step_weighs_each_row_by_its_class(kind: str) -> None:
    spec = spec_of("mae", "full")
    model, batch, w = model_of(spec), batch_of([0, -1, 3, 1]), torch.tensor(0.0)
    torch.nn.init.normal_(model.h.linear.weight)
    u_K = torch.tensor([2.0, 0.5, 1.0, 3.0, 1.0])
    found = steps.build(spec, model, kind, u_K)(batch, w)[0]
    alone = [
        steps.build(spec, model, kind)(batch._replace(y_B=torch.where(torch.arange(4) == i, batch.y_B, -1)), w)[0]
        for i in (0, 2, 3)
    ]
    torch.testing.assert_close(found, sum(factor * L for factor, L in zip([2.0, 3.0, 0.5], alone, strict=True)))
    ones = steps.build(spec, model, kind, torch.ones(5))(batch, w)[0]
    torch.testing.assert_close(ones, steps.build(spec, model, kind)(batch, w)[0])


def test_a_mixed_image_has_the_factors_of_both() -> None:
    logits, y_B, u_K = torch.randn(3, 2), torch.tensor([0, 1, -1]), torch.tensor([2.0, 0.25])
    pair = Pair(torch.tensor([1, 0, -1]), torch.tensor([0.75, 0.5, 1.0]))
    each = [F.cross_entropy(logits[i : i + 1], torch.tensor([k])) * u_K[k] for i in (0, 1) for k in (0, 1)]
    wanted = 0.75 * each[0] + 0.25 * each[1] + 0.5 * each[3] + 0.5 * each[2]
    torch.testing.assert_close(steps.CrossEntropy(0.0, u_K)(logits, y_B, torch.tensor(1.0), pair), wanted)


def test_unknown_classes_and_streams_are_refused(digits_job: dict[str, Any]) -> None:
    spec = load_spec({**digits_job, "optim": {"batch": 8, "class_weights": {"c": 3}}})
    with pytest.raises(JobError, match=r"^optim.class_weights.c: there is no such class \(there are a, b\)$"):
        resolve(spec, FACTS)
    for wrong in ({"a": 0}, {"a": -1}, "uniform"):
        with pytest.raises(JobError, match=r"^optim.class_weights"):
            load_spec({**digits_job, "optim": {"class_weights": wrong}})
    spec = load_spec({**digits_job, "optim": {"batch": 8}, "data": {**digits_job["data"], "balance": 1}})
    assert resolve(spec, FACTS.model_copy(update={"run": 1})).facts.run == 1
    with pytest.raises(JobError, match=r"^data.balance: images are streamed out of larger files"):
        resolve(spec, FACTS.model_copy(update={"run": 48}))
    with pytest.raises(JobError, match=r"^data.balance: tiles of an image are streamed together"):
        resolve(spec, FACTS.model_copy(update={"run": 12, "tiles": 12}))


def test_a_run_with_rare_classes_counts_and_resumes(digits_job: dict[str, Any], tmp_path: Any) -> None:
    """Balanced both ways: the facts count what the weights need, and a run's folder opens again."""
    rare = tmp_path / "rare.npz"
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [120, 30, 10])
    pixels = rng.integers(0, 80, (160, 8, 8), dtype=np.uint8) + 80 * labels[:, None, None].astype(np.uint8) // 2
    np.savez(rare, images=pixels, labels=labels)
    job = {
        **digits_job,
        "storage": str(tmp_path / "runs"),
        "data": {"train": {"format": "npz", "path": str(rare)}, "image_size": 8, "holdout": 0.2, "balance": 1.0},
        "schedule": {"ssl_epochs": 1, "sl_epochs": 2, "mix_ratio": 0.5},
        "optim": {"batch": 16, "class_weights": "balanced"},
    }
    report = run(load_spec(job), quiet=True)
    facts = Plan.model_validate_json((tmp_path / "runs" / report.name / "plan.json").read_bytes()).facts
    assert facts.class_rows == tuple(round(0.8 * 0.9 * rows) for rows in (120, 30, 10))
    assert sum(facts.class_rows) == facts.num_labelled
    longer = {**job, "schedule": {**job["schedule"], "sl_epochs": 3}}
    assert run(load_spec(longer), resume=True, quiet=True).status == "done"
