"""How commands speak: tables in a terminal, JSON for scripts, one line for an error."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import click


def print_json(value: Any) -> None:
    """Print a value for scripts."""
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table that fits the terminal; plain text when the output is not one."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table, markup=False)


def fail(message: str, status: int = 1) -> NoReturn:
    """End the command with an error that says what happened and what to do."""
    click.echo(f"aktis: error: {message}", err=True)
    raise SystemExit(status)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
