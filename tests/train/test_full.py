"""A step that does not fit into the device's memory: one line, the batch that would fit, and no other attempt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import PLAIN, run
from small_runs import CPU, Digits

from raymix.local import LocalRuntime
from raymix.method.backbones import How
from raymix.train import full
from raymix.train.device import name_of
from raymix.train.full import DeviceFull
from tests.planted import FACTORY, backbone

DigitsOf = Callable[..., Digits]
BOTH = {"ssl_epochs": 1, "sl_epochs": 1, "mix_ratio": 0.5}


def asked(digits: DigitsOf, most: int, batch: int = 96, **sections: Any) -> Digits:
    data = {"fraction": 0.3, "holdout": 0.1, "select": 0.1, "augment": PLAIN}
    optim = {"batch": batch, "lr": 2e-3, **sections.pop("optim", {})}
    return digits(data=data, schedule=BOTH, optim=optim, backbone=backbone(most=most), **sections)


class Several(LocalRuntime):
    """A rank that says it is one of two; nobody answers for the other."""

    world = 2


@pytest.mark.parametrize(
    ("most", "optim", "asks", "fits"),
    [(80, {}, 96, "78"), (24, {"accumulate": 2}, 48, "48"), (0, {}, 2, "")],  # FLOPs are counted on two images
)
def test_the_line_says_which_batch_would_fit(
    digits: DigitsOf, most: int, optim: dict[str, Any], asks: int, fits: str, tmp_path: Path
) -> None:
    """Halved until it fits, then three more are tried; in parts a step holds no more than a part."""
    with pytest.raises(DeviceFull) as caught:
        run(asked(digits, most, optim=optim), tmp_path)
    parts = optim.get("accumulate", 1)
    hint = f"{fits} would fit: set optim.batch={fits}" if fits else "nor does any smaller batch"
    assert str(caught.value) == (
        f"optim.batch: 96 images a step do not fit into the memory of {name_of(CPU)}, "
        f"which asked for {asks}.00 MiB more; {hint}, or optim.accumulate={2 * parts} or speed.recompute=true"
    )
    assert caught.value.__context__ is None, "nothing that the failed step made is held"


def test_what_the_line_names_does_fit(digits: DigitsOf) -> None:
    made = asked(digits, most=80)
    fits = full.fitting(made.plan, made.splits, made.runtime(), How((FACTORY,)))
    assert fits is not None
    assert run(asked(digits, most=80, batch=fits), None)[0].complete
    assert run(asked(digits, most=80, optim={"accumulate": 2}), None)[0].complete


def test_of_several_workers_the_line_names_half(digits: DigitsOf) -> None:
    """Nothing can be tried: the others wait in the step that failed here."""
    made, runtime = asked(digits, most=10, speed={"recompute": True}), digits().runtime()
    several = Several(runtime.supply, CPU, runtime.sink)
    line = full.explain("CUDA out of memory.", made.plan, made.splits, several, How((FACTORY,)))
    assert line.endswith("; try 48, or optim.accumulate=2")


def test_other_words_of_allocators_are_understood() -> None:
    def raised(error: Exception, cause: Exception | None = None) -> str | None:
        try:
            raise error from cause
        except Exception as caught:
            return full.said(caught)

    assert raised(torch.OutOfMemoryError("CUDA out of\nmemory.")) == "CUDA out of memory."
    assert raised(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling")) is not None
    assert raised(RuntimeError("operation failed due to a previous error"), torch.OutOfMemoryError("full")) == "full"
    assert raised(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert raised(ValueError("out of memory")) is None


def test_a_host_that_cannot_give_as_much_says_so(digits: DigitsOf) -> None:
    """What torch's allocator for CPUs really says."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert full.said(caught.value) is not None
