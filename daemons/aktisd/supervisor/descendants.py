"""End every process that is left below the supervisor. As child subreaper it inherits all orphans."""

import contextlib
import os
import select
import signal
import time
from pathlib import Path


def children() -> list[int]:
    """Return the pids of this process's children, zombies included."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def kill_all(timeout_s: float) -> list[int]:
    """Kill children, and theirs when they become ours, until none is left; return pids that would not die.

    Blocks, for at most ``timeout_s``: the kernel ends killed processes in milliseconds.
    """
    deadline_s = time.monotonic() + timeout_s
    while pids := children():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            if not _reap(pid, deadline_s):
                return children()
    return []


def _reap(pid: int, deadline_s: float) -> bool:
    """Wait for the end of a child through its pidfd, which unlike waitpid takes a deadline."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        ended = bool(poller.poll(max(0.0, deadline_s - time.monotonic()) * 1000))
    finally:
        os.close(fd)
    if ended:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return ended
