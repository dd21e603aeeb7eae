"""The `pilot` section: which ways to train are compared, at which lengths, with how many seeds."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from raymix.spec.base import Folder, JobError, Section

Arm = Literal["sl", "ssl_sl", "ssl_sl_one", "ssl_sl_drop", "mix"]
ARMS: tuple[Arm, ...] = get_args(Arm)
PRETRAINED = "pretrained"  # sl from given weights; where there are some
ArmName = Annotated[
    str,
    WithJsonSchema({"anyOf": [{"enum": [*ARMS, PRETRAINED]}, {"type": "string", "description": "of pilot.define"}]}),
]
# fields that are the same for all arms: what begins so -> why
SHARED = {
    "name": "each run has its own",
    "seed": "seeds are paired",
    "storage": "it is the whole pilot's",
    "cluster": "all arms have the same workers",
    "checkpoint": "it is the whole pilot's",
    "failures": "it is the whole pilot's",
    "speed": "arms are compared on the same build and compilation",
    "optim.precision": "arms are compared in the same precision",
    "budget": "it would end runs that are compared at equal seconds",
    "goal": "it would end runs that are compared at equal seconds",
    "metric": "all arms must be judged alike",
    "report": "it is no part of a single run",
    "pilot": "it is the comparison itself",
    "tune": "it is no part of a single run",
    "sweep": "it is no part of a single run",
    "schedule.policy": "arms are scaled to equal seconds, which policy: fixed allows",
    "backbone": "all arms train the same one; compare backbones by a pilot of each",
    "evaluate.every": "select rows are read equally often",
    "evaluate.max_share": "select rows are read equally often",
    **{
        f"data.{field}": "all arms share images, rows and splits"
        for field in (
            *("train", "unlabelled", "val", "holdout", "select", "split_seed", "keep_splits", "group", "fraction"),
            *("label_fraction", "image_size", "store_size", "region", "tile", "channels", "cache", "max_bad_fraction"),
            "near_duplicates",
        )
    },
}
# fields of shared sections that an arm may set all the same: they change how a model is trained, not which
RECIPE = ("backbone.drop_path",)
SEEDS, MOST_SEEDS, DEFAULT = 5, 1000, "default"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_SHAPE = "as in {hot: {base: mix, set: {optim.lr: 2e-3}}}"


class Defined(Section):
    """An arm of the user's own: one of the built-in ones, with other values in some fields."""

    base: Arm = "mix"
    set: dict[str, Any] = Field(min_length=1, description="field of the job -> value, as in schedule.mix_ratio: 0.8")
    tried: int = Field(1, ge=1, description="configurations among which it was chosen; the report tells it")

    @property
    def trained(self) -> tuple[Arm, dict[str, Any]]:
        """What it trains, however it was found."""
        return self.base, self.set

    @property
    def words(self) -> str:
        """What it is: mix with optim.lr = 0.002."""
        return f"{self.base} with " + ", ".join(f"{path} = {json.dumps(value)}" for path, value in self.set.items())


def _defined(value: Any) -> Any:
    """The arms that are defined, or the one line that says what is wrong with them."""
    if not isinstance(value, dict):
        raise JobError("pilot.define", "must be a section of arms", _SHAPE)
    for name, arm in value.items():
        where = f"pilot.define.{name}"
        if name in (*ARMS, PRETRAINED):
            raise JobError(where, "is the name of a built-in arm", "take another name")
        if not _NAME.fullmatch(name):
            raise JobError(where, "an arm's name has letters, digits, '_' and '-', the first a letter, at most 40")
        if isinstance(arm, Defined):
            continue
        if not isinstance(arm, dict):
            raise JobError(where, "must be a section with base and set", _SHAPE)
        for key in arm:
            if key not in Defined.model_fields:
                raise JobError(f"{where}.{key}", "unknown key", _near(key, tuple(Defined.model_fields), "known here"))
        if (base := arm.get("base", "mix")) not in ARMS:
            raise JobError(f"{where}.base", f"unknown value {json.dumps(base)}", _near(base, ARMS, "one of"))
        if not isinstance(arm.get("set"), dict) or not arm["set"]:
            raise JobError(f"{where}.set", "must name a field at least", _SHAPE)
        for path in arm["set"]:
            _check_path(f"{where}.set.{path}", path, arm["set"])
    return value


def _check_path(where: str, path: str, others: dict[str, Any]) -> None:
    for shared, why in () if path in RECIPE else SHARED.items():
        if path == shared or path.startswith(f"{shared}."):
            raise JobError(where, f"no arm has a {shared} of its own: {why}", "leave it out")
        if shared.startswith(f"{path}."):
            raise JobError(where, f"would set {shared}, too: {why}", f"name single fields, as in {path}.FIELD")
    for other in others:
        if path.startswith(f"{other}."):
            raise JobError(where, f"is inside {other}, which is set as well", "leave one of the two out")


def _seeds(value: Any) -> Any:
    """How many seeds, or the one line that says what is wrong with the table of them."""
    if not isinstance(value, dict):
        return value
    for arm, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_SEEDS:
            problem = f"must be a whole number from 1 to {MOST_SEEDS}, not {json.dumps(number, default=str)}"
            raise JobError(f"pilot.seeds.{arm}", problem)
        if number < (fewest := value.get(DEFAULT, SEEDS)):
            hint = "more seeds may be asked of an arm, not fewer: pairs need them"
            raise JobError(f"pilot.seeds.{arm}", f"is below {DEFAULT}, which is {fewest}", hint)
    return value


def _near(value: Any, known: tuple[str, ...], otherwise: str) -> str:
    close = difflib.get_close_matches(str(value), known, n=1)
    return f"did you mean {close[0]}?" if close else f"{otherwise} {', '.join(known)}"


class Pilot(Section):
    """Which ways to train are compared, and how often."""

    preset: Literal["quick", "full"] = Field("full", description="quick: one seed, one length; it decides nothing")
    arms: tuple[ArmName, ...] = Field(
        ARMS,
        min_length=1,
        description="those that are built in, pretrained, names of pilot.define; default: all that there are",
    )
    weights: Folder | None = Field(
        None,
        description="for the arm pretrained, a run or a file as backbone.weights takes it; the other arms start anew",
    )
    define: Annotated[dict[str, Defined], BeforeValidator(_defined)] = Field(
        {}, description="arms of your own: name -> {base: a built-in arm, set: {field: value}}"
    )
    seeds: Annotated[
        Annotated[int, Field(ge=1, le=MOST_SEEDS)] | dict[str, int],
        BeforeValidator(_seeds),
    ] = Field(
        SEEDS,
        description="paired seeds: the job's seed and the ones that follow it; or a table, as in {default: 5, mix: 8}: "
        "more for these arms, at T alone",
    )
    merge: tuple[Folder, ...] = Field(
        (),
        description="copies of this pilot: with --resume, what they finished on the same device is taken over",
    )
    lengths: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1 / 1.29, 1.0, 2.0),
        description="multiples of T, 1 among them; the shortest of the default is the paper's speed-up",
    )
    concurrent: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        1, description="runs side by side, after step times were measured alone; auto: as many as the cluster holds"
    )
    retries: int = Field(1, ge=0, le=100, description="of a run that fails, each from its last checkpoint")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for arm in self.arms:
            if arm not in (*ARMS, PRETRAINED, *self.define):
                problem = f"unknown value {json.dumps(arm)}"
                raise JobError("pilot.arms", problem, _near(arm, (*ARMS, PRETRAINED, *self.define), "one of"))
        if PRETRAINED in self.arms and self.weights is None:
            problem = f"{PRETRAINED} fine-tunes given weights, and there are none"
            raise JobError("pilot.arms", problem, "set pilot.weights to a .safetensors file or a run, or leave it out")
        for arm in self.seeds if isinstance(self.seeds, dict) else ():
            if arm not in (known := (DEFAULT, *self.compared)):
                raise JobError(f"pilot.seeds.{arm}", "is no arm that is compared", _near(arm, known, "one of"))
        if len(set(self.arms)) != len(self.arms):
            raise JobError("pilot.arms", "an arm is named twice", "name each arm once")
        if len({round(length, 2) for length in self.lengths}) != len(self.lengths):
            raise JobError("pilot.lengths", "two of them are within a hundredth of T", "name each length once")
        if 1.0 not in self.lengths:
            raise JobError("pilot.lengths", "1 is not among them, the length of the verdict", "add it: [0.775, 1, 2]")
        return self

    @property
    def compared(self) -> tuple[str, ...]:
        """The arms that are named; where that is left as it is by default, all that there are."""
        if self.arms != ARMS:
            return self.arms
        return (*self.arms, *([] if self.weights is None else [PRETRAINED]), *self.define)

    def tried_of(self, arms: Iterable[str]) -> dict[str, int]:
        """Among how many configurations each arm was chosen; 1: it was not tuned."""
        return {arm: self.define[arm].tried if arm in self.define else 1 for arm in arms}

    def seeds_of(self, arm: str, length: float = 1.0) -> int:
        """How many seeds of an arm are run at a length, a multiple of T."""
        if self.preset == "quick":
            return 1
        if not isinstance(self.seeds, dict):
            return self.seeds
        default = self.seeds.get(DEFAULT, SEEDS)
        return self.seeds.get(arm, default) if length == 1.0 else default

    def pairs(self, arms: tuple[str, ...]) -> dict[str, int]:
        """The seeds at T that each arm shares with mix; without mix, whose rival is not known yet, each arm's own."""
        lead = self.seeds_of("mix") if "mix" in arms else MOST_SEEDS
        others = [arm for arm in arms if arm != "mix"] or list(arms)
        return {arm: min(lead, self.seeds_of(arm)) for arm in others}
