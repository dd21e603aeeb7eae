"""`raymix cluster`: what a cluster needs to run a job."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from raymix.cli_common import help_alone
from raymix.jobfile import load_spec

cluster_app = typer.Typer(invoke_without_command=True)


class Place(StrEnum):
    """Where manifests are rendered for."""

    KUBERNETES = "kubernetes"


@cluster_app.callback()
def _cluster(context: typer.Context) -> None:
    """What a cluster needs to run a job."""
    help_alone(context)


@cluster_app.command(
    epilog="Example:  raymix cluster render kubernetes jobs/digits.yaml --set cluster.workers=4 | kubectl apply -f -"
)
def render(
    place: Annotated[Place, typer.Argument(metavar="PLACE", help="kubernetes")],
    job: Annotated[str, typer.Argument(metavar="JOB", help="The job's YAML file, or - for standard input.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="As in --set cluster.kubernetes.image=NAME. Repeatable."),
    ] = None,
) -> None:
    """Print manifests fitted to a job: a volume for its runs, the job file, a KubeRay RayJob. Starts nothing."""
    from raymix.manifests import render as rendered

    typer.echo(rendered(load_spec(job, overrides or [])), nl=False)
