"""Counts the system calls of one task or actor call: ``python -m benchmarks.syscalls``.

Times differ from run to run, counts hardly do. The driver, the workers and the daemons are traced with
``strace -c -f`` while the driver makes a known number of calls; what is printed is calls of each system call
per call of Aktis, for each of the three groups. On the fast path the daemons take no part.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import ROOT, become_subreaper
from benchmarks.peers import environment
from benchmarks.procfs import descendants

KINDS = {
    "tasks, synchronous": "task sync",
    "tasks, asynchronous": "task async",
    "actor calls, synchronous": "actor sync",
    "actor calls, asynchronous": "actor async",
}
GROUPS = ("driver", "workers", "daemons")
ATTACH_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 300.0
# Less than this per call is housekeeping (a heartbeat, a timer), not part of a call.
NEGLIGIBLE = 0.005

Counts = dict[str, int]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 when something that is needed is missing."""
    arguments = _parse(argv)
    if shutil.which("strace") is None:
        print("benchmarks.syscalls: strace is not installed (apt-get install strace)", file=sys.stderr)
        return 2
    become_subreaper()
    python = Path(sys.executable) if arguments.system == "aktis" else environment.ensure()
    measured: dict[str, dict[str, Counts]] = {}
    with _driver(python, arguments.system) as (driver, pids):
        for name, kind in KINDS.items():
            measured[name] = _count(driver, pids, f"{kind} {arguments.calls}")
    for name, groups in measured.items():
        Console(width=100).print(_table(name, groups, arguments.calls))
    if arguments.json:
        document = {"system": arguments.system, "calls": arguments.calls, "counts": measured}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks.syscalls", description=__doc__)
    parser.add_argument("--system", default="aktis", choices=("aktis", "ray"))
    parser.add_argument("--calls", type=int, default=2000, help="calls of each kind (2000)")
    parser.add_argument("--json", type=Path, help="write the counts there, too")
    arguments = parser.parse_args(argv)
    if arguments.calls < 1:
        parser.error("--calls must be at least 1")
    return arguments


@contextmanager
def _driver(python: Path, system: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The driver, warm, and the pids that it names."""
    process = subprocess.Popen(
        [python, "-m", "benchmarks.traced_driver", system],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield process, _answer(process)
        assert process.stdin is not None
        process.stdin.write("quit\n")
        process.stdin.close()
        process.wait(ANSWER_TIMEOUT_S)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], ANSWER_TIMEOUT_S)[0]:
        raise TimeoutError(f"the driver did not answer within {ANSWER_TIMEOUT_S:g} s")
    line = process.stdout.readline()
    if not line:
        raise EOFError(f"the driver ended, exit status {process.wait()}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _count(driver: subprocess.Popen[str], pids: dict[str, Any], order: str) -> dict[str, Counts]:
    """The system calls of each group while the driver carries out one order."""
    workers = set(pids["workers"])
    daemons = descendants(os.getpid()) - workers - {pids["driver"]}
    groups = {"driver": {pids["driver"]}, "workers": workers, "daemons": daemons}
    with tempfile.TemporaryDirectory() as folder:
        outputs = {name: Path(folder) / name for name in groups}
        tracers = [_attach(members, outputs[name]) for name, members in groups.items() if members]
        assert driver.stdin is not None
        driver.stdin.write(order + "\n")
        _answer(driver)
        for tracer in tracers:
            tracer.send_signal(signal.SIGINT)
        for tracer in tracers:
            tracer.communicate(timeout=ATTACH_TIMEOUT_S)
        return {name: parse_counts(path.read_text()) for name, path in outputs.items() if path.exists()}


def _attach(pids: set[int], output: Path) -> subprocess.Popen[str]:
    """A tracer of all threads of these processes; returns when it has attached to every process."""
    command = ["strace", "-c", "-f", "-U", "calls,name", "-o", str(output)]
    command += [argument for pid in sorted(pids) for argument in ("-p", str(pid))]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, bufsize=1)
    assert tracer.stderr is not None
    deadline = time.monotonic() + ATTACH_TIMEOUT_S
    attached: set[int] = set()
    buffer = b""
    while not pids <= attached:
        if not select.select([tracer.stderr], [], [], max(0.0, deadline - time.monotonic()))[0]:
            tracer.kill()
            raise TimeoutError(f"strace did not attach to {sorted(pids - attached)}")
        data = os.read(tracer.stderr.fileno(), 65536)
        if not data:
            raise EOFError(f"strace ended with status {tracer.wait()}: {buffer.decode()}")
        buffer += data
        attached = attached_pids(buffer.decode())
    return tracer


def attached_pids(messages: str) -> set[int]:
    """The processes that strace says it has attached to (or that have gone before it could)."""
    found: set[int] = set()
    for line in messages.splitlines():
        words = line.split()
        if line.startswith("strace: Process ") and "attached" in words:
            found.add(int(words[2]))
        elif line.startswith("strace: attach: ptrace(") and line.endswith("No such process"):
            found.add(int(line.split(", ")[1].split(")")[0]))
    return found


def parse_counts(text: str) -> Counts:
    """The counts in what ``strace -c -U calls,name`` writes; the total is left out."""
    counts: Counts = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0].isdigit() and words[1] != "total":
            counts[words[1]] = counts.get(words[1], 0) + int(words[0])
    return counts


def _table(name: str, groups: dict[str, Counts], calls: int) -> Table:
    """System calls per call, the frequent ones first, one column per group."""
    table = Table("system call", title=f"{name}: system calls per call, of {calls}")
    for group in GROUPS:
        table.add_column(group, justify="right")
    totals: Counts = {}
    for counts in groups.values():
        for call, count in counts.items():
            totals[call] = totals.get(call, 0) + count
    for call in sorted(totals, key=lambda key: -totals[key]):
        if totals[call] / calls >= NEGLIGIBLE:
            table.add_row(call, *(_per_call(groups.get(group, {}).get(call, 0), calls) for group in GROUPS))
    table.add_section()
    table.add_row("all", *(_per_call(sum(groups.get(group, {}).values()), calls) for group in GROUPS))
    return table


def _per_call(count: int, calls: int) -> str:
    return f"{count / calls:.3f}" if count else ""


if __name__ == "__main__":
    sys.exit(main())
