"""What `aktis list`, `get` and `summary` share: the cluster, the kinds of things, records in text."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aktis.cli.output import fail

if TYPE_CHECKING:
    from aktis.util.state.kinds import Kind
    from aktis.util.state.records import Record

T = TypeVar("T")

address_option = click.option(
    "--address", help='"auto", "unix:/path/raylet.sock" or "host:port" [the current cluster]'
)
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    help="How long the cluster may take, in seconds.",
)


def kind_of(name: str) -> "Kind[Record]":
    """Return a kind by its name, in singular or plural; end the command when there is none."""
    from aktis.util.state.kinds import KINDS

    wanted = name.replace("-", "_")
    found = [kind for kind in KINDS if wanted in (kind.plural, kind.singular)]
    if not found:
        known = ", ".join(kind.plural for kind in KINDS)
        fail(f"there is nothing called {name!r} to look at; there are {known}")
    return found[0]


def ask(question: Callable[[], T]) -> T:
    """Return what a question returns; end the command with its error."""
    from aktis.exceptions import AktisError

    try:
        return question()
    except (AktisError, ConnectionError, TypeError, ValueError) as error:
        fail(str(error))


def cell(value: Any) -> str:
    """Return a field's value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {cell(one)}" for name, one in value.items()) or "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def say_what_is_missing(left_off: int, silent: Sequence[str]) -> None:
    """Say on stderr what the answer lacks, if it lacks anything."""
    if left_off:
        click.echo(f"aktis: {left_off} more are left out; --limit and --filter choose", err=True)
    if silent:
        click.echo(f"aktis: no answer in time from {', '.join(silent)}", err=True)
