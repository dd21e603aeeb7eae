"""What the parts of the command line share: options, help on its own, a table on a terminal or in a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Let Ray's own log lines through.")]


def help_alone(context: typer.Context) -> None:
    """The help of a group of commands that was called without one of them."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def show(table: RenderableType) -> None:
    """Prints a table; in a pipe as wide as it wants to be."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)  # a pipe has no edge to wrap at
    console.print(table)
