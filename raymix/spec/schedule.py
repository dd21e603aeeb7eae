"""Who gets compute when: the schedules, one a policy, and what a run may cost and is to reach."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AliasChoices, Field, model_validator

from raymix.spec.base import JobError, Seconds, Section, Share

SharedPass = Literal["auto", "masked", "full", "separate"]
WholeRows = Annotated[
    Share,
    Field(
        lt=1,
        description="share of a masked mix batch whose rows also go through the backbone whole, for the classifier, "
        "which then sees these alone; of the labelled rows with data.labelled_share; 0: it shares the masked pass",
    ),
]


class Weight(Section):
    """w in L = w * SSL + (1 - w) * SL over the mix phase; short form {cosine: [1, 0]}."""

    curve: Literal["constant", "linear", "cosine"] = "constant"
    start: float = Field(0.5, ge=0, le=1)
    end: float = Field(0.5, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        """{cosine: [1, 0]} as {curve: cosine, start: 1, end: 0}; {constant: 0.5} the same with one value."""
        if isinstance(data, dict) and len(data) == 1:
            [(curve, ends)] = data.items()
            if curve == "constant" and isinstance(ends, int | float):
                ends = [ends, ends]
            if curve in ("constant", "linear", "cosine") and isinstance(ends, list | tuple) and len(ends) == 2:
                return {"curve": curve, "start": ends[0], "end": ends[1]}
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.curve == "constant" and self.start != self.end:
            problem = f"a constant weight cannot go from {self.start} to {self.end}"
            raise JobError("schedule.weight.curve", problem, "set curve to linear or cosine, or end to start")
        return self


class _Epochs(Section):
    """Epochs of both sides, merged as MixTraining does: mix = mix_ratio * min(ssl_epochs, sl_epochs)."""

    ssl_epochs: float = Field(100, ge=0, le=1e6)
    sl_epochs: float = Field(100, ge=0, le=1e6)
    mix_ratio: float = Field(0.5, ge=0, le=1)
    interleave: Literal["joint", "alternate"] = "joint"
    alternate_steps: int | None = Field(None, ge=1, description="steps a turn of `alternate`; null: whole epochs")
    shared_pass: SharedPass = "auto"
    whole_rows: WholeRows = 0.0
    weight: Weight = Weight()
    sl_drop: float = Field(
        0.0, ge=0, le=1, description="leading share of the SL epochs that sees unmasked patches only"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ssl_epochs + self.sl_epochs == 0:
            raise JobError("schedule.sl_epochs", "ssl_epochs and sl_epochs are both 0", "ask for at least one epoch")
        if self.alternate_steps is not None and self.interleave != "alternate":
            problem = "applies to interleave: alternate only"
            raise JobError("schedule.alternate_steps", problem, "set schedule.interleave=alternate or leave it out")
        if self.interleave == "alternate" and self.weight != Weight():
            problem = "interleave: alternate has no common loss to weigh, each step is all SSL or all SL"
            raise JobError("schedule.weight", problem, "leave it out, or set schedule.interleave=joint")
        return self


class FixedSchedule(_Epochs):
    """The epochs asked for."""

    policy: Literal["fixed"] = "fixed"


class Shares(Section):
    """Shares of the training seconds (or FLOPs) of a budget; they add up to 1."""

    ssl: Share = 0.0
    mix: Share = 0.0
    sl: Share = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.ssl + self.mix + self.sl
        if abs(total - 1) > 1e-6:
            raise JobError("schedule.shares", f"add up to {total:g}", "ssl + mix + sl must be 1")
        if not self.mix + self.sl:
            raise JobError("schedule.shares", "leave nothing for the classifier", "give mix or sl a share")
        return self


class BudgetedSchedule(_Epochs):
    """A budget, spent: under `shares`, or as many epochs as it holds in the proportions of the epochs asked for."""

    policy: Literal["budgeted"]
    shares: Shares | None = Field(None, description="of the phases; null: by ssl_epochs, sl_epochs and mix_ratio")

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        fields = type(self).model_fields  # by value: a plan that is read back has its defaults written out
        asked = [
            name for name in ("mix_ratio", "sl_epochs", "ssl_epochs") if getattr(self, name) != fields[name].default
        ]
        if self.shares is not None and asked:
            raise JobError("schedule.shares", f"says what {asked[0]} says", "leave one of the two out")
        return self


class Duration(Section):
    """How long a phase lasts: 40ep, 500 (steps), 30% (of the run), 10m, or rest."""

    unit: Literal["epochs", "steps", "share", "seconds", "rest"]
    amount: float = Field(0.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, str | int | float):
            return data
        text = str(data).strip()
        if text == "rest":
            return {"unit": "rest"}
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ep|%|s|m|h|d|)", text)
        if not match or (not match[2] and not float(match[1]).is_integer()):
            raise ValueError("is one of 40ep (epochs), 500 (steps), 30% (of the run), 10m (time), rest")
        amount, sign = float(match[1]), match[2]
        if sign in ("ep", "%", ""):
            unit = {"ep": "epochs", "%": "share", "": "steps"}[sign]
            return {"unit": unit, "amount": amount / 100 if sign == "%" else amount}
        return {"unit": "seconds", "amount": amount * {"s": 1, "m": 60, "h": 3600, "d": 86400}[sign]}


class PhaseAsked(Section):
    """One phase of a list."""

    kind: Literal["ssl", "mix", "sl"]
    duration: Duration = Field(validation_alias=AliasChoices("for", "duration"), description="written `for`")
    weight: Weight | None = Field(None, description="w over a mix phase; null: the schedule's")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.weight is not None and self.kind != "mix":
            raise JobError("schedule.phases", f"{self.kind} phases have no weight", "only mix phases weigh two losses")
        return self


class PhasesSchedule(Section):
    """A list of phases, in order."""

    policy: Literal["phases"]
    interleave: ClassVar[str] = "joint"
    alternate_steps: ClassVar[int | None] = None
    sl_drop: ClassVar[float] = 0.0
    phases: tuple[PhaseAsked, ...] = Field(min_length=1)
    shared_pass: SharedPass = "auto"
    whole_rows: WholeRows = 0.0
    weight: Weight = Weight()

    @model_validator(mode="after")
    def _check(self) -> Self:
        units = [phase.duration.unit for phase in self.phases]
        shares = sum(phase.duration.amount for phase in self.phases if phase.duration.unit == "share")
        if units.count("rest") > 1:
            raise JobError("schedule.phases", "`rest` is there more than once", "one phase takes what is left")
        if shares > 1 + 1e-9:
            raise JobError("schedule.phases", f"take {100 * shares:g}% of the run", "100% is all of it")
        if set(units) == {"share"} and shares < 1 - 1e-9:
            raise JobError("schedule.phases", f"take {100 * shares:g}% of the run", "give one of them `for: rest`")
        if set(units) - {"share", "rest"} and "share" in units and "rest" not in units and shares > 1 - 1e-9:
            raise JobError("schedule.phases", "leave nothing for those not in %", "lower the percentages")
        if any(not phase.duration.amount and phase.duration.unit != "rest" for phase in self.phases):
            raise JobError("schedule.phases", "a phase lasts 0", "leave it out")
        return self


class AdaptiveSchedule(Section):
    """SSL, then mix, then SL; when one gives way to the next is decided while training, within a budget."""

    policy: Literal["adaptive"]
    interleave: ClassVar[str] = "joint"
    alternate_steps: ClassVar[int | None] = None
    sl_drop: ClassVar[float] = 0.0
    tail: Share = Field(0.4, gt=0, le=0.6, description="share of the budget kept for SL steps at the end")
    ssl_most: Share = Field(0.5, description="largest share of the budget for ssl steps")
    trials: Share = Field(0.05, lt=0.5, description="share of the budget for supervised trials; 0: none")
    shared_pass: SharedPass = "auto"
    whole_rows: WholeRows = 0.0
    weight: Weight = Weight()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ssl_most + self.tail > 1:
            problem = f"{self.ssl_most:g} for SSL and a tail of {self.tail:g} are more than the budget"
            raise JobError("schedule.ssl_most", problem, "lower one of the two")
        return self


Schedule = Annotated[
    FixedSchedule | BudgetedSchedule | PhasesSchedule | AdaptiveSchedule, Field(discriminator="policy")
]


Currency = Literal["wall", "training", "worker_hours", "money", "flops"]
CURRENCIES: tuple[Currency, ...] = get_args(Currency)


class Budget(Section):
    """What a run may cost, in one currency."""

    wall: Seconds | None = Field(None, gt=0, description="from the command's start to the report, as in 2h")
    training: Seconds | None = Field(
        None, gt=0, description="from the first step to the last, trials and evaluations included: for comparisons"
    )
    worker_hours: float | None = Field(None, gt=0, description="hours that workers are held; GPU-hours with one each")
    money: float | None = Field(None, gt=0, description="at cluster.price_per_worker_hour or cluster.price_file")
    flops: float | None = Field(None, gt=0, description="floating-point operations of the steps")
    on_exhausted: Literal["finish", "stop"] = Field(
        "finish", description="finish: SSL ends early enough for the SL tail; stop: a checkpoint where the budget ends"
    )

    @property
    def currency(self) -> Currency:
        """The one that is set."""
        return next(name for name in CURRENCIES if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        there = [name for name in CURRENCIES if getattr(self, name) is not None]
        if len(there) != 1:
            problem = f"{' and '.join(there)} are both set" if there else "names no amount"
            raise JobError("budget", problem, f"one of {', '.join(CURRENCIES)}")
        return self


class Goal(Section):
    """What ends a run early; both look at the select rows."""

    top1: float | None = Field(None, gt=0, le=100, description="percent of the select rows")
    patience: int | None = Field(None, ge=1, description="evaluations in a row without a new best")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.top1 is None and self.patience is None:
            raise JobError("goal", "names no goal", "set top1, patience or both")
        return self
