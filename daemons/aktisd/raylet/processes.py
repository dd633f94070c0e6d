"""Watching and ending worker processes: pidfds, signals with deadlines, whole sessions. Belongs to the loop.

A worker's exit status is learned by its parent: the template, or this process once the template has died (the
raylet is a child subreaper). The pidfd tells of the death even when nobody can tell the status.
"""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

STATUS_GRACE_S: Final = 0.5
"""How long the template may take to report the status of a process whose pidfd says that it is dead."""
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one process; ``known`` is False when nobody could tell its status."""

    token: int
    pid: int
    exit_code: int
    signal: int
    known: bool


@dataclass(slots=True, eq=False)
class _Watched:
    token: int
    pid: int
    pidfd: int
    timers: list[asyncio.TimerHandle] = field(default_factory=list)


class Processes:
    """The worker processes of this node."""

    def __init__(self, on_ended: Callable[[Ended], None]) -> None:
        self._on_ended = on_ended
        self._loop = asyncio.get_running_loop()
        self._watched: dict[int, _Watched] = {}
        self._by_pid: dict[int, _Watched] = {}
        self._dead_sessions: set[int] = set()
        self._all_gone = asyncio.Event()
        self._all_gone.set()

    def watch(self, token: int, pid: int) -> None:
        """Start to watch a process; a second call for the same token changes nothing."""
        if token in self._watched:
            return
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            pidfd = -1
        watched = self._watched[token] = self._by_pid[pid] = _Watched(token, pid, pidfd)
        self._all_gone.clear()
        if pidfd < 0:
            self._await_status(watched)
        else:
            self._loop.add_reader(pidfd, self._on_pidfd, watched)

    def exited(self, pid: int, exit_code: int, signal_number: int) -> bool:
        """Its parent reports the end of a process. False when the process is not watched."""
        watched = self._by_pid.get(pid)
        if watched is not None:
            self._finish(watched, Ended(watched.token, pid, exit_code, signal_number, True))
        return watched is not None

    def kill(self, token: int) -> None:
        """SIGKILL to the process and its group."""
        self._signal(self._watched.get(token), signal.SIGKILL)

    def terminate(self, token: int, *, term_after_s: float, kill_after_s: float) -> None:
        """SIGTERM after one time, SIGKILL after another, unless the process ends before."""
        watched = self._watched.get(token)
        if watched is not None and not watched.timers:
            for delay_s, number in ((term_after_s, signal.SIGTERM), (kill_after_s, signal.SIGKILL)):
                watched.timers.append(self._loop.call_later(delay_s, self._signal, watched, number))

    def spare(self, token: int) -> None:
        """Take back `terminate`; signals that were sent already stay sent."""
        watched = self._watched.get(token)
        if watched is not None:
            for timer in watched.timers:
                timer.cancel()
            watched.timers.clear()

    async def wait_all_gone(self) -> None:
        """Return when no watched process is left; bound it with a timeout."""
        await self._all_gone.wait()

    def pids(self) -> list[int]:
        """The processes that are alive as far as is known."""
        return list(self._by_pid)

    def _on_pidfd(self, watched: _Watched) -> None:
        self._close(watched)
        self._await_status(watched)

    def _await_status(self, watched: _Watched) -> None:
        ended = Ended(watched.token, watched.pid, 0, 0, False)
        watched.timers.append(self._loop.call_later(STATUS_GRACE_S, self._finish, watched, ended))

    def _finish(self, watched: _Watched, ended: Ended) -> None:
        if self._watched.pop(watched.token, None) is None:
            return
        del self._by_pid[watched.pid]
        for timer in watched.timers:
            timer.cancel()
        self._close(watched)
        # What the worker had started goes with it: its group now, the rest of its session in one sweep.
        kill_group(watched.pid)
        if not self._dead_sessions:
            self._loop.call_soon(self._sweep)
        self._dead_sessions.add(watched.pid)
        if not self._watched:
            self._all_gone.set()
        self._on_ended(ended)

    def _sweep(self) -> None:
        sessions, self._dead_sessions = self._dead_sessions, set()
        kill_sessions(sessions)

    def _signal(self, watched: _Watched | None, number: signal.Signals) -> None:
        if watched is None or watched.pidfd < 0:
            return
        try:
            signal.pidfd_send_signal(watched.pidfd, number)
        except ProcessLookupError:
            return
        if number == signal.SIGKILL:
            kill_group(watched.pid)

    def _close(self, watched: _Watched) -> None:
        if watched.pidfd >= 0:
            self._loop.remove_reader(watched.pidfd)
            os.close(watched.pidfd)
            watched.pidfd = -1


def kill_group(pid: int) -> None:
    """SIGKILL to every process of the group that ``pid`` leads; no error when there is none."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def kill_sessions(sessions: set[int]) -> None:
    """SIGKILL to every process of these sessions, whatever group it has moved to."""
    for pid in sorted(_processes()):
        fields = _stat(pid)
        if fields is not None and int(fields[3]) in sessions and fields[0] not in "ZX":
            kill_one(pid)


def kill_one(pid: int) -> None:
    """SIGKILL to one process; no error when it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def descendants() -> list[int]:
    """Processes whose parent is this process; after a worker's death that includes what it left behind."""
    own = os.getpid()
    return [pid for pid in _processes() if (fields := _stat(pid)) is not None and int(fields[1]) == own]


def become_subreaper() -> None:
    """Orphans of this process's descendants become its children, so that none escapes when it stops."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def die_with_parent() -> None:
    """The calling process is killed when the one that started it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def reap() -> list[tuple[int, int, int]]:
    """Collect ended children of this process: (pid, exit code, signal)."""
    found: list[tuple[int, int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        killed = os.WIFSIGNALED(status)
        exit_code = 0 if killed else os.WEXITSTATUS(status)
        found.append((pid, exit_code, os.WTERMSIG(status) if killed else 0))


def read_tail(path: str, limit_bytes: int) -> str:
    """The end of a file as text, from the start of a line if possible; empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit_bytes))
            data = file.read(limit_bytes)
    except OSError:
        return ""
    if size > limit_bytes:
        data = data.partition(b"\n")[2] or data
    return data.decode("utf-8", "replace")


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the name: state, parent, group, session, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
