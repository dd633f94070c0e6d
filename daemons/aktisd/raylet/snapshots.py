"""What this node knows at one moment, for whoever asks the GCS: a round over its processes. On the loop.

Nothing is kept or sent for it while nobody asks. A process that does not answer in time (it is stopped, or in
a long C call that keeps the GIL) is named instead.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from aktis._common.proto_values import as_uint64
from aktis._common.rounds import Rounds
from aktis._proto import raylet_pb2, snapshot_pb2

from aktisd.raylet import log_files

MAX_LIMIT: Final = 10_000
MAX_TIMEOUT_S: Final = 30.0
MAX_BYTES: Final = 32 << 20
"""Of what processes say together; names can be long."""


class Asked(Protocol):
    """A process that can be asked."""

    worker_id: bytes
    pid: int

    def send_message(self, message: raylet_pb2.RayletMessage) -> None:
        """Queue a message."""


@dataclass(slots=True)
class _Open:
    """An answer that is being put together, and what there is room for in it."""

    answer: snapshot_pb2.NodeSnapshot
    records: int
    size_bytes: int = MAX_BYTES


class Snapshots:
    """See the module.

    Args:
        node: Its id and address, to begin each answer with.
        log_dir: Whose files may be listed and read.
        processes: Whom to ask.
        workers, environments: What the node itself knows.
        send: Sends an answer to the GCS.
        call_later: Does something on the loop later.
        aside: Does the first thing in another thread, then the second on the loop.
    """

    def __init__(
        self,
        node: snapshot_pb2.NodeSnapshot,
        log_dir: Path,
        processes: Callable[[], Iterable[Asked]],
        workers: Iterable[snapshot_pb2.WorkerSnapshot],
        environments: Callable[[], Iterable[snapshot_pb2.EnvironmentSnapshot]],
        send: Callable[[snapshot_pb2.NodeSnapshot], None],
        call_later: Callable[[float, Callable[[], None]], object],
        aside: Callable[[Callable[[], None], Callable[[], None]], object],
    ) -> None:
        self._node = node
        self._log_dir = log_dir
        self._processes = processes
        self._workers = workers
        self._environments = environments
        self._send = send
        self._call_later = call_later
        self._aside = aside
        self._rounds = Rounds()
        self._open: dict[int, _Open] = {}

    def take(self, what: snapshot_pb2.TakeSnapshot) -> None:
        """The GCS asks; it gets exactly one answer, by the deadline of the processes at the latest."""
        limit = min(what.limit, MAX_LIMIT)
        answer = snapshot_pb2.NodeSnapshot(round=what.round)
        answer.MergeFrom(self._node)
        self._add_own(answer, what, limit)
        if what.logs or what.log_file:  # a disk may be slow, and leases must not wait for it
            self._aside(lambda: self._add_logs(answer, what), lambda: self._ask(answer, what, limit))
        else:
            self._ask(answer, what, limit)

    def _ask(self, answer: snapshot_pb2.NodeSnapshot, what: snapshot_pb2.TakeSnapshot, limit: int) -> None:
        """Ask the processes; the answer is sent when they have answered."""
        asked = list(self._processes()) if what.tasks or what.objects else []
        names = {one.worker_id: f"worker {one.worker_id.hex()} (pid {one.pid})" for one in asked}

        def done(silent: frozenset[bytes]) -> None:
            answer.silent.extend(sorted(names[worker_id] for worker_id in silent))
            if number is not None:
                del self._open[number]
            self._send(answer)

        number: int | None = None
        number = self._rounds.begin(names, done)
        if number is None:
            return
        self._open[number] = _Open(answer, 2 * limit)
        question = snapshot_pb2.TakeSnapshot(
            round=number, limit=limit, tasks=what.tasks, objects=what.objects
        )
        for one in asked:
            one.send_message(raylet_pb2.RayletMessage(take_snapshot=question))
        self._call_later(min(what.timeout_ms / 1000, MAX_TIMEOUT_S), lambda: self._rounds.expire(number))

    def answered(self, one: Asked, is_driver: bool, snapshot: snapshot_pb2.ProcessSnapshot) -> None:
        """A process has answered; late answers and those of strangers are ignored."""
        number = snapshot.round
        if not self._rounds.waits_for(one.worker_id, number):
            return
        snapshot.worker_id, snapshot.pid, snapshot.is_driver = one.worker_id, one.pid, is_driver
        room = self._open[number]
        if snapshot.ByteSize() > room.size_bytes:
            room.records = 0
        for records in (snapshot.tasks, snapshot.objects):
            snapshot.left_off = as_uint64(snapshot.left_off + max(0, len(records) - room.records))
            del records[room.records :]
            room.records -= len(records)
        room.size_bytes -= snapshot.ByteSize()
        room.answer.processes.append(snapshot)
        self._rounds.answered(one.worker_id, number)

    def gone(self, worker_id: bytes) -> None:
        """A process has left; nobody waits for it any more."""
        self._rounds.gone(worker_id)

    def _add_own(
        self, answer: snapshot_pb2.NodeSnapshot, what: snapshot_pb2.TakeSnapshot, limit: int
    ) -> None:
        if what.workers:
            workers = list(self._workers)
            answer.workers.extend(workers[:limit])
            answer.left_off += max(0, len(workers) - limit)
        if what.environments:
            environments = list(self._environments())
            answer.environments.extend(environments[:limit])
            answer.left_off += max(0, len(environments) - limit)

    def _add_logs(self, answer: snapshot_pb2.NodeSnapshot, what: snapshot_pb2.TakeSnapshot) -> None:
        """In a thread of its own."""
        if what.logs:
            answer.log_files.extend(log_files.names(self._log_dir))
        if what.log_file:
            found = log_files.tail(self._log_dir, what.log_file, what.log_lines)
            answer.log_found, answer.log = found is not None, found or b""
