"""What nodes and their processes know at one moment: rounds over the connected nodes. Belongs to the loop.

Nothing of it is stored, and nobody sends it unasked. A node that does not answer in time, or whose stream
ends before it has answered, is named instead.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from aktis._common.rounds import Rounds
from aktis._proto import gcs_pb2, snapshot_pb2

PROCESS_TIMEOUT_MS: Final = 2_000
NODE_GRACE_MS: Final = 1_000
"""How much longer a node is waited for than it waits for its processes."""
MAX_LIMIT: Final = 10_000


class Stream(Protocol):
    """A node's stream."""

    def send(self, message: gcs_pb2.NodeDown) -> None:
        """Queue a message."""


class Snapshots:
    """The rounds under way.

    Args:
        streams: Of the connected nodes, by node id.
        call_later: Does something on the loop after so many seconds.
    """

    def __init__(
        self, streams: Mapping[bytes, Stream], call_later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        self._streams = streams
        self._call_later = call_later
        self._rounds = Rounds()
        self._replies: dict[int, snapshot_pb2.TakeSnapshotReply] = {}

    def take(
        self,
        request: snapshot_pb2.TakeSnapshotRequest,
        answer: Callable[[snapshot_pb2.TakeSnapshotReply], None],
    ) -> None:
        """Begin a round; ``answer`` is called once, when all nodes have answered or at the deadline."""
        reply = snapshot_pb2.TakeSnapshotReply()
        asked = [request.node_id] if request.node_id else list(self._streams)
        there = {node_id: self._streams[node_id] for node_id in asked if node_id in self._streams}
        reply.silent.extend(
            f"node {node_id.hex()} (not connected)" for node_id in asked if node_id not in there
        )

        def done(silent: frozenset[bytes]) -> None:
            reply.silent.extend(sorted(f"node {node_id.hex()}" for node_id in silent))
            if number is not None:
                del self._replies[number]
            answer(reply)

        number: int | None = None
        number = self._rounds.begin(there, done)
        if number is None:
            return
        self._replies[number] = reply
        what = snapshot_pb2.TakeSnapshot()
        what.CopyFrom(request.what)
        what.round, what.limit = number, min(what.limit or MAX_LIMIT, MAX_LIMIT)
        what.timeout_ms = min(what.timeout_ms or PROCESS_TIMEOUT_MS, PROCESS_TIMEOUT_MS)
        for stream in there.values():
            stream.send(gcs_pb2.NodeDown(take_snapshot=what))
        self._call_later((what.timeout_ms + NODE_GRACE_MS) / 1000, lambda: self._rounds.expire(number))

    def answered(self, node_id: bytes, snapshot: snapshot_pb2.NodeSnapshot) -> None:
        """A node has answered; late answers are ignored."""
        if self._rounds.waits_for(node_id, snapshot.round):
            snapshot.node_id = node_id
            self._replies[snapshot.round].nodes.append(snapshot)
            self._rounds.answered(node_id, snapshot.round)

    def gone(self, node_id: bytes) -> None:
        """A node's stream has ended, and with it what it was asked."""
        for number in self._rounds.waiting_for(node_id):
            self._replies[number].silent.append(f"node {node_id.hex()} (disconnected)")
        self._rounds.gone(node_id)
