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
class _Orders:
    """A message about bundles to which more can be added."""

    message: gcs_pb2.NodeDown
    last: gcs_pb2.BundleOrder | None = None
    alike: object = None
    """What groups have in common that share the last order."""
    groups: int = 0


@dataclass(slots=True)
class _News:
    """A publication about placement groups to which more can be added, while it is the latest one."""

    publication: gcs_pb2.Publication
    last: gcs_pb2.PlacementGroupNews.Change | None = None
    groups: int = 0


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
    details: bool = True
    """Whether anybody will read what `detail` notes."""
    later: list[Callable[[], None]] = field(default_factory=list)
    """The rest of what has been asked for, which nobody looks at before the next step: there is time for it
    while nodes answer early messages."""
    _open_orders: dict[bytes, _Orders] = field(default_factory=dict)
    """By node, where its latest message is about bundles."""
    _open_early: dict[bytes, _Orders] = field(default_factory=dict)
    _open_news: _News | None = None

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

    def order(
        self, node_id: bytes, group_id: bytes, alike: tuple[object, ...], *, early: bool = False
    ) -> gcs_pb2.BundleOrder | None:
        """Order something about the bundles of a group; what is due at one time shares a message.

        Args:
            alike: an order says the same to two groups in a row if and only if this is equal.
            early: before the writes, and before whatever else is due to the node.

        Returns:
            The order for the caller to fill in, ``None`` if the group shares the one before it.
        """
        open_orders = self._open_early if early else self._open_orders
        orders = open_orders.get(node_id)
        if orders is None or orders.groups >= SHARED_MESSAGE_ITEMS:
            orders = open_orders[node_id] = _Orders(gcs_pb2.NodeDown())
            (self.early if early else self.messages).append((node_id, orders.message))
        orders.groups += 1
        if orders.last is not None and orders.alike == alike:
            orders.last.placement_group_ids.append(group_id)
            return None
        orders.alike = alike
        orders.last = orders.message.bundle_orders.orders.add(placement_group_ids=(group_id,))
        return orders.last

    def catch_up(self) -> bool:
        """Do what was left for later; return whether there was anything."""
        later, self.later = self.later, []
        for work in later:
            work()
        return bool(later)

    def take_early(self) -> list[tuple[bytes, gcs_pb2.NodeDown]]:
        """Return the early messages, which are now the caller's affair."""
        taken, self.early = self.early, []
        self._open_early.clear()
        return taken

    def publish(self, publication: gcs_pb2.Publication) -> None:
        """Publish on the channel that the publication names."""
        self.publications.append(publication)

    def group_news(
        self, group_id: bytes, state: "gcs_pb2.PlacementGroup.State.ValueType", reason: str
    ) -> None:
        """Publish that a placement group changed its state; it shares a publication as above."""
        news = self._open_news
        if (
            news is None
            or news.groups >= SHARED_MESSAGE_ITEMS
            or self.publications[-1] is not news.publication
        ):
            news = self._open_news = _News(gcs_pb2.Publication(channel=PLACEMENT_GROUPS_CHANNEL))
            self.publications.append(news.publication)
        news.groups += 1
        if news.last is not None and news.last.state == state and news.last.removal_reason == reason:
            news.last.placement_group_ids.append(group_id)
        else:
            news.last = news.publication.placement_groups.changes.add(
                placement_group_ids=(group_id,), state=state, removal_reason=reason
            )

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
