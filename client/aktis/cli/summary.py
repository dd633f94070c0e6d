"""``aktis summary KIND``: how many there are of what, in which states."""

from typing import Any, Final

import click

from aktis.cli.kinds import address_option, ask, cell, say_what_is_missing, timeout_option
from aktis.cli.output import json_option, print_json, print_table

# What the first column is called, and which fields of the summary follow.
_COLUMNS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "actors": ("class", ("state_counts",)),
    "tasks": ("function or method", ("type", "state_counts")),
    "objects": ("call site", ("total_objects", "total_size_mb", "task_state_counts", "ref_type_counts")),
}


@click.command("summary")
@click.argument("kind", type=click.Choice(sorted(_COLUMNS)))
@address_option
@timeout_option
@json_option
def command(kind: str, address: str | None, timeout_s: float, as_json: bool) -> None:
    """Count actors by class, tasks by function, or objects by the way they are held."""
    from aktis.util.state import summarize_actors, summarize_objects, summarize_tasks

    functions = {"actors": summarize_actors, "tasks": summarize_tasks, "objects": summarize_objects}
    cluster: dict[str, Any] = ask(lambda: functions[kind](address, timeout_s, False))["cluster"]
    if as_json:
        print_json(cluster)
    else:
        first, fields = _COLUMNS[kind]
        rows = [[name, *(cell(one[field]) for field in fields)] for name, one in cluster["summary"].items()]
        print_table((first, *fields), rows)
    say_what_is_missing(cluster.get("left_off", 0), cluster.get("silent", ()))
