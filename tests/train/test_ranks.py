"""Three ranks compute what one process does, wherever the labels lie, and a restarted group what the unbroken one."""

from __future__ import annotations

import pytest
import torch
from ranks import NUM, RUNS, SIZES, Ranks, steps_of
from small_runs import CPU
from test_resume import hashes

from raymix.method.backbones import How
from raymix.train.state import TrainState
from tests.planted import FACTORY


@pytest.mark.parametrize("name", RUNS)
def test_three_ranks_are_one_process(ranks: Ranks, name: str) -> None:
    digits, found = ranks.runs[name], ranks.found
    kinds = [kind for phase in digits.plan.phases for kind, count in phase.turns for _ in range(count)]
    assert {"ssl", "mix", "sl"} <= set(kinds)
    one = steps_of(digits, digits.runtime())
    several = found[0][name]
    assert torch.equal(several.labelled.sum(0), one.labelled[0]), "the same batches, shared out"
    mixed = several.labelled[:, [kind == "mix" for kind in kinds]]
    assert (mixed.sum(0) > 0).any()
    assert ((mixed == 0).any(0) & (mixed > 0).any(0)).any(), "some ranks have labels where others have none"
    torch.testing.assert_close(several.stats, one.stats, rtol=2e-5, atol=2e-5)
    for key, value in one.tensors.items():
        torch.testing.assert_close(several.tensors[key], value, rtol=1e-4, atol=2e-5, msg=lambda m, k=key: f"{k}: {m}")
    fresh = TrainState.fresh(digits.plan, CPU, How((FACTORY,)))
    weights = {f"model.{key}" for key, _ in fresh.model.named_parameters()}
    before = {key: value for key, value in fresh.snapshot().items() if key in weights}
    moved = {key for key, value in before.items() if not torch.equal(value, one.tensors[key])}
    assert moved == set(before), "every weight was trained"


@pytest.mark.parametrize("name", RUNS)
def test_all_ranks_hold_the_same_bits(ranks: Ranks, name: str) -> None:
    found = ranks.found
    for rank in range(1, NUM):
        for key, value in found[0][name].tensors.items():
            assert torch.equal(found[rank][name].tensors[key], value), key


def test_a_step_that_one_rank_finds_not_finite_is_skipped_by_all(ranks: Ranks) -> None:
    """The white image is on one rank; the others' losses of that step are finite, and count no more than its own."""
    for found in ranks.found:
        assert found["skips"].skipped == [1] * NUM
        assert all(bool(value.isfinite().all()) for value in found["skips"].tensors.values())


def test_a_restarted_group_computes_the_same_bits(ranks: Ranks) -> None:
    """DDP rebuilds its buckets after its first backward, which changes the order of a sum over three ranks."""
    assert hashes(ranks.folder / "parts") == hashes(ranks.folder / "whole")


@pytest.mark.parametrize("name", SIZES)
def test_however_many_ranks_there_are_they_take_the_same_rows_in_the_same_order(ranks: Ranks, name: str) -> None:
    one, other = ranks.consumed["1"], ranks.consumed[name]
    num_steps, batch = ranks.runs["mae masked"].plan.num_steps, ranks.runs["mae masked"].plan.spec.batch
    assert other.shares == [batch // size for size, _ in SIZES[name]]
    assert other.ids.shape == (num_steps, batch)
    assert torch.equal(other.ids, one.ids)
    assert len(torch.unique(other.ids)) > batch
    torch.testing.assert_close(other.losses, one.losses, rtol=2e-5, atol=2e-5)
