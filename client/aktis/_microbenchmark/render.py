"""How results are shown in a terminal."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from rich.table import Table

from .model import Row


@dataclass(slots=True)
class Results:
    """What the rounds gave: values by row, and the reason where a row has none."""

    values: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    not_offered: dict[str, str] = field(default_factory=dict)

    def is_over(self, name: str) -> bool:
        """True when measuring the row again is pointless."""
        return name in self.failures or name in self.not_offered


def format_value(value: float) -> str:
    """At least three significant digits, thousands apart: ``12 345``, ``8.31``."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def results_table(title: str, rows: list[Row], results: Results) -> Table:
    """Median, lowest and highest of each row."""
    table = Table(title=title)
    table.add_column("row")
    for heading in ("median", "lowest", "highest"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    for row in rows:
        got = results.values.get(row.name, [])
        if row.name in results.failures:
            table.add_row(row.name, "-", "-", "-", results.failures[row.name], style="red")
        elif not got:
            table.add_row(row.name, "-", "-", "-", results.not_offered.get(row.name, ""), style="dim")
        else:
            shown = (statistics.median(got), min(got), max(got))
            table.add_row(row.name, *(format_value(value) for value in shown), row.unit)
    return table
