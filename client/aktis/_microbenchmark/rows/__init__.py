"""All rows in the order of the table, one module per family."""

from __future__ import annotations

from collections.abc import Iterable

from ..model import Row
from . import actors, collectives, objects, placement, queue, tasks, waiting

ROWS: tuple[Row, ...] = (
    *objects.ROWS,
    *tasks.ROWS,
    *waiting.ROWS,
    *actors.ROWS,
    *queue.ROWS,
    *placement.ROWS,
    *collectives.ROWS,
)


def select_names(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that match any pattern, in their own order; all of them when there is no pattern.

    A pattern is a whole name or, when no name is equal to it, a part of one (case does not matter).
    A pattern that matches nothing is a ``ValueError`` that lists what there is.
    """
    every = list(names)
    chosen: set[str] = set()
    wanted = [pattern.strip().lower() for pattern in patterns if pattern.strip()]
    for pattern in wanted:
        found = [n for n in every if n.lower() == pattern] or [n for n in every if pattern in n.lower()]
        if not found:
            raise ValueError(f"no row matches {pattern!r}; the rows are: " + "; ".join(every))
        chosen.update(found)
    return [name for name in every if name in chosen] if wanted else every


def select_rows(patterns: Iterable[str]) -> list[Row]:
    """The rows of this package that match any pattern (see ``select_names``)."""
    names = set(select_names([row.name for row in ROWS], patterns))
    return [row for row in ROWS if row.name in names]
