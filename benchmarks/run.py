"""Runs the benchmark: every system in a process of its own, in turn, several rounds.

python -m benchmarks.run                           all rows, all systems
python -m benchmarks.run --rows tasks "put, GB/s" --systems aktis,ray --rounds 5
python -m benchmarks.run --check                   also compares with the numbers to reach
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from benchmarks import catalogue, chart, floors, machine
from benchmarks.catalogue import RowInfo
from benchmarks.harness import become_subreaper, run_system
from benchmarks.peers import environment
from benchmarks.protocol import Event, Request
from benchmarks.results import Results
from benchmarks.systems.registry import SYSTEMS, System, select_systems
from benchmarks.tables import check_table, results_table


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 when a floor is missed or a row failed, 2 for wrong arguments."""
    arguments = _parse(argv)
    try:
        rows = catalogue.select(arguments.rows)
        systems = select_systems(arguments.systems)
    except ValueError as error:
        print(f"benchmarks.run: {error}", file=sys.stderr)
        return 2
    if arguments.list:
        print("\n".join(f"{row.name}  [{row.unit}]" for row in rows))
        return 0
    facts = machine.facts()
    peers = environment.ensure() if any(not system.own for system in systems) else Path(sys.executable)
    facts["versions"] = {"aktis": machine.own_version(), **machine.versions(peers, environment.PACKAGES)}
    results = _measure(rows, systems, peers, arguments)
    return _report(results, facts, arguments)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "benchmarks.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    processors = max(2, os.cpu_count() or 2)
    parser.add_argument("--rows", nargs="*", default=[], help="names of rows or parts of names (all)")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"from {','.join(SYSTEMS)} (all)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each system runs (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time per row and round (2)")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before each measurement (0.5)")
    parser.add_argument(
        "--clients", type=int, default=processors, help=f"what 'several' means ({processors})"
    )
    parser.add_argument("--num-cpus", type=int, default=processors, help=f"CPUs of a cluster ({processors})")
    parser.add_argument(
        "--row-timeout", type=float, default=120, help="seconds until a row is given up (120)"
    )
    parser.add_argument(
        "--json", type=Path, default=Path("build/benchmarks.json"), help="where the results go"
    )
    parser.add_argument(
        "--chart", type=Path, default=Path("build/benchmarks.svg"), help="where the chart goes"
    )
    parser.add_argument("--check", action="store_true", help="compare with the numbers to reach; 1 if missed")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    arguments = parser.parse_args(argv)
    if min(arguments.rounds, arguments.clients, arguments.num_cpus) < 1:
        parser.error("--rounds, --clients and --num-cpus must be at least 1")
    if arguments.seconds <= 0 or arguments.warmup < 0 or arguments.row_timeout <= 0:
        parser.error("--seconds and --row-timeout must be > 0, --warmup >= 0")
    return arguments


def _measure(
    rows: list[RowInfo], systems: list[System], peers: Path, arguments: argparse.Namespace
) -> Results:
    """All rounds of all systems, with a live display."""
    become_subreaper()
    results = Results(rows, [system.name for system in systems])
    names = tuple(row.name for row in rows)
    log: Path = arguments.json.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    console = Console(stderr=True)
    console.print(f"what the systems print goes to {log}", style="dim")
    with _progress(console, arguments.rounds * len(systems)) as advance:
        for round_number in range(1, arguments.rounds + 1):
            for system in turn_order(systems, round_number):
                show = advance(f"round {round_number}/{arguments.rounds}  {system.name}")
                request = Request(
                    system.name,
                    names,
                    arguments.seconds,
                    arguments.warmup,
                    arguments.clients,
                    arguments.num_cpus,
                )
                python = Path(sys.executable) if system.own else peers
                outcome = run_system(python, request, log, arguments.row_timeout, show)
                results.add(system.name, round_number, outcome)
    return results


def turn_order(systems: list[System], round_number: int) -> list[System]:
    """The systems in this round's order: each round begins with the next, so that none is always first."""
    first = (round_number - 1) % len(systems)
    return systems[first:] + systems[:first]


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Any]:
    """Yields a function: given a label, begins the next turn and returns what shows its events."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("", total=total, completed=-1)

        def begin(label: str) -> Any:
            progress.update(bar, advance=1, description=label)

            def show(event: Event) -> None:
                progress.update(bar, description=f"{label}: {event.row}")
                if not console.is_terminal and event.kind == "value":
                    console.print(f"{label}: {event.row}: {event.value:.4g}", markup=False, highlight=False)

            return show

        yield begin


def _report(results: Results, facts: dict[str, Any], arguments: argparse.Namespace) -> int:
    """Writes the files, prints the tables, returns the exit status."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    settings = {"systems": results.systems, "rounds": arguments.rounds, "seconds": arguments.seconds}
    settings |= {"warmup_s": arguments.warmup, "clients": arguments.clients, "num_cpus": arguments.num_cpus}
    document = results.to_document(settings, facts)
    findings = floors.check(results)
    document["check"] = [
        {"row": f.floor.row, "floor": str(f.floor), "measured": f.measured, "verdict": f.verdict.value}
        for f in findings
    ]
    for path in (arguments.json, arguments.chart):
        path.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    machine_name = f"{facts['processor']}, {facts['processors']} processors"
    subtitle = f"{machine_name}, {facts['started'][:10]}, {facts['revision']}"
    arguments.chart.write_text(chart.draw(results, subtitle))
    console.print(results_table(results))
    for system, failures in results.failures.items():
        for row, text in failures.items():
            console.print(f"{system}: {row or 'the process'}: {text.strip()}", style="red", markup=False)
    for system, names in results.left_behind.items():
        console.print(f"{system} left processes behind: {', '.join(names)}", style="yellow", markup=False)
    if arguments.check:
        console.print(check_table(findings))
    console.print(f"results: {arguments.json}   chart: {arguments.chart}", markup=False)
    missed = any(finding.verdict is not floors.Verdict.PASS for finding in findings)
    missed |= bool(results.left_behind.get("aktis"))  # a runtime that is shut down leaves nothing
    return 1 if (arguments.check and missed) or results.has_failures() else 0


if __name__ == "__main__":
    sys.exit(main())
