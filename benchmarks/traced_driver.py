"""The driver whose system calls are counted; ``benchmarks.syscalls`` starts it and tells it when to work.

Lines in, one JSON line out for each: a kind of call and a number (``task sync 1000``), or ``quit``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

WARMUP_CALLS = 200
BATCH = 1_000


def _callers(api: Any) -> tuple[dict[str, Callable[[], Any]], list[int]]:
    """What submits one call of each kind, and the pids of the processes that execute them."""

    def pid() -> int:
        import os

        return os.getpid()

    class Actor:
        def pid(self) -> int:
            import os

            return os.getpid()

    task = api.remote(pid)
    actor = api.remote(num_cpus=0)(Actor).remote()
    callers: dict[str, Callable[[], Any]] = {"task": task.remote, "actor": actor.pid.remote}
    pids = {api.get(submit()) for _ in range(WARMUP_CALLS) for submit in callers.values()}
    return callers, sorted(pids)


def _run(api: Any, submit: Callable[[], Any], mode: str, calls: int) -> None:
    if mode == "sync":
        for _ in range(calls):
            api.get(submit())
    else:
        for start in range(0, calls, BATCH):
            api.get([submit() for _ in range(min(BATCH, calls - start))])


def main() -> None:
    # What the runtime prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    api: Any = importlib.import_module(sys.argv[1])
    # One CPU: one worker executes all tasks, so there is one process to trace.
    api.init(num_cpus=1, log_to_driver=False)
    try:
        callers, pids = _callers(api)
        answers.write(json.dumps({"driver": os.getpid(), "workers": pids}) + "\n")
        for line in sys.stdin:
            if line.strip() == "quit":
                break
            kind, mode, calls = line.split()
            _run(api, callers[kind], mode, int(calls))
            answers.write(json.dumps({"done": line.strip()}) + "\n")
    finally:
        api.shutdown()


if __name__ == "__main__":
    main()
