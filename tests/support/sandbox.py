"""A private place for the clusters of one test, and the proof that nothing of them is left.

Tests run in parallel, so comparing the whole machine before and after would blame one test for another's
cluster. Instead every process that a test starts inherits a random mark in its environment, and every file
lies below a base directory of its own. Its name is short because socket paths are limited to 107 bytes.
"""

import gc
import os
import secrets
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK: Final = "AKTIS_TEST_MARK"
ARENA: Final = "memfd:aktis-plasma-arena"
PF_EXITING: Final = 0x4  # include/linux/sched.h
SO_ACCEPTCON: Final = 0x10000  # include/linux/net.h


@dataclass(frozen=True)
class Process:
    """A process that carries the sandbox's mark."""

    pid: int
    command: str


class Sandbox:
    """One test's clusters. ``env`` is for subprocesses; `activate` sets it for the test's own process."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="ak-", dir="/tmp"))
        self.mark = secrets.token_hex(8)
        # SPT_NOENV: setproctitle must not overwrite the environment in which the mark is found.
        self._arenas_before = own_arenas()
        self.added_env = {"XDG_RUNTIME_DIR": str(self.base), MARK: self.mark, "SPT_NOENV": "1"}
        self._marked = f"{MARK}={self.mark}".encode()

    @property
    def env(self) -> dict[str, str]:
        """The environment for a process of this sandbox."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AKTIS_")}
        return {**kept, **self.added_env}

    @property
    def sessions(self) -> list[Path]:
        """Session directories that are there now."""
        return sorted((self.base / "aktis").glob("s-*"))

    def processes(self) -> list[Process]:
        """Return every live process of this sandbox."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            # A process may end between two reads, and its environment is empty once it is a zombie.
            with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if self._marked in (entry / "environ").read_bytes().split(b"\0"):
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                    found.append(Process(int(entry.name), command.strip()))
        return found

    def wait_until_gone(self, timeout_s: float) -> list[Process]:
        """Wait until no process is left; return those that are there at the deadline."""
        deadline_s = time.monotonic() + timeout_s
        while processes := self.processes():
            for process in processes:
                if not wait_for_exit(process.pid, deadline_s - time.monotonic()):
                    return self.processes()
        # A dying process loses its environment, by which it is known, before its sockets and its memory.
        for pid in dying():
            wait_for_exit(pid, deadline_s - time.monotonic())
        return []

    def leftovers(self) -> list[str]:
        """Name what is left: processes, files below the base directory, bound Unix sockets, shared memory.

        An arena has no name in the file system; it lives as long as a process holds it. Every process of the
        sandbox is left over by itself, so only the test's own process is to be asked.
        """
        left = [f"process {process.pid}: {process.command}" for process in self.processes()]
        home = self.base / "aktis"
        left += [f"file {path}" for path in sorted(self.base.rglob("*")) if path != home]
        sockets = Path("/proc/net/unix").read_text().splitlines()
        left += [_describe_socket(line) for line in sockets if f"{self.base}/" in line]
        left += [f"shared memory {arena}" for arena in sorted(own_arenas() - self._arenas_before)]
        return left

    def remove_sessions(self) -> None:
        """Remove session directories, where a test is about an end after which nobody else could."""
        for session in self.sessions:
            shutil.rmtree(session)

    def assert_clean(self, timeout_s: float = 5.0) -> None:
        """Fail unless everything is gone within the time."""
        self.wait_until_gone(timeout_s)
        left = self.leftovers()
        assert not left, "left behind:\n  " + "\n  ".join(left)

    def destroy(self) -> None:
        """Kill and remove whatever is left, so that one failed test does not disturb the next."""
        while processes := self.processes():
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            for process in processes:
                assert wait_for_exit(process.pid, 5.0), f"{process} survives SIGKILL"
        shutil.rmtree(self.base, ignore_errors=True)


def _describe_socket(line: str) -> str:
    """Say of a line of /proc/net/unix what the socket is, and whether it is this process's."""
    _, _, _, flags, _, _, inode, path = line.split()
    kind = "listening" if int(flags, 16) & SO_ACCEPTCON else "connected"
    own = f"socket:[{inode}]" in _own_descriptors()
    return f"{kind} socket {path} of {'this' if own else 'another'} process"


def _own_descriptors() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(os.readlink(entry))
    return found


def own_arenas() -> set[str]:
    """Return the objects of stores' shared memory that this process holds, by descriptor or by mapping."""
    gc.collect()  # an array that nobody can reach any more keeps what it is a view of
    found = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        if ARENA in line:
            found.add(f"{ARENA} inode {line.split()[4]}")
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of this very loop
            if ARENA in os.readlink(entry):
                found.add(f"{ARENA} inode {entry.stat().st_ino}")
    return found


def dying() -> list[int]:
    """Processes, anybody's, that are on their way out."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            if entry.name.isdigit():
                flags = (entry / "stat").read_text().rpartition(")")[2].split()[6]
                if int(flags) & PF_EXITING:
                    found.append(int(entry.name))
    return found


def wait_for_exit(pid: int, timeout_s: float) -> bool:
    """Wait for the end of any process, own child or not; return whether it has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(max(0.0, timeout_s) * 1000))
    finally:
        os.close(fd)


@contextmanager
def new_sandbox() -> Iterator[Sandbox]:
    """Make a sandbox; at the end of a block that succeeded, fail if anything is left."""
    sandbox = Sandbox()
    try:
        yield sandbox
        sandbox.assert_clean()
    finally:
        sandbox.destroy()
