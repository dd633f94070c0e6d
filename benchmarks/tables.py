"""Results in a terminal."""

from __future__ import annotations

from aktis._microbenchmark.render import format_value
from rich.table import Table

from benchmarks.floors import Finding, Verdict
from benchmarks.results import Results

STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.NO_DATA: "yellow"}


def results_table(results: Results) -> Table:
    """One line per row: the median of every system, and how many times better Aktis is than the peers."""
    peers = [name for name in results.systems if name not in ("aktis", "limit")]
    table = Table(title="medians of the rounds; ratios are medians of the ratios within each round")
    table.add_column("row", overflow="fold")
    for name in results.systems:
        table.add_column(name, justify="right", style="bold" if name == "aktis" else "")
    for name in (peer for peer in peers if "aktis" in results.systems):
        table.add_column(f"x {name}", justify="right", style="cyan")
    for row in results.rows:
        cells = [_median(results, row.name, name) for name in results.systems]
        if "aktis" in results.systems:
            ratios = [results.ratio(row, "aktis", name) for name in peers]
            cells += [f"{ratio.median:.3g}" if ratio else "" for ratio in ratios]
        unit = "" if row.name.endswith((row.unit, "seconds", "per second")) else f" [dim]{row.unit}[/dim]"
        table.add_row(row.name + unit, *cells)
    return table


def _median(results: Results, row: str, system: str) -> str:
    if row in results.failures.get(system, {}):
        return "[red]failed[/red]"
    summary = results.summary(row, system)
    return format_value(summary.median) if summary else ""


def check_table(findings: list[Finding]) -> Table:
    """Pass or fail for each number."""
    table = Table(title="numbers to reach")
    for heading in ("row", "floor", "measured", "verdict"):
        table.add_column(heading)
    for finding in findings:
        style = STYLES[finding.verdict]
        table.add_row(
            finding.floor.row, str(finding.floor), finding.measured, finding.verdict.value, style=style
        )
    return table
