"""The GCS asks the connected nodes and names those that do not answer."""

from collections.abc import Callable

from aktis._proto import gcs_pb2, snapshot_pb2
from aktisd.gcs.snapshots import Snapshots


class Stream:
    def __init__(self) -> None:
        self.sent: list[gcs_pb2.NodeDown] = []

    def send(self, message: gcs_pb2.NodeDown) -> None:
        self.sent.append(message)

    def asked(self) -> snapshot_pb2.TakeSnapshot:
        (message,) = self.sent
        return message.take_snapshot


class Gcs:
    def __init__(self, *node_ids: bytes) -> None:
        self.streams = {node_id: Stream() for node_id in node_ids}
        self.deadlines: list[tuple[float, Callable[[], None]]] = []
        self.replies: list[snapshot_pb2.TakeSnapshotReply] = []
        self.snapshots = Snapshots(self.streams, lambda delay_s, do: self.deadlines.append((delay_s, do)))

    def take(self, node_id: bytes = b"", limit: int = 0, timeout_ms: int = 0) -> None:
        what = snapshot_pb2.TakeSnapshot(tasks=True, limit=limit, timeout_ms=timeout_ms)
        request = snapshot_pb2.TakeSnapshotRequest(what=what, node_id=node_id)
        self.snapshots.take(request, self.replies.append)

    def answer(self, node_id: bytes) -> None:
        number = self.streams[node_id].asked().round
        self.snapshots.answered(node_id, snapshot_pb2.NodeSnapshot(round=number, node_id=b"a lie"))


def test_all_nodes_answer() -> None:
    gcs = Gcs(b"a", b"b")
    gcs.take(limit=99_999, timeout_ms=500)
    assert gcs.streams[b"a"].asked().limit == 10_000
    assert gcs.streams[b"a"].asked().timeout_ms == 500
    assert gcs.deadlines[0][0] == 1.5
    gcs.answer(b"a")
    assert gcs.replies == []
    gcs.answer(b"b")
    (reply,) = gcs.replies
    assert [node.node_id for node in reply.nodes] == [b"a", b"b"]
    gcs.deadlines[0][1]()
    assert len(gcs.replies) == 1


def test_a_silent_node_is_named_and_comes_too_late() -> None:
    gcs = Gcs(b"a", b"b")
    gcs.take()
    assert gcs.streams[b"a"].asked().timeout_ms == 2000
    gcs.answer(b"b")
    gcs.deadlines[0][1]()
    (reply,) = gcs.replies
    assert list(reply.silent) == ["node 61"]
    gcs.answer(b"a")
    assert [node.node_id for node in reply.nodes] == [b"b"]


def test_one_node_alone() -> None:
    gcs = Gcs(b"a", b"b")
    gcs.take(b"b")
    assert gcs.streams[b"a"].sent == []
    gcs.answer(b"b")
    assert len(gcs.replies[0].nodes) == 1


def test_nobody_to_ask() -> None:
    gcs = Gcs()
    gcs.take()
    gcs.take(b"c")
    assert [list(reply.silent) for reply in gcs.replies] == [[], ["node 63 (not connected)"]]
    assert gcs.deadlines == []


def test_a_node_that_leaves_is_named_at_once() -> None:
    gcs = Gcs(b"a", b"b", b"c")
    gcs.take()
    gcs.answer(b"c")
    gcs.snapshots.gone(b"a")
    gcs.snapshots.gone(b"c")
    gcs.answer(b"b")
    (reply,) = gcs.replies
    assert list(reply.silent) == ["node 61 (disconnected)"]
    assert [node.node_id for node in reply.nodes] == [b"c", b"b"]
