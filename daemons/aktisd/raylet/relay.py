"""Calls of workers to the GCS that travel on the raylet's stream: which are under way, and until when. Pure.

A call waits for the stream to come back until its deadline. After a break, calls that were sent and not
answered are sent again when the method is idempotent; the others fail, because nobody knows whether they
took effect.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc
from aktis._proto import gcs_pb2

MAX_CALLS: Final = 20_000
MAX_PAYLOAD_BYTES: Final = 80 << 20

IDEMPOTENT: Final[dict[str, bool]] = {
    "GetClusterInfo": True,
    "ListNodes": True,
    "KvPut": True,  # the same value again; only `added` may tell the retry instead of the first attempt
    "KvGet": True,
    "KvDelete": True,
    "KvList": True,
    "RegisterJob": False,
    "FinishJob": True,
    "ListJobs": True,
    "CreateActors": True,  # ids are made by the caller: an actor that exists already is not made twice
    "GetActor": True,
    "ListActors": True,
    "KillActor": True,
    "CreatePlacementGroups": True,  # as actors
    "RemovePlacementGroups": True,
    "GetPlacementGroup": True,
    "ListPlacementGroups": True,
    "ListTaskEvents": True,
    "TakeSnapshot": True,
}
"""Every unary method of the service, and whether it may be sent again."""

OnReply = Callable[[gcs_pb2.RelayReply], None]


@dataclass(slots=True, eq=False)
class _Call:
    request: gcs_pb2.RelayRequest
    until: float
    on_reply: OnReply
    sent: bool = False


class RelayTable:
    """See the module. ``send`` queues a message on the stream; it is called only while connected."""

    def __init__(self, send: Callable[[gcs_pb2.RelayRequest], None]) -> None:
        self._send = send
        self._calls: dict[int, _Call] = {}
        self._last_id = 0
        self._connected = False

    def __len__(self) -> int:
        return len(self._calls)

    def call(self, method: str, payload: bytes, worker_id: bytes, until: float, on_reply: OnReply) -> None:
        """Start a call; ``on_reply`` is called exactly once, maybe before this returns."""
        if method not in IDEMPOTENT:
            on_reply(_failure(grpc.StatusCode.UNIMPLEMENTED, f"the GCS has no method {method[:64]!r}"))
            return
        if len(self._calls) >= MAX_CALLS or len(payload) > MAX_PAYLOAD_BYTES:
            what = f"{len(self._calls)} calls are under way" if self._calls else "the request is too large"
            on_reply(_failure(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{method}: {what}"))
            return
        self._last_id += 1
        request = gcs_pb2.RelayRequest(
            request_id=self._last_id, method=method, payload=payload, worker_id=worker_id
        )
        call = self._calls[self._last_id] = _Call(request, until, on_reply)
        if self._connected:
            call.sent = True
            self._send(request)

    def connected(self) -> None:
        """The stream is up: everything that waits is sent."""
        self._connected = True
        for call in self._calls.values():
            call.sent = True
            self._send(call.request)

    def disconnected(self) -> None:
        """The stream broke."""
        self._connected = False
        for request_id, call in list(self._calls.items()):
            if call.sent and not IDEMPOTENT[call.request.method]:
                del self._calls[request_id]
                message = f"{call.request.method}: the GCS went away; whether it took effect is not known"
                call.on_reply(_failure(grpc.StatusCode.UNAVAILABLE, message))
            call.sent = False

    def replied(self, reply: gcs_pb2.RelayReply) -> None:
        """The GCS answered; late answers are ignored."""
        call = self._calls.pop(reply.request_id, None)
        if call is not None:
            call.on_reply(reply)

    def expire(self, now: float) -> None:
        """Fail the calls whose time is over."""
        state = "did not answer in time" if self._connected else "is not reachable"
        for request_id, call in list(self._calls.items()):
            if call.until <= now:
                del self._calls[request_id]
                message = f"{call.request.method}: the GCS {state}"
                call.on_reply(_failure(grpc.StatusCode.DEADLINE_EXCEEDED, message))

    def next_deadline(self) -> float | None:
        """When ``expire`` has something to do."""
        return min((call.until for call in self._calls.values()), default=None)


def _failure(code: grpc.StatusCode, message: str) -> gcs_pb2.RelayReply:
    return gcs_pb2.RelayReply(status=code.value[0], error=message)
