"""The command line: ``python -m examples.wordcount --help``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from . import baseline, corpus, job, report


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 when the result is right, 1 when it is wrong, 2 for unusable input."""
    arguments = parse(argv)
    console = Console(width=None if sys.stdout.isatty() else 120)
    times = job.Times()
    try:
        text = times.measure("read", lambda: corpus.read(arguments.source))
    except (OSError, ValueError) as error:
        print(f"wordcount: {error}", file=sys.stderr)
        return 2
    api = importlib.import_module(arguments.system)
    times.measure("start", lambda: _start(api, arguments))
    try:
        result = _run(api, text, arguments, times, console)
        api.timeline(filename=str(arguments.timeline))
    finally:
        api.shutdown()
    try:
        _check(text, result, times, console)
    except baseline.WrongResultError as error:
        print(f"wordcount: WRONG RESULT: {error}", file=sys.stderr)
        return 1
    facts = report.Facts(
        arguments.system, text, arguments.maps, arguments.partitions, times, result, arguments.timeline
    )
    report.print_report(console, facts)
    if arguments.json:
        arguments.json.write_text(json.dumps(report.to_document(facts), indent=2) + "\n")
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, checked."""
    processors = os.cpu_count() or 1
    timeline = Path(tempfile.gettempdir()) / "wordcount-timeline.json"
    parser = argparse.ArgumentParser("wordcount", description="Word count and inverted index over sources.")
    parser.add_argument(
        "--source", type=Path, default=corpus.standard_library(), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--maps", type=int, default=16 * processors, help="map tasks (%(default)s)")
    parser.add_argument("--partitions", type=int, default=4 * processors, help="reduce tasks (%(default)s)")
    parser.add_argument("--system", default="aktis", choices=("aktis", "ray"), help="default: %(default)s")
    parser.add_argument("--address", help="a running cluster (default: one started here)")
    parser.add_argument("--num-cpus", type=int, help="CPUs of the cluster started here (all)")
    parser.add_argument(
        "--timeline", type=Path, default=timeline, metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    arguments = parser.parse_args(argv)
    if arguments.maps < 1 or arguments.partitions < 1:
        parser.error("--maps and --partitions must be at least 1")
    if arguments.address and arguments.num_cpus:
        parser.error("--num-cpus is for a cluster started here; it cannot go with --address")
    return arguments


def _start(api: Any, arguments: argparse.Namespace) -> None:
    if arguments.address:
        api.init(address=arguments.address)
    else:
        api.init(num_cpus=arguments.num_cpus)


def _run(
    api: Any, text: corpus.Corpus, arguments: argparse.Namespace, times: job.Times, console: Console
) -> job.JobResult:
    maps = len(corpus.split(text.offsets, arguments.maps))
    with report.live_bars(console, text.size_bytes, maps, arguments.partitions) as show:
        return job.run(api, text, arguments.maps, arguments.partitions, times, show)


def _check(text: corpus.Corpus, result: job.JobResult, times: job.Times, console: Console) -> None:
    """Computes the same in this process, keeps its time, compares."""
    with console.status("the same in a single process, to check"):
        expected = times.measure("single process", lambda: baseline.compute(text))
        baseline.verify(result.index, expected)


if __name__ == "__main__":
    sys.exit(main())
