"""The command: runs the rows on a cluster and prints a table."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from .measure import measure_row
from .model import Api, NotOfferedError, Row
from .render import Results, results_table
from .rows import ROWS, select_rows


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``aktis microbenchmark``; returns the exit status (0, or 1 when a row failed)."""
    arguments = _parse(argv)
    if arguments.list:
        Console().print("\n".join(f"{row.name}  [{row.unit}]" for row in ROWS), markup=False)
        return 0
    try:
        rows = select_rows(arguments.rows)
    except ValueError as error:
        print(f"aktis microbenchmark: {error}", file=sys.stderr)
        return 2
    console = Console(stderr=True)
    with _cluster(arguments.address, arguments.num_cpus) as api:
        results = _run(api, rows, arguments, console)
    Console().print(results_table("aktis microbenchmark", rows, results))
    if arguments.json:
        document = {"units": {row.name: row.unit for row in rows}, **asdict(results)}
        Path(arguments.json).write_text(json.dumps(document, indent=2) + "\n")
    return 1 if results.failures else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("aktis microbenchmark", description=__doc__)
    parser.add_argument("--rows", nargs="*", default=[], help="names of rows or parts of names (all)")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time per row and round (2)")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before each measurement (0.5)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements per row; the median is shown (3)")
    parser.add_argument(
        "--clients", type=int, default=max(2, os.cpu_count() or 2), help="what 'several' means"
    )
    parser.add_argument("--address", default=None, help="a running cluster (default: one embedded here)")
    parser.add_argument("--num-cpus", type=int, default=None, help="CPUs of the embedded cluster (all)")
    parser.add_argument("--json", metavar="FILE", help="also write the results there")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1 or arguments.seconds <= 0 or arguments.warmup < 0 or arguments.clients < 1:
        parser.error("--rounds and --clients must be at least 1, --seconds > 0, --warmup >= 0")
    return arguments


@contextmanager
def _cluster(address: str | None, num_cpus: int | None) -> Iterator[Api]:
    """The api module, connected; disconnected (and an embedded cluster stopped) at the end."""
    api = importlib.import_module("aktis")
    if address is not None:
        api.init(address=address)
    else:
        api.init(num_cpus=num_cpus)
    try:
        yield cast(Api, api)
    finally:
        api.shutdown()


def _run(api: Api, rows: list[Row], arguments: argparse.Namespace, console: Console) -> Results:
    """All rounds of all rows."""
    results = Results(values={row.name: [] for row in rows})
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(rows) * arguments.rounds)
        for _ in range(arguments.rounds):
            for row in rows:
                progress.update(bar, description=row.name)
                if not results.is_over(row.name):
                    _measure_into(results, api, row, arguments)
                progress.advance(bar)
    return results


def _measure_into(results: Results, api: Api, row: Row, arguments: argparse.Namespace) -> None:
    """One measurement; one broken row must not hide the others, so its error becomes a result."""
    try:
        value = measure_row(api, row, arguments.clients, arguments.seconds, arguments.warmup).value
        results.values[row.name].append(value)
    except NotOfferedError as absence:
        results.not_offered[row.name] = str(absence)
    except Exception as error:
        results.failures[row.name] = f"{type(error).__name__}: {error}"
