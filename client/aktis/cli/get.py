"""``aktis get KIND ID``: everything that is known of one thing."""

import click

from aktis.cli.kinds import address_option, ask, cell, kind_of, say_what_is_missing, timeout_option
from aktis.cli.output import fail, json_option, print_json, print_table


@click.command("get")
@click.argument("kind")
@click.argument("id_", metavar="ID")
@address_option
@timeout_option
@json_option
def command(kind: str, id_: str, address: str | None, timeout_s: float, as_json: bool) -> None:
    """Show an actor, job, node, placement_group, runtime_env or worker, all attempts of a task, or who holds
    an object.
    """
    from aktis.util.state.api import listing
    from aktis.util.state.kinds import MAX_LIMIT
    from aktis.util.state.source import source_of

    chosen = kind_of(kind)
    conditions = [(chosen.id_field, "=", id_)]
    found = ask(lambda: listing(chosen, source_of(address), conditions, MAX_LIMIT, timeout_s))
    say_what_is_missing(0, found.silent)
    if not found:
        fail(f"there is no {chosen.singular} {id_}, or it is forgotten: see `aktis list {chosen.plural}`")
    if as_json:
        print_json([record.asdict() for record in found])
        return
    for record in found:
        print_table(("field", "value"), [[name, cell(record[name])] for name in record])
