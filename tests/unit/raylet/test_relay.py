"""Relayed calls: waiting for the stream, resending, deadlines; the table names every unary method."""

import pytest
from aktis._proto import gcs_pb2
from aktisd.raylet import relay as relay_module
from aktisd.raylet.relay import IDEMPOTENT, RelayTable


class Harness:
    """A relay table with what it sent and the answers that callers got."""

    def __init__(self) -> None:
        self.sent: list[gcs_pb2.RelayRequest] = []
        self.replies: list[gcs_pb2.RelayReply] = []
        self.table = RelayTable(self.sent.append)

    def call(self, method: str, until: float = 100.0) -> None:
        self.table.call(method, b"payload", b"w" * 16, until, self.replies.append)


def test_every_unary_method_is_named() -> None:
    service = gcs_pb2.DESCRIPTOR.services_by_name["Gcs"]
    unary = {m.name for m in service.methods if not m.server_streaming}
    assert set(IDEMPOTENT) == unary


def test_calls_wait_for_the_stream_and_are_answered_once() -> None:
    h = Harness()
    h.call("KvGet")
    assert h.sent == []
    h.table.connected()
    (request,) = h.sent
    h.table.replied(gcs_pb2.RelayReply(request_id=request.request_id, payload=b"x"))
    h.table.replied(gcs_pb2.RelayReply(request_id=request.request_id, payload=b"late"))
    assert [reply.payload for reply in h.replies] == [b"x"]
    assert len(h.table) == 0


def test_after_a_break_idempotent_calls_are_sent_again_and_others_fail() -> None:
    h = Harness()
    h.table.connected()
    h.call("KvGet")
    h.call("RegisterJob")
    h.table.disconnected()
    (failed,) = h.replies
    assert failed.status == 14
    assert "whether it took effect is not known" in failed.error
    h.table.connected()
    assert [request.method for request in h.sent] == ["KvGet", "RegisterJob", "KvGet"]


def test_a_call_that_was_never_sent_survives_a_break() -> None:
    h = Harness()
    h.call("RegisterJob")
    h.table.disconnected()
    h.table.connected()
    assert [request.method for request in h.sent] == ["RegisterJob"]


def test_deadline() -> None:
    h = Harness()
    h.call("KvGet", until=5.0)
    h.call("KvList", until=7.0)
    assert h.table.next_deadline() == 5.0
    h.table.expire(5.0)
    (reply,) = h.replies
    assert (reply.status, reply.error) == (4, "KvGet: the GCS is not reachable")


def test_unknown_method_and_full_table_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    h = Harness()
    h.call("NodeStream")
    assert h.replies.pop().status == 12
    monkeypatch.setattr(relay_module, "MAX_CALLS", 1)
    h.call("KvGet")
    h.call("KvGet")
    assert h.replies.pop().status == 8
