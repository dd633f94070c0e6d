"""What waits to go down one stream of a node: a bounded queue, and how it is cut into messages."""

from collections import deque

from aktis._proto import gcs_pb2

from aktisd.gcs.limits import Limits
from aktisd.gcs.pubsub import Subscription

NodeDown = gcs_pb2.NodeDown


class SendQueue:
    """Messages in order, then publications, which are read from their rings when there is room."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._messages: deque[tuple[NodeDown, int]] = deque()
        self._size_bytes = 0
        self.subscriptions: dict[str, Subscription] = {}
        self.overflowed = False

    def add(self, message: NodeDown) -> None:
        """Queue a message; once there are too many, nothing more is taken and `overflowed` stays set."""
        if self.overflowed:
            return
        size_bytes = message.ByteSize()
        if len(self._messages) >= self._limits.session_items or (
            self._messages and self._size_bytes + size_bytes > self._limits.session_bytes
        ):
            self.overflowed = True
            return
        self._messages.append((message, size_bytes))
        self._size_bytes += size_bytes

    def next_message(self) -> NodeDown | None:
        """Return the next message for the stream, a batch if several are due, ``None`` if nothing is."""
        items: list[NodeDown] = []
        size_bytes = 0
        while self._messages and len(items) < self._limits.batch_items:
            message, message_bytes = self._messages[0]
            if items and size_bytes + message_bytes > self._limits.batch_bytes:
                break
            self._messages.popleft()
            items.append(message)
            size_bytes += message_bytes
        self._size_bytes -= size_bytes
        if not self._messages:
            items += self._publications(self._limits.batch_items - len(items))
        if len(items) > 1:
            return NodeDown(batch=gcs_pb2.NodeDownBatch(items=items))
        return items[0] if items else None

    def _publications(self, room: int) -> list[NodeDown]:
        taken: list[NodeDown] = []
        for subscription in self.subscriptions.values():
            if room > len(taken) and subscription.behind:
                taken += [NodeDown(publication=item) for item in subscription.take(room - len(taken))]
        return taken
