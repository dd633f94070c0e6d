"""Keeps one worker template alive and hands it fork requests. Belongs to the loop.

When the template dies a new one is started (with a pause that grows while it dies at once); running workers
stay.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from aktis._common.logging import get_logger
from aktis._proto import raylet_pb2

from aktisd.raylet.processes import read_tail

FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 5.0
HEALTHY_AFTER_S: Final = 10.0
FORKS_PER_MESSAGE: Final = 64
STDERR_TAIL_BYTES: Final = 4096
THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
LIMITED_VARIABLE: Final = "AKTIS_LIMITED_THREADS"
"""Tells a worker which of them were set here, not by the user."""


class TemplateConnection(Protocol):
    """The template's end of the control socket."""

    def send_message(self, message: raylet_pb2.RayletMessage) -> None:
        """Queue one message."""


@dataclass(frozen=True, slots=True)
class TemplateCommand:
    """How a template is started."""

    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    log_dir: str
    stderr_path: str
    executable: tuple[str, ...] = (sys.executable,)
    """The command that stands for the interpreter."""


class TemplateHost:
    """See the module."""

    def __init__(self, command: TemplateCommand, on_lost: Callable[[str], None]) -> None:
        self._command = command
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._log = get_logger()
        self._connection: TemplateConnection | None = None
        self._identity = b""
        self._queued: list[int] = []
        self._released = False
        self._restart: asyncio.TimerHandle | None = None
        self._pause_s = FIRST_PAUSE_S
        self._started_at = 0.0
        self._stopped = False
        self.pid = 0
        self.restarts = 0

    def start(self) -> None:
        """Start the process; it registers through the control socket, under an identity made for it.

        Not under its pid: the command may be a program that starts the interpreter.
        """
        self._restart = None
        self._identity = os.urandom(16)
        self._started_at = self._loop.time()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, self._command.stderr_path, flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        command = self._command
        arguments = [*command.arguments, "--template-id", self._identity.hex()]
        try:
            self.pid = os.posix_spawnp(
                command.executable[0],
                [*command.executable, "-m", "aktis._worker.template", *arguments],
                dict(self._command.environ),
                file_actions=actions,
                setsid=True,
                setsigmask=[],
            )
        except OSError as error:
            self._ended(f"could not be started: {command.executable[0]}: {error.strerror}")

    @property
    def is_running(self) -> bool:
        """Whether there is a process, or soon will be another one."""
        return self.pid != 0 or self._restart is not None

    def connected(self, connection: TemplateConnection, identity: bytes) -> bool:
        """A process says that it is the template. False when it is not the one that was started."""
        if identity != self._identity or self._connection is not None:
            return False
        self._connection = connection
        self._fork_queued()
        return True

    def release(self) -> None:
        """Workers may be forked from now on."""
        self._released = True
        self._fork_queued()

    def fork(self, tokens: tuple[int, ...]) -> None:
        """Ask for one worker per token, now or as soon as the template is there and released."""
        if self._connection is None or not self._released:
            self._queued.extend(tokens)
            return
        for first in range(0, len(tokens), FORKS_PER_MESSAGE):
            part = tokens[first : first + FORKS_PER_MESSAGE]
            fork = raylet_pb2.Fork(start_tokens=part, log_dir=self._command.log_dir)
            self._connection.send_message(raylet_pb2.RayletMessage(fork=fork))

    def exited(self, exit_code: int, signal_number: int) -> None:
        """The process is dead: start another, after a pause when it did not live long."""
        self._connection = None
        self.pid = 0
        if self._stopped:
            return
        how = f"signal {signal_number}" if signal_number else f"exit code {exit_code}"
        tail = read_tail(self._command.stderr_path, STDERR_TAIL_BYTES).strip()
        last_line = tail.splitlines()[-1] if tail else "it wrote nothing to its log"
        self._log.error("template_died", how=how, stderr=tail)
        self._ended(f"ended with {how}: {last_line}")

    def _ended(self, how: str) -> None:
        self._queued.clear()
        lived_s = self._loop.time() - self._started_at
        self.restarts += 1
        self._pause_s = FIRST_PAUSE_S if lived_s >= HEALTHY_AFTER_S else min(LAST_PAUSE_S, self._pause_s * 2)
        self._restart = self._loop.call_later(self._pause_s, self.start)
        self._on_lost(f"the worker template {how}")

    def _fork_queued(self) -> None:
        queued, self._queued = self._queued, []
        self.fork(tuple(queued))

    def stop(self) -> None:
        """Start no other; the caller ends the process."""
        self._stopped = True
        if self._restart is not None:
            self._restart.cancel()


def template_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of workers: ours, without the daemon's own settings.

    Thread pools of numeric libraries are limited to one thread: they would start in the template, which
    must not have threads, and each worker would otherwise use every CPU. A worker is told which of these
    variables come from here, and sets them to the CPUs that it is granted.
    """
    kept = {name: value for name, value in environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    limited = [name for name in THREAD_VARIABLES if name not in kept]
    return kept | dict.fromkeys(limited, "1") | {LIMITED_VARIABLE: ",".join(limited)}
