"""What one item costs at 1x, 10x and 100x: ``python -m benchmarks.growth``.

The cost of one item should not grow with their number. Run it with the peers' interpreter and
``--system ray`` to see the same for Ray.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aktis._microbenchmark.measure import rate
from aktis._microbenchmark.render import format_value
from aktis._microbenchmark.rows import select_names
from rich.console import Console
from rich.table import Table

from benchmarks.rows.growth import GROWTH_ROWS, GrowthRow

FACTORS = (1, 10, 100)

Costs = dict[str, dict[int, float]]
"""Microseconds per item, by row and factor."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 when an item's cost grew more than allowed, 2 for wrong arguments."""
    arguments = _parse(argv)
    try:
        names = set(select_names([row.name for row in GROWTH_ROWS], arguments.rows))
    except ValueError as error:
        print(f"benchmarks.growth: {error}", file=sys.stderr)
        return 2
    rows = [row for row in GROWTH_ROWS if row.name in names]
    api: Any = importlib.import_module(arguments.system)
    api.init(num_cpus=arguments.num_cpus)
    try:
        costs = _measure(api, rows, arguments)
    finally:
        api.shutdown()
    Console().print(_table(rows, costs, arguments.allowed))
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"system": arguments.system, "us_per_item": costs}, indent=2) + "\n"
        )
    return 1 if any(growth(costs[row.name]) > arguments.allowed for row in rows) else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks.growth", description=__doc__)
    parser.add_argument("--rows", nargs="*", default=[], help="names of rows or parts of names (all)")
    parser.add_argument("--system", default="aktis", help="the api module (aktis)")
    parser.add_argument("--seconds", type=float, default=1.0, help="measured time per row and size (1)")
    parser.add_argument("--num-cpus", type=int, default=max(2, os.cpu_count() or 2))
    parser.add_argument(
        "--allowed", type=float, default=2.0, help="growth of the cost that is still right (2)"
    )
    parser.add_argument("--json", type=Path, help="write the results there, too")
    return parser.parse_args(argv)


def _measure(api: Any, rows: list[GrowthRow], arguments: argparse.Namespace) -> Costs:
    costs: Costs = {}
    with Console(stderr=True).status("") as status:
        for row in rows:
            for factor in FACTORS:
                status.update(f"{row.name}, {factor}x")
                load = row.prepare(api, row.base * factor)
                try:
                    items_per_s = rate(load, arguments.seconds, arguments.seconds / 4).value
                finally:
                    load.close()
                costs.setdefault(row.name, {})[factor] = 1e6 / items_per_s
    return costs


def growth(costs: dict[int, float]) -> float:
    """How many times more one item costs at the largest size than at the cheaper of the smaller ones.

    The smallest size carries the fixed cost of a call, so being cheaper than that alone proves nothing.
    """
    largest = max(costs)
    return costs[largest] / min(cost for factor, cost in costs.items() if factor != largest)


def _table(rows: list[GrowthRow], costs: Costs, allowed: float) -> Table:
    table = Table("row", title="microseconds per item")
    for factor in FACTORS:
        table.add_column(f"{factor}x", justify="right")
    table.add_column("growth", justify="right")
    for row in rows:
        found = costs[row.name]
        grown = growth(found)
        cells = (format_value(found[factor]) for factor in FACTORS)
        style = "bold red" if grown > allowed else ""
        table.add_row(f"{row.name} (1x = {row.base})", *cells, f"{grown:.2f}", style=style)
    return table


if __name__ == "__main__":
    sys.exit(main())
