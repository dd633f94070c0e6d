"""Every row of the table: names, units, and which direction is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aktis._microbenchmark import ROWS
from aktis._microbenchmark.rows import select_names

IMPORT = "import, seconds"
INIT = "init, seconds"
SHUTDOWN = "shutdown, seconds"
CLUSTER_MEMORY = "memory of an idle one-node cluster, MiB"
ACTOR_MEMORY = "memory per idle actor, MiB"


@dataclass(frozen=True, slots=True)
class RowInfo:
    """A row as the report sees it."""

    name: str
    unit: str
    higher_is_better: bool


PROCESS_ROWS = (
    RowInfo(IMPORT, "s", False),
    RowInfo(INIT, "s", False),
    RowInfo(SHUTDOWN, "s", False),
    RowInfo(CLUSTER_MEMORY, "MiB", False),
    RowInfo(ACTOR_MEMORY, "MiB", False),
)

CATALOGUE = (*(RowInfo(row.name, row.unit, True) for row in ROWS), *PROCESS_ROWS)


def select(patterns: Iterable[str]) -> list[RowInfo]:
    """The rows that match any pattern, in the order of the table; ``ValueError`` when one matches nothing."""
    names = set(select_names([row.name for row in CATALOGUE], patterns))
    return [row for row in CATALOGUE if row.name in names]
