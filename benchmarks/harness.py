"""Runs one system in a process of its own and collects what it measures.

The harness makes itself the adoptive parent of orphans (a child subreaper), so that every process a system
starts stays below it: that is how a cluster's memory is summed without mistaking anybody else's process for
the cluster's, and how it is seen whether a system leaves anything behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.procfs import descendants, name_of, wait_gone
from benchmarks.protocol import Event, Request

PR_SET_CHILD_SUBREAPER = 36
LEFTOVER_GRACE_S = 5.0
ROOT = Path(__file__).resolve().parent.parent


@dataclass(slots=True)
class Outcome:
    """One process's results: values and failures by row, and the names of the processes that outlived it."""

    values: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    left_behind: list[str] = field(default_factory=list)
    crash: str | None = None

    def record(self, event: Event) -> None:
        if event.kind == "value":
            self.values[event.row] = event.value
        elif event.kind == "failed":
            self.failures[event.row] = event.text
        elif event.kind == "absent":
            self.absent[event.row] = event.text


def become_subreaper() -> None:
    """Makes this process the parent of every orphan below it; ``OSError`` when the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(number)}")


def run_system(
    python: Path, request: Request, log: Path, row_timeout_s: float, on_event: Callable[[Event], None]
) -> Outcome:
    """Measures one system. Every answer has ``row_timeout_s``; after that the system is killed.

    python: the interpreter of the environment in which the system lives.
    log: gets what the system prints.
    """
    outcome = Outcome()
    reading, writing = os.pipe()
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with open(log, "a") as output:
        process = subprocess.Popen(
            [python, "-m", "benchmarks.system_process", str(writing)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=[writing],
        )
    os.close(writing)
    with open(reading, "rb", buffering=0) as stream:
        try:
            assert process.stdin is not None
            process.stdin.write(request.to_json().encode())
            process.stdin.close()
            for event in _events(stream.fileno(), row_timeout_s):
                outcome.record(event)
                on_event(event)
            process.wait(row_timeout_s)
        except (BrokenPipeError, EOFError) as error:
            status = _exit_status(process)  # it may still be writing its traceback
            outcome.crash = f"{error}, {status} (see {log})"
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            outcome.crash = f"{error} (see {log})"
        finally:
            _finish(process, outcome)
    return outcome


def _events(descriptor: int, timeout_s: float) -> Iterator[Event]:
    """The events up to ``done``; raises when one takes too long or the process ends without ``done``."""
    buffer = b""
    doing = "while starting"
    while True:
        if not select.select([descriptor], [], [], timeout_s)[0]:
            raise TimeoutError(f"no answer within {timeout_s:g} s {doing}")
        data = os.read(descriptor, 65536)
        if not data:
            raise EOFError(f"the process ended {doing}")
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            event = Event.from_json(line.decode())
            if event.kind == "done":
                return
            doing = f"while measuring {event.row!r}" if event.kind == "started" else f"after {event.row!r}"
            yield event


def _exit_status(process: subprocess.Popen[bytes]) -> str:
    try:
        return f"exit status {process.wait(LEFTOVER_GRACE_S)}"
    except subprocess.TimeoutExpired:
        return "but it has not exited"


def _finish(process: subprocess.Popen[bytes], outcome: Outcome) -> None:
    """Ends the process if it has not ended, notes who outlives it, and ends those too."""
    if process.poll() is None:
        process.kill()
    process.wait()
    left = wait_gone(os.getpid(), LEFTOVER_GRACE_S)
    outcome.left_behind = sorted(name_of(pid) for pid in left)
    deadline = time.monotonic() + LEFTOVER_GRACE_S
    while left and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_gone(os.getpid(), 0.5)
        left = descendants(os.getpid())
    _reap()


def _reap() -> None:
    """Collects the exit status of adopted processes."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
