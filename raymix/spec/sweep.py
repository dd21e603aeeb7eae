"""The `sweep` section: with which shares of the images and of the labels the arms are compared."""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator

from raymix.spec.base import JobError

SweepAxis = Literal["data.fraction", "data.label_fraction"]
SWEEP_AXES: tuple[SweepAxis, ...] = get_args(SweepAxis)
_SHAPE = "as in sweep: {data.label_fraction: [0.1, 0.25, 0.5, 1.0]}"


def _grid(value: Any) -> Any:
    """The grid, or the one line that says what is wrong with it: pydantic would put dotted keys in quotes."""
    if not isinstance(value, dict):
        raise JobError("sweep", "must be a section of axes", _SHAPE)
    if not value:
        raise JobError("sweep", "names no axis", _SHAPE)
    for axis, shares in value.items():
        where = f"sweep.{axis}"
        if axis not in SWEEP_AXES:
            close = difflib.get_close_matches(str(axis), SWEEP_AXES, n=1)
            hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(SWEEP_AXES)}"
            raise JobError(where, "unknown key", hint)
        if not isinstance(shares, list | tuple) or not shares:
            raise JobError(where, f"must be a list of shares, not {json.dumps(shares)}", _SHAPE)
        for share in shares:
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
                raise JobError(where, f"must be above 0 and at most 1, not {json.dumps(share)}")
        if len({share_text(share) for share in shares}) < len(shares):
            raise JobError(where, "a share is named twice", "name each once")
    return {axis: tuple(float(share) for share in shares) for axis, shares in value.items()}


def share_text(share: float) -> str:
    """A share as the name of a cell has it."""
    return f"{share:g}"


Sweep = Annotated[dict[SweepAxis, tuple[float, ...]], BeforeValidator(_grid)]
