"""`raymix plan`: what a job would do and cost, also with other values of a field. Loads neither torch nor ray."""

from __future__ import annotations

import json

import typer

from raymix.cli_common import show
from raymix.jobfile import load_spec
from raymix.report.tables import plan_table, what_if_table
from raymix.runner import forecasts
from raymix.spec import JobError, JobSpec

OPENING, CLOSING = "[{", "]}"


def show_plan(spec: JobSpec, what_if: str | None, allow_import: tuple[str, ...], as_json: bool) -> None:
    """Prints a job's plan and forecast, and a line for each value asked for.

    Raises:
        JobError: a job or its data is wrong, or `what_if` is not FIELD=V1,V2,...
    """
    field, values = parse(what_if) if what_if is not None else ("", [])
    others = [load_spec(spec, [f"{field}={value}"]) for value in values]
    (plan, made), *rest = forecasts([spec, *others], allow_import)
    lines = [(value, forecast) for value, (_, forecast) in zip(values, rest, strict=True)]
    if not as_json:
        show(plan_table(plan, made))
        if lines:
            show(what_if_table(field, lines))
        return
    told = {**plan.model_dump(mode="json"), "forecast": made.model_dump(mode="json")}
    if lines:
        told["what_if"] = [
            {"field": field, "value": value, "forecast": forecast.model_dump(mode="json")} for value, forecast in lines
        ]
    typer.echo(json.dumps(told, indent=2))


def parse(what_if: str) -> tuple[str, list[str]]:
    """The field and its values, which are YAML each: commas within brackets do not part them.

    Raises:
        JobError: there is no field or no value.
    """
    field, sign, text = what_if.partition("=")
    values, depth = [""], 0
    for character in text:
        depth += (character in OPENING) - (character in CLOSING)
        if character == "," and not depth:
            values.append("")
        else:
            values[-1] += character
    values = [value.strip() for value in values]
    if not sign or not field.strip() or not all(values):
        shown = what_if if len(what_if) <= 80 else f"{what_if[:80]}..."
        raise JobError(f"--what-if {shown}", "is not FIELD=V1,V2,...", "for example --what-if optim.batch=128,256")
    return field.strip(), values
