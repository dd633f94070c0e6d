"""The raylet's stream to the GCS: registers, reconnects, carries everything in both directions.

States: CONNECTING (dialling, or pausing before it does) -> REGISTERING (NodeRegister sent) -> UP ->
CONNECTING ... -> CLOSED. While it is not UP, calls of workers wait in the relay table and reports in a
bounded queue; task events are merged, so that a burst costs few messages however long the GCS was away.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, Protocol, cast

import grpc
from aktis._common.logging import get_logger
from aktis._common.proto_values import as_uint64
from aktis._common.rpc import connect
from aktis._proto import common_pb2, gcs_pb2, gcs_pb2_grpc

from aktisd.raylet.relay import OnReply, RelayTable

MAX_QUEUED: Final = 50_000
MAX_BATCH: Final = 500
MAX_BATCH_BYTES: Final = 4 << 20
MAX_TASK_EVENTS: Final = 20_000
FIRST_PAUSE_S: Final = 0.02
LINGER_S: Final = 0.001
REGISTER_TIMEOUT_S: Final = 10.0


class StreamState(Enum):
    """See the module."""

    CONNECTING = auto()
    REGISTERING = auto()
    UP = auto()
    CLOSED = auto()


_S = StreamState
TRANSITIONS: Final = {
    _S.CONNECTING: frozenset({_S.REGISTERING, _S.CLOSED}),
    _S.REGISTERING: frozenset({_S.UP, _S.CONNECTING, _S.CLOSED}),
    _S.UP: frozenset({_S.CONNECTING, _S.CLOSED}),
    _S.CLOSED: frozenset(),
}


_RECONNECT: Final = frozenset({gcs_pb2.NodeRefused.OVERLOADED, gcs_pb2.NodeRefused.CODE_UNSPECIFIED})
_MADE_ANEW: Final = frozenset({"relay", "heartbeat", "resources"})
_MUST_ARRIVE: Final = frozenset({gcs_pb2.ActorReport.DIED, gcs_pb2.ActorReport.NO_ROOM})


class RefusedError(Exception):
    """The GCS does not take this node under its id: its workers end, then it comes back with another."""


class StreamOwner(Protocol):
    """What the stream asks of the raylet, and tells it. All calls come on the loop."""

    def registration(self) -> gcs_pb2.NodeRegister:
        """The node's truth now."""

    def registered(self, reply: gcs_pb2.NodeRegistered) -> None:
        """The GCS knows this node."""

    def received(self, message: gcs_pb2.NodeDown) -> None:
        """Something for the node: StartActor, StopActor, Publication or JobEnded."""

    def heartbeat(self) -> gcs_pb2.NodeHeartbeat:
        """The next heartbeat, without its sequence number."""


class GcsStream:
    """See the module. Belongs to the event loop; ``run`` is its only task."""

    def __init__(
        self,
        address: str,
        token: str,
        owner: StreamOwner,
        retry_max_s: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._address = address
        self._token = token
        self._owner = owner
        self._retry_max_s = retry_max_s
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._log = get_logger()
        self._queue: deque[gcs_pb2.NodeUp] = deque()
        self._events: list[common_pb2.TaskEvent] = []
        self._events_dropped = 0
        self._wake = asyncio.Event()
        self._relay = RelayTable(self._send_relay)
        self._relay_timer: asyncio.TimerHandle | None = None
        self._relay_due = 0.0
        self._acknowledged_at = 0.0
        self._sequence = 0
        self._beats_written = 0
        # Reports that the GCS may not have seen, each with the last heartbeat written before it: what is
        # read is handled in order, so that the acknowledgement of a later heartbeat covers it.
        self._unconfirmed: deque[tuple[int, gcs_pb2.ActorReport]] = deque(maxlen=MAX_QUEUED)
        self._drained = asyncio.Event()
        self._leaving = False
        self._last_failure = ""
        self.state = StreamState.CONNECTING
        self.registered_once = asyncio.Event()
        self.reconnects = 0
        self.reports_dropped = 0

    # ---- sending ----

    def send(self, message: gcs_pb2.NodeUp) -> None:
        """Queue a report; when the queue is full the oldest goes."""
        self._enqueue(message)
        self._wake.set()

    def send_resources(self, update: gcs_pb2.ResourceUpdate) -> None:
        """Send the resource view after what was reported before, so that it can be told what it contains.

        It waits a moment for what else is due: who has given resources back often wants others at once, and
        then both are one message. While there is no stream it is dropped: the registration says what the node
        has.
        """
        if self.state is StreamState.UP:
            self._enqueue(gcs_pb2.NodeUp(resources=update))
            self._loop.call_later(LINGER_S, self._wake.set)

    def add_task_events(self, batch: common_pb2.TaskEventBatch) -> None:
        """Merge task events into the next message; beyond the bound they are counted and dropped."""
        room = MAX_TASK_EVENTS - len(self._events)
        self._events.extend(batch.events[:room])
        self._events_dropped += batch.dropped + max(0, len(batch.events) - room)
        self._wake.set()

    def call(
        self, method: str, payload: bytes, worker_id: bytes, timeout_s: float, on_reply: OnReply
    ) -> None:
        """A unary call; ``on_reply`` comes exactly once, with a status, by ``timeout_s``."""
        until = self._loop.time() + timeout_s
        self._relay.call(method, payload, worker_id, until, on_reply)
        if self._relay_timer is None or until < self._relay_due:
            self._arm_relay()

    @property
    def is_up(self) -> bool:
        """Whether the GCS knows this node at the moment."""
        return self.state is StreamState.UP

    @property
    def calls_under_way(self) -> int:
        """Relayed calls without an answer."""
        return len(self._relay)

    async def leave(self, reason: str) -> None:
        """Say good-bye: return when everything queued has been written; bound it with a timeout."""
        self._leaving = True
        self._drained.clear()
        self.send(gcs_pb2.NodeUp(leaving=gcs_pb2.NodeLeaving(reason=reason)))
        await self._drained.wait()

    # ---- life ----

    async def run(self) -> None:
        """Connect, register and stay connected until cancelled; raises RefusedError when the GCS says no."""
        pause_s = FIRST_PAUSE_S
        try:
            while True:
                was_up = await self._one_connection()
                if self._leaving:
                    return  # the GCS ends the stream of a node that has left
                if was_up:
                    pause_s = FIRST_PAUSE_S
                    self.reconnects += 1
                await asyncio.sleep(pause_s * (0.5 + self._jitter()))
                pause_s = min(self._retry_max_s, pause_s * 1.6)
        finally:
            self._move(StreamState.CLOSED)
            if self._relay_timer is not None:
                self._relay_timer.cancel()

    async def _one_connection(self) -> bool:
        """One stream from dial to break; whether it was UP."""
        channel = connect(self._address, self._token)
        was_up = False
        try:
            stream = cast("gcs_pb2_grpc.GcsAsyncStub", gcs_pb2_grpc.GcsStub(channel)).NodeStream(None)
            reply, more = await self._register(stream)
            was_up = True
            self._up(reply)
            for message in more:
                self._received(message)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(stream), name="gcs stream reader")
                tasks.create_task(self._write(stream), name="gcs stream writer")
                tasks.create_task(self._beat(reply), name="heartbeats")
        except* (grpc.RpcError, ConnectionError, TimeoutError, asyncio.InvalidStateError) as group:
            reason = _reason(group)
            if was_up or reason != self._last_failure:  # said once, not at every attempt
                self._log.warning("gcs_connection_lost" if was_up else "gcs_unreachable", error=reason)
            self._last_failure = reason
        finally:
            await channel.close()
            if was_up:
                self._relay.disconnected()
                # Calls are sent again from the table, heartbeats and views are made anew.
                kept = (m for m in self._queue if m.WhichOneof("body") not in _MADE_ANEW)
                self._queue = deque(kept)
            if self.state is not StreamState.CONNECTING:
                self._move(StreamState.CONNECTING)
        return was_up

    async def _register(self, stream: Any) -> tuple[gcs_pb2.NodeRegistered, list[gcs_pb2.NodeDown]]:
        """Return the answer, and what came in one message with it (publications of resumed channels)."""
        self._move(StreamState.REGISTERING)
        async with asyncio.timeout(REGISTER_TIMEOUT_S):
            registration = self._owner.registration()
            self._take_reports_out()
            registration.running_actors.extend(report for _, report in self._unconfirmed)
            await stream.write(gcs_pb2.NodeUp(register=registration))
            reply = await stream.read()
        if not isinstance(reply, gcs_pb2.NodeDown):
            raise ConnectionError("the GCS closed the stream before it answered the registration")
        first, *more = reply.batch.items if reply.HasField("batch") else (reply,)
        if first.WhichOneof("body") == "refused":
            self._refused(first.refused)
        if first.WhichOneof("body") != "registered":
            raise ConnectionError(f"expected an answer to the registration, got {first.WhichOneof('body')}")
        return first.registered, more

    def _take_reports_out(self) -> None:
        """Let the registration say what is queued about actors, with the causes of what died meanwhile.

        What it does not name is gone for the GCS, whatever a report that follows says. Actors that live are
        in the node's truth already.
        """
        waiting, self._queue = self._queue, deque()
        for message in waiting:
            if not message.HasField("actor_report"):
                self._queue.append(message)
            elif message.actor_report.event in _MUST_ARRIVE:
                self._unconfirmed.append((self._beats_written, message.actor_report))

    def _up(self, reply: gcs_pb2.NodeRegistered) -> None:
        self._move(StreamState.UP)
        self._acknowledged_at = self._loop.time()
        self._owner.registered(reply)
        self._relay.connected()
        self.registered_once.set()

    async def _read(self, stream: Any) -> None:
        while True:
            message = await stream.read()
            if not isinstance(message, gcs_pb2.NodeDown):
                raise ConnectionError("the GCS closed the stream")
            for item in message.batch.items if message.HasField("batch") else (message,):
                self._received(item)

    def _received(self, message: gcs_pb2.NodeDown) -> None:
        kind = message.WhichOneof("body")
        if kind == "relay":
            self._relay.replied(message.relay)
        elif kind == "heartbeat_ack":
            self._acknowledged_at = self._loop.time()
            while self._unconfirmed and self._unconfirmed[0][0] < message.heartbeat_ack.sequence:
                self._unconfirmed.popleft()
        elif kind == "refused":
            self._refused(message.refused)
        else:
            self._owner.received(message)

    def _refused(self, refusal: gcs_pb2.NodeRefused) -> None:
        if self._leaving or refusal.code in _RECONNECT:
            raise ConnectionError(f"refused: {refusal.reason}")
        raise RefusedError(refusal.reason)

    async def _write(self, stream: Any) -> None:
        while True:
            self._wake.clear()
            while self._queue or self._events or self._events_dropped:
                # All of them before what is queued: a call that lists events finds those that came before it.
                while self._events or self._events_dropped:
                    await self._write_events(stream)
                if self._queue:
                    await self._write_batch(stream)
            if not self._wake.is_set():
                self._drained.set()
                await self._wake.wait()

    async def _write_events(self, stream: Any) -> None:
        batch = common_pb2.TaskEventBatch(events=self._events, dropped=as_uint64(self._events_dropped))
        self._events, self._events_dropped = [], 0
        try:
            await stream.write(gcs_pb2.NodeUp(task_events=batch))
        except BaseException:
            self._events_dropped += batch.dropped + len(batch.events)
            raise

    async def _write_batch(self, stream: Any) -> None:
        """One message with what is queued; put back for the next connection when it cannot be written."""
        batch: list[gcs_pb2.NodeUp] = []
        size_bytes = 0
        while self._queue and len(batch) < MAX_BATCH and size_bytes < MAX_BATCH_BYTES:
            batch.append(self._queue.popleft())
            size_bytes += batch[-1].ByteSize()
        if len(batch) > 1 and size_bytes > MAX_BATCH_BYTES:
            self._queue.appendleft(batch.pop())
        try:
            message = batch[0] if len(batch) == 1 else gcs_pb2.NodeUp(batch=gcs_pb2.NodeUpBatch(items=batch))
            await stream.write(message)
        except BaseException:
            self._queue.extendleft(reversed(batch))
            raise
        for item in batch:
            if item.HasField("heartbeat"):
                self._beats_written = item.heartbeat.sequence
            elif item.HasField("actor_report") and item.actor_report.event in _MUST_ARRIVE:
                self._unconfirmed.append((self._beats_written, item.actor_report))

    async def _beat(self, reply: gcs_pb2.NodeRegistered) -> None:
        """Heartbeats; silence from the GCS as long as its own limit for us means a broken connection."""
        period_s = reply.heartbeat_period_ms / 1000
        while True:
            self._sequence += 1
            heartbeat = self._owner.heartbeat()
            heartbeat.sequence = self._sequence
            self.send(gcs_pb2.NodeUp(heartbeat=heartbeat))
            await asyncio.sleep(period_s)
            silence_s = self._loop.time() - self._acknowledged_at
            if silence_s > reply.dead_after_ms / 1000:
                raise TimeoutError(f"no heartbeat was acknowledged for {silence_s:.1f} s")

    # ---- inside ----

    def _enqueue(self, message: gcs_pb2.NodeUp) -> None:
        if len(self._queue) >= MAX_QUEUED:
            self._queue.popleft()
            self.reports_dropped += 1
        self._queue.append(message)

    def _send_relay(self, request: gcs_pb2.RelayRequest) -> None:
        self.send(gcs_pb2.NodeUp(relay=request))

    def _arm_relay(self) -> None:
        if self._relay_timer is not None:
            self._relay_timer.cancel()
            self._relay_timer = None
        due = self._relay.next_deadline()
        if due is not None:
            self._relay_due = due
            self._relay_timer = self._loop.call_at(due, self._expire_relay)

    def _expire_relay(self) -> None:
        self._relay_timer = None
        self._relay.expire(self._loop.time())
        self._arm_relay()

    def _move(self, to: StreamState) -> None:
        if to not in TRANSITIONS[self.state]:
            raise AssertionError(f"gcs stream: {self.state.name} -> {to.name} is not allowed")
        self.state = to


def _reason(group: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
