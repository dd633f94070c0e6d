"""The process in which one system is measured.

Started by the harness as ``python -m benchmarks.system_process EVENTS_FD < request``.
"""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType
from typing import TextIO

from benchmarks.systems.stopwatch import import_timed

RUNTIMES = ("aktis", "ray")


def main() -> int:
    events_descriptor = int(sys.argv[1])
    os.set_inheritable(events_descriptor, False)
    request_text = sys.stdin.read()
    system = json.loads(request_text)["system"]
    # First of all: what the harness itself imports must neither count as the system's nor spare it the work.
    timed = import_timed(system) if system in RUNTIMES else None
    with os.fdopen(events_descriptor, "w") as stream:
        _measure(system, request_text, timed, stream)
    return 0


def _measure(system: str, request_text: str, timed: tuple[ModuleType, float] | None, stream: TextIO) -> None:
    from benchmarks.protocol import Event, Reporter, Request
    from benchmarks.systems import runtime
    from benchmarks.systems.registry import SYSTEMS

    reporter = Reporter(Request.from_json(request_text), stream)
    if timed is not None:
        runtime.measure(reporter, *timed)
    else:
        SYSTEMS[system].measurer()(reporter)
    reporter.emit(Event("done"))


if __name__ == "__main__":
    sys.exit(main())
