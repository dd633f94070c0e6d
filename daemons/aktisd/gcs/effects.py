"""What a manager wants done: the output of every state machine of the GCS.

Managers change their own state at once and describe everything else here. The outbox first makes the
writes durable and only then lets the rest out, in the order of the steps; nobody ever sees a state that a
crash could take back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from aktis._proto import gcs_pb2

from aktisd.gcs.storage.interface import Table, Writes

ACTORS_CHANNEL = "actors"
NODES_CHANNEL = "nodes"
JOBS_CHANNEL = "jobs"
ERRORS_CHANNEL = "errors"
PLACEMENT_GROUPS_CHANNEL = "placement_groups"
CHANNELS = (ACTORS_CHANNEL, NODES_CHANNEL, JOBS_CHANNEL, ERRORS_CHANNEL, PLACEMENT_GROUPS_CHANNEL)
SHARED_MESSAGE_ITEMS = 256
"""Of what travels in one message at most, so that messages stay small."""


Value: TypeAlias = bytes | Callable[[], bytes] | None
"""What is stored under a key; ``None`` deletes it. A function is called when the batch ends: what changes
several times before is encoded once."""


class Note(NamedTuple):
    """One line of the log: an event's name and its fields."""

    level: Literal["debug", "info", "warning"]
    event: str
    fields: dict[str, object]


@dataclass(slots=True)
class Effects:
    """Collected during one step of the event loop; owned by that step."""

    writes: dict[tuple[Table, bytes], Value] = field(default_factory=dict)
    """Last value per key; one atomic batch."""
    early: list[tuple[bytes, gcs_pb2.NodeDown]] = field(default_factory=list)
    """Messages that need not wait for the writes: if those are lost, so is what these have asked for."""
    messages: list[tuple[bytes, gcs_pb2.NodeDown]] = field(default_factory=list)
    """To the raylet of a node. A node without a stream misses them: its next registration reconciles."""
    publications: list[gcs_pb2.Publication] = field(default_factory=list)
    """Without their sequence numbers, which they get when they are let out."""
    refusals: list[tuple[bytes, gcs_pb2.NodeRefused]] = field(default_factory=list)
    """Nodes whose stream is to be closed, and why."""
    notes: list[Note] = field(default_factory=list)
    _open_orders: dict[bytes, gcs_pb2.NodeDown] = field(default_factory=dict)
    """By node, where its latest message is about bundles."""
    _open_early: dict[bytes, gcs_pb2.NodeDown] = field(default_factory=dict)

    def write(self, table: Table, key: bytes, value: Value) -> None:
        """Store ``value`` under ``key``, or delete the key."""
        self.writes[table, key] = value

    def rows(self) -> Writes:
        """Return the writes for the storage, at the end of the batch."""
        return {key: value() if callable(value) else value for key, value in self.writes.items()}

    def send(self, node_id: bytes, message: gcs_pb2.NodeDown) -> None:
        """Send to the raylet of a node."""
        self._open_orders.pop(node_id, None)
        self.messages.append((node_id, message))

    def order(self, node_id: bytes, *, early: bool = False) -> gcs_pb2.BundleOrder:
        """Send an order about bundles, which the caller fills in; those due at one time share a message.

        Args:
            early: before the writes, and before whatever else is due to the node.
        """
        open_orders = self._open_early if early else self._open_orders
        message = open_orders.get(node_id)
        if message is None or len(message.bundle_orders.orders) >= SHARED_MESSAGE_ITEMS:
            message = open_orders[node_id] = gcs_pb2.NodeDown()
            (self.early if early else self.messages).append((node_id, message))
        return message.bundle_orders.orders.add()

    def take_early(self) -> list[tuple[bytes, gcs_pb2.NodeDown]]:
        """Return the early messages, which are now the caller's affair."""
        taken, self.early = self.early, []
        self._open_early.clear()
        return taken

    def publish(self, publication: gcs_pb2.Publication) -> None:
        """Publish on the channel that the publication names."""
        self.publications.append(publication)

    def group_news(self) -> gcs_pb2.PlacementGroup:
        """Publish news of a placement group, which the caller fills in; it shares a publication as above."""
        last = self.publications[-1] if self.publications else None
        if last is None or not 0 < len(last.placement_groups.groups) < SHARED_MESSAGE_ITEMS:
            last = gcs_pb2.Publication(channel=PLACEMENT_GROUPS_CHANNEL)
            self.publications.append(last)
        return last.placement_groups.groups.add()

    def refuse(self, node_id: bytes, code: "gcs_pb2.NodeRefused.Code.ValueType", reason: str) -> None:
        """End the stream of a node with a reason."""
        self.refusals.append((node_id, gcs_pb2.NodeRefused(code=code, reason=reason)))

    def note(self, event: str, **fields: object) -> None:
        """Log an ordinary event."""
        self.notes.append(Note("info", event, fields))

    def detail(self, event: str, **fields: object) -> None:
        """Log what there may be thousands of."""
        self.notes.append(Note("debug", event, fields))

    def warn(self, event: str, **fields: object) -> None:
        """Log what an operator should look at."""
        self.notes.append(Note("warning", event, fields))
