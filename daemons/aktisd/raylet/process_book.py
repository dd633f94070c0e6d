"""Drivers and workers of this node, the living and the last dead, for people who ask."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from aktis._proto import snapshot_pb2

from aktisd.raylet.causes import Cause

MAX_TEXT: Final = 4_096
"""What of a cause's message is kept."""


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


class ProcessBook:
    """By worker id; of the dead the oldest are forgotten first.

    Args:
        max_dead: How many dead are remembered.
        log_dir: The directory that names of files are relative to.
        unix_ms: The time.
    """

    def __init__(self, max_dead: int, log_dir: str, unix_ms: Callable[[], int] = _unix_ms) -> None:
        self._max_dead = max_dead
        self._log_dir = f"{log_dir}/"
        self._unix_ms = unix_ms
        self._alive: dict[bytes, snapshot_pb2.WorkerSnapshot] = {}
        self._dead: OrderedDict[bytes, snapshot_pb2.WorkerSnapshot] = OrderedDict()

    def __iter__(self) -> Iterator[snapshot_pb2.WorkerSnapshot]:
        """The living first, then the dead, those that died last first."""
        yield from self._alive.values()
        yield from reversed(self._dead.values())

    def joined(
        self, worker_id: bytes, pid: int, *, is_driver: bool, stdout_path: str = "", stderr_path: str = ""
    ) -> None:
        """A process has registered."""
        self._alive[worker_id] = snapshot_pb2.WorkerSnapshot(
            worker_id=worker_id,
            pid=pid,
            is_driver=is_driver,
            is_alive=True,
            start_time_unix_ms=self._unix_ms(),
            stdout_file=stdout_path.removeprefix(self._log_dir),
            stderr_file=stderr_path.removeprefix(self._log_dir),
        )

    def became_actor(self, worker_id: bytes, actor_id: bytes) -> None:
        """A worker is an actor from now on."""
        if worker_id in self._alive:
            self._alive[worker_id].actor_id = actor_id

    def ended(self, worker_id: bytes, cause: Cause) -> None:
        """A process is dead."""
        entry = self._alive.pop(worker_id, None)
        if entry is None:
            return
        entry.is_alive = False
        entry.end_time_unix_ms = self._unix_ms()
        entry.cause.kind, entry.cause.exit_code, entry.cause.signal = (
            cause.kind,
            cause.exit_code,
            cause.signal,
        )
        entry.cause.message = cause.message[:MAX_TEXT]
        self._dead[worker_id] = entry
        if len(self._dead) > self._max_dead:
            self._dead.popitem(last=False)
