"""The nodes: who may join, who is alive, what they have.

    (register) ──> ALIVE <──> SUSPECT ──> DEAD

Any message of a node's stream is a sign of life. Silence is counted in ticks of this process rather than in
time that passed: when the GCS itself was stopped or busy, one late tick counts once, and heartbeats that wait
unread in the meantime cost nobody their life. DEAD is final. The node must stop its processes and come back
with a new id.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

from aktis._common import ids, version
from aktis._proto import gcs_pb2

from aktisd.gcs.clock import Clock
from aktisd.gcs.effects import NODES_CHANNEL, Effects
from aktisd.gcs.errors import RequestError, invalid
from aktisd.gcs.limits import Limits
from aktisd.gcs.resource_view import NodeResources, ResourceView
from aktisd.gcs.storage.interface import Table
from aktisd.gcs.validate import check_id, check_resources, check_text, check_text_map

Node = gcs_pb2.Node
State = gcs_pb2.Node.State
StateValue: TypeAlias = "gcs_pb2.Node.State.ValueType"

TRANSITIONS: dict[StateValue, frozenset[StateValue]] = {
    Node.ALIVE: frozenset({Node.SUSPECT, Node.DEAD}),
    Node.SUSPECT: frozenset({Node.ALIVE, Node.DEAD}),
    Node.DEAD: frozenset(),
}
LATE_TICK = 1.5
"""A tick counts for at most this many periods: its lateness is ours, not the node's."""


class RefusedError(Exception):
    """A registration that is turned down."""

    def __init__(self, code: "gcs_pb2.NodeRefused.Code.ValueType", reason: str) -> None:
        super().__init__(reason)
        self.refusal = gcs_pb2.NodeRefused(code=code, reason=reason)


@dataclass(slots=True)
class NodeRecord:
    """A node and its health. `proto.available` and `proto.daemons` are only in memory."""

    proto: gcs_pb2.Node
    silence_ms: float = 0.0
    connected: bool = False
    loop_lag_s: float = 0.0

    @property
    def node_id(self) -> bytes:
        """Its id."""
        return self.proto.node_id


class NodeManager:
    """Pure state machine, driven by the event loop's thread only."""

    def __init__(self, clock: Clock, limits: Limits, view: ResourceView) -> None:
        self._clock = clock
        self._limits = limits
        self._view = view
        self._nodes: dict[bytes, NodeRecord] = {}
        self._dead: dict[bytes, None] = {}  # oldest first
        self._last_tick_ms = clock.monotonic_ms()
        self.transitions: Counter[tuple[str, str]] = Counter()

    def load(self, rows: dict[bytes, bytes]) -> None:
        """Take over what an earlier process stored; the nodes have the usual time to reconnect."""
        records = [NodeRecord(Node.FromString(value)) for value in rows.values()]
        for record in sorted(records, key=lambda record: record.proto.end_time_unix_ms):
            self._nodes[record.node_id] = record
            if record.proto.state == Node.DEAD:
                self._dead[record.node_id] = None

    # ---- events ----

    def register(self, request: gcs_pb2.NodeRegister, out: Effects) -> None:
        """Let a node in, new or known.

        Raises:
            RefusedError: with the reason for the node's operator.
        """
        node = request.node
        reason = version.refusal(request.protocol_major, request.protocol_minor, node.version)
        if reason is not None:
            raise RefusedError(gcs_pb2.NodeRefused.VERSION, reason)
        try:
            resources = self._checked(node)
        except RequestError as error:
            raise RefusedError(gcs_pb2.NodeRefused.INVALID, error.message) from None
        known = self._nodes.get(node.node_id)
        if known is not None and known.proto.state == Node.DEAD:
            raise RefusedError(
                gcs_pb2.NodeRefused.DECLARED_DEAD,
                f"node {ids.short(node.node_id)} was declared dead ({known.proto.death_message}): "
                "stop its workers and register with a new node id",
            )
        self._enter(node, known, out)
        self._view.add(resources)

    def disconnected(self, node_id: bytes, out: Effects) -> None:
        """The stream broke. The node may come back until its silence is too long."""
        record = self._nodes.get(node_id)
        if record is not None and record.connected:
            record.connected = False
            self._view.remove(node_id)
            out.note("node_disconnected", node=ids.short(node_id))

    def sign_of_life(self, node_id: bytes, out: Effects) -> None:
        """Something arrived on the node's stream."""
        record = self._nodes[node_id]
        record.silence_ms = 0.0
        if record.proto.state == Node.SUSPECT:
            self._change(record, Node.ALIVE, "heard from again", out)

    def heartbeat(self, node_id: bytes, heartbeat: gcs_pb2.NodeHeartbeat) -> None:
        """Note the load and the daemons that a heartbeat tells of."""
        record = self._nodes[node_id]
        record.loop_lag_s = heartbeat.loop_lag_s
        self._view.heartbeat(node_id)
        if heartbeat.daemons:
            del record.proto.daemons[:]
            record.proto.daemons.extend(heartbeat.daemons)

    def resources(self, node_id: bytes, update: gcs_pb2.ResourceUpdate) -> None:
        """Take over a report of resources."""
        total = check_resources(update.total, "total resources")
        available = check_resources(update.available, "available resources")
        proto = self._nodes[node_id].proto
        proto.total.CopyFrom(update.total)
        proto.available.CopyFrom(update.available)
        self._view.report(node_id, total, available)

    def leave(self, node_id: bytes, reason: str, out: Effects) -> None:
        """The node says that it ends."""
        self._die(self._nodes[node_id], f"left the cluster: {reason or 'stopped'}", out)

    def tick(self, out: Effects) -> list[bytes]:
        """Count silence; call it every `tick_period_ms`. Return the ids of nodes that died by it."""
        now_ms = self._clock.monotonic_ms()
        passed_ms = min(now_ms - self._last_tick_ms, LATE_TICK * self.tick_period_ms)
        self._last_tick_ms = now_ms
        dead = []
        for record in self._nodes.values():
            if record.proto.state == Node.DEAD:
                continue
            record.silence_ms += passed_ms
            if record.silence_ms >= self._limits.dead_after_ms:
                dead.append(record)
            elif record.silence_ms >= self._limits.suspect_after_ms and record.proto.state == Node.ALIVE:
                self._change(record, Node.SUSPECT, f"silent for {record.silence_ms:.0f} ms", out)
        for record in dead:
            self._die(record, f"silent for {record.silence_ms:.0f} ms", out)
        return [record.node_id for record in dead]

    # ---- questions ----

    @property
    def tick_period_ms(self) -> float:
        """How often `tick` wants to be called; deadlines are met within that time."""
        return self._limits.heartbeat_period_ms / 2

    def get(self, node_id: bytes) -> NodeRecord | None:
        """Return a node, dead ones as long as they are remembered."""
        return self._nodes.get(node_id)

    def is_dead(self, node_id: bytes) -> bool:
        """Say whether the node was declared dead."""
        return node_id in self._dead

    def list(self) -> list[gcs_pb2.Node]:
        """Return every node that is remembered."""
        return [record.proto for record in self._nodes.values()]

    def all_connected(self) -> bool:
        """Say whether every node that is not dead has its stream, so that the resource view is complete."""
        return all(record.connected or record.proto.state == Node.DEAD for record in self._nodes.values())

    def counts(self) -> dict[str, int]:
        """Return the number of nodes per state."""
        counts = {State.Name(state): 0 for state in TRANSITIONS}
        for record in self._nodes.values():
            counts[State.Name(record.proto.state)] += 1
        return counts

    # ---- steps ----

    def _checked(self, node: gcs_pb2.Node) -> NodeResources:
        check_id(node.node_id, ids.NODE_ID_BYTES, "node_id")
        check_text(node.hostname, self._limits.name_characters, "hostname")
        check_text(node.ip, self._limits.name_characters, "ip")
        check_text(node.raylet_socket, self._limits.name_characters, "raylet_socket")
        check_text(node.session_dir, self._limits.name_characters, "session_dir")
        check_text_map(node.labels, self._limits.metadata_bytes, "labels")
        if len(node.daemons) > self._limits.labels:
            raise invalid(f"a node has at most {self._limits.labels} daemons, got {len(node.daemons)}")
        return NodeResources(
            node.node_id,
            node.hostname,
            check_resources(node.total, "total resources"),
            check_resources(node.available, "available resources"),
            dict(node.labels),
        )

    def _enter(self, node: gcs_pb2.Node, known: NodeRecord | None, out: Effects) -> None:
        proto = Node()
        proto.CopyFrom(node)
        proto.end_time_unix_ms, proto.death_message = 0, ""
        if known is None:
            proto.state, proto.start_time_unix_ms = Node.ALIVE, self._clock.unix_ms()
            self._nodes[node.node_id] = NodeRecord(proto, connected=True)
            self._store(self._nodes[node.node_id], out)
            out.note("node_registered", node=ids.short(node.node_id), hostname=node.hostname)
            return
        proto.state, proto.start_time_unix_ms = known.proto.state, known.proto.start_time_unix_ms
        known.proto, known.connected = proto, True
        self._store(known, out)
        out.note("node_reconnected", node=ids.short(node.node_id), hostname=node.hostname)
        self.sign_of_life(node.node_id, out)

    def _die(self, record: NodeRecord, message: str, out: Effects) -> None:
        record.proto.end_time_unix_ms = self._clock.unix_ms()
        record.proto.death_message = message
        record.proto.available.Clear()
        record.connected = False
        self._view.remove(record.node_id)
        self._dead[record.node_id] = None
        self._change(record, Node.DEAD, message, out)
        out.refuse(record.node_id, gcs_pb2.NodeRefused.DECLARED_DEAD, message)
        while len(self._dead) > self._limits.dead_nodes:
            oldest = next(iter(self._dead))
            del self._dead[oldest], self._nodes[oldest]
            out.write(Table.NODES, oldest, None)

    def _change(self, record: NodeRecord, state: StateValue, why: str, out: Effects) -> None:
        old = record.proto.state
        assert state in TRANSITIONS[old], f"node {State.Name(old)} -> {State.Name(state)}"
        record.proto.state = state
        self.transitions[State.Name(old), State.Name(state)] += 1
        tell = out.note if state == Node.ALIVE else out.warn
        tell(
            "node_state", node=ids.short(record.node_id), old=State.Name(old), new=State.Name(state), why=why
        )
        self._store(record, out)

    def _store(self, record: NodeRecord, out: Effects) -> None:
        out.write(Table.NODES, record.node_id, record.proto.SerializeToString())
        snapshot = Node()
        snapshot.CopyFrom(record.proto)
        out.publish(gcs_pb2.Publication(channel=NODES_CHANNEL, key=record.node_id, node=snapshot))
