"""``aktis list KIND``: records of one kind as a table or as JSON."""

import click

from aktis.cli.kinds import address_option, ask, cell, kind_of, say_what_is_missing, timeout_option
from aktis.cli.output import fail, json_option, print_json, print_table


@click.command("list")
@click.argument("kind")
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="FIELD=VALUE",
    help="May be repeated; FIELD!=VALUE excludes.",
)
@click.option("--limit", type=int, default=100, show_default=True, help="How many, at most 10000.")
@click.option("--detail", is_flag=True, help="Every field instead of the most important ones.")
@address_option
@timeout_option
@json_option
def command(
    kind: str,
    filters: tuple[str, ...],
    limit: int,
    detail: bool,
    address: str | None,
    timeout_s: float,
    as_json: bool,
) -> None:
    """List actors, jobs, nodes, objects, placement_groups, runtime_envs, tasks or workers."""
    from aktis.util.state.api import listing
    from aktis.util.state.source import source_of

    chosen = kind_of(kind)
    conditions = [parse_filter(one) for one in filters]
    found = ask(lambda: listing(chosen, source_of(address), conditions, limit, timeout_s))
    if as_json:
        print_json([record.asdict() for record in found])
    else:
        columns = chosen.record.names() if detail else chosen.columns
        print_table(columns, [[cell(record[name]) for name in columns] for record in found])
    say_what_is_missing(found.left_off, found.silent)


def parse_filter(text: str) -> tuple[str, str, str]:
    """Return ``("field", "=" or "!=", "value")``; end the command when the text has another form."""
    name, separator, value = text.partition("=")
    operator = "!=" if name.endswith("!") else "="
    name = name.removesuffix("!").strip()
    if not separator or not name:
        fail(f"--filter must be FIELD=VALUE or FIELD!=VALUE, got {text!r}")
    return name, operator, value.strip()
