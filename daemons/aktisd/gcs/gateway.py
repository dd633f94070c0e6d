"""Between the wires and the cluster's state: turns calls and stream messages into steps, effects into sends.

Belongs to the event loop. Everything here is synchronous; only the streams' own loops await.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from aktis._common.logging import Logger
from aktis._proto import gcs_pb2, snapshot_pb2
from google.protobuf.message import Message

from aktisd.gcs import methods
from aktisd.gcs.clock import Clock
from aktisd.gcs.cluster import Cluster
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status
from aktisd.gcs.kv import Lookup
from aktisd.gcs.outbox import Outbox
from aktisd.gcs.snapshots import Snapshots
from aktisd.gcs.storage.interface import StorageError
from aktisd.gcs.storage.writer import StorageWriter

Answer = Callable[[Message | RequestError], None]


class Session(Protocol):
    """A node's stream as the gateway sees it."""

    def send(self, message: gcs_pb2.NodeDown) -> None:
        """Queue a message."""

    def close(self, refusal: gcs_pb2.NodeRefused) -> None:
        """Send what is queued, then the reason, then end."""

    def wake(self) -> None:
        """Something was published."""


class Gateway:
    """The cluster, its outbox and the open streams."""

    def __init__(self, cluster: Cluster, writer: StorageWriter, clock: Clock, log: Logger) -> None:
        self.cluster = cluster
        self._writer = writer
        self._clock = clock
        self._log = log.bind()  # once: the lazy logger would bind itself anew for every note
        self._loop = asyncio.get_running_loop()
        self.outbox = Outbox(
            writer,
            cluster.limits.unwritten_bytes,
            self._settle,
            self._advance,
            self._release,
            details=self._log.is_enabled_for(logging.DEBUG),
        )
        # A registered session counts at once for what comes from it, but nothing is sent to it before its
        # registration is stored: earlier messages to the node belong to the stream before.
        self._current: dict[bytes, Session] = {}
        self._attached: dict[bytes, Session] = {}
        self._subscribers: set[Callable[[], None]] = set()
        self._snapshots = Snapshots(self._attached, self._loop.call_later)
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for_ms = 0.0
        self.calls: dict[tuple[str, str], int] = {}
        self.bad_messages = 0
        self._arm()

    # ---- calls ----

    def call(self, name: str, payload: bytes, answer: Answer) -> None:
        """Serve a unary method; ``answer`` is called once, when everything before it is stored."""
        try:
            self.outbox.check_room()
            reply = methods.call(self.cluster, name, payload, self.outbox.step())
        except RequestError as error:
            self._count(name, error.status)
            refusal = error  # the name of an except clause ends with it
            self.outbox.after(lambda failure: answer(refusal))
            return
        self._count(name, Status.OK)
        if isinstance(reply, Lookup):
            self._look_up(reply, answer)
        elif isinstance(reply, snapshot_pb2.TakeSnapshotRequest):
            self._snapshots.take(reply, answer)
        else:
            self.outbox.after(lambda failure: answer(reply if failure is None else _unavailable(failure)))

    # ---- nodes' streams ----

    def register(self, session: Session, request: gcs_pb2.NodeRegister) -> None:
        """Make ``session`` the stream of its node.

        Raises:
            RefusedError: with the answer; the session is not registered.
        """
        self.cluster.register(request, self.outbox.step())
        node_id = request.node.node_id
        old = self._current.get(node_id)
        if old is not None:
            reason = "a newer stream of this node took over"
            old.close(gcs_pb2.NodeRefused(code=gcs_pb2.NodeRefused.REPLACED, reason=reason))
        self._detach(node_id)
        self._current[node_id] = session
        self.outbox.before(lambda: self._attach(node_id, session))

    def up(self, session: Session, node_id: bytes, message: gcs_pb2.NodeUp) -> None:
        """Take in a message of a node; one from a stream that was replaced is ignored.

        Raises:
            RequestError: the message is malformed.
        """
        if self._current.get(node_id) is not session or self.cluster.nodes.is_dead(node_id):
            return
        out = self.outbox.step()
        self.cluster.nodes.sign_of_life(node_id, out)
        if message.HasField("relay"):
            self._relay(node_id, message.relay)
            return
        if message.HasField("snapshot"):
            self._snapshots.answered(node_id, message.snapshot)
            return
        self.cluster.up(node_id, message, out)
        if message.HasField("heartbeat"):
            ack = gcs_pb2.HeartbeatAck(sequence=message.heartbeat.sequence)
            session.send(gcs_pb2.NodeDown(heartbeat_ack=ack))

    def ended(self, session: Session, node_id: bytes) -> None:
        """A stream is over."""
        if self._current.get(node_id) is not session:
            return
        del self._current[node_id]
        self._detach(node_id)
        self.cluster.disconnected(node_id, self.outbox.step())

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever something was published."""
        self._subscribers.add(wake)

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """End `subscribe`."""
        self._subscribers.discard(wake)

    def streams(self) -> int:
        """Return how many nodes are connected."""
        return len(self._current)

    def close(self) -> None:
        """Stop the timer and store what the current turn has produced."""
        if self._timer is not None:
            self._timer.cancel()
        self.outbox.flush()

    # ---- steps ----

    def _relay(self, node_id: bytes, request: gcs_pb2.RelayRequest) -> None:
        def answer(reply: Message | RequestError) -> None:
            relayed = gcs_pb2.RelayReply(request_id=request.request_id)
            if isinstance(reply, RequestError):
                relayed.status, relayed.error = reply.status, reply.message
            else:
                relayed.payload = reply.SerializeToString()
            session = self._attached.get(node_id)
            if session is not None:
                session.send(gcs_pb2.NodeDown(relay=relayed))

        self.call(request.method, request.payload, answer)

    def _look_up(self, lookup: Lookup, answer: Answer) -> None:
        def found(value: bytes | None, error: StorageError | None) -> None:
            answer(lookup.finish(value) if error is None else _unavailable(error))

        self.outbox.flush()  # the read must stand behind the writes of this turn
        self._writer.read(lookup.table, lookup.key, found)

    def _attach(self, node_id: bytes, session: Session) -> None:
        if self._current.get(node_id) is session:
            self._attached[node_id] = session

    def _detach(self, node_id: bytes) -> None:
        if self._attached.pop(node_id, None) is not None:
            self._snapshots.gone(node_id)

    def _settle(self, effects: Effects) -> None:
        self.cluster.settle(effects)
        self._arm()

    def _advance(self, node_id: bytes, message: gcs_pb2.NodeDown) -> bool:
        session = self._attached.get(node_id)
        if session is None or self._current.get(node_id) is not session:
            return False
        session.send(message)
        return True

    def _release(self, effects: Effects) -> None:
        for node_id, message in effects.messages:
            session = self._attached.get(node_id)
            if session is not None:
                session.send(message)
        for node_id, refusal in effects.refusals:
            session = self._current.pop(node_id, None)
            self._detach(node_id)
            if session is not None:
                session.close(refusal)
        for publication in effects.publications:
            self.cluster.pubsub.publish(publication)
        if effects.publications:
            for session in self._attached.values():
                session.wake()
            for wake in self._subscribers:
                wake()
        for note in effects.notes:
            getattr(self._log, note.level)(note.event, **note.fields)

    def _arm(self) -> None:
        due_ms = self.cluster.next_wake_ms()
        if self._timer is not None:
            if self._armed_for_ms <= due_ms:
                return  # when it fires nothing is due, and it is armed again: cheaper than to do so always
            self._timer.cancel()
        self._armed_for_ms = due_ms
        delay_ms = max(0.0, due_ms - self._clock.monotonic_ms())
        self._timer = self._loop.call_later(delay_ms / 1000.0, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.cluster.tick(self.outbox.step())

    def _count(self, name: str, status: Status) -> None:
        known = name if name in methods.METHODS else "unknown"
        key = (known, status.name)
        self.calls[key] = self.calls.get(key, 0) + 1


def _unavailable(error: StorageError) -> RequestError:
    return RequestError(
        Status.UNAVAILABLE, f"the GCS could not store or read its state and restarts: {error}"
    )
