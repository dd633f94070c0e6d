"""Publications of the GCS on their way to the clients of this node. Pure.

The raylet subscribes to a channel once, with its first subscriber, and keeps the last publications of it,
so that a client that reconnects can resume. One that has missed more is told to resynchronize.
"""

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

from aktis._proto import gcs_pb2

CHANNELS: Final = frozenset({"actors", "nodes", "jobs", "errors", "placement_groups"})
RING_SIZE: Final = 1_000

Deliver = Callable[[gcs_pb2.Publication], None]


@dataclass(slots=True)
class _Channel:
    last: int = 0
    ring: deque[gcs_pb2.Publication] = field(default_factory=lambda: deque(maxlen=RING_SIZE))
    subscribers: dict[Hashable, Deliver] = field(default_factory=dict)


class Fanout:
    """See the module."""

    def __init__(self, subscribe_upstream: Callable[[gcs_pb2.ChannelSubscription], None]) -> None:
        self._subscribe_upstream = subscribe_upstream
        self._channels: dict[str, _Channel] = {}

    def subscribe(self, who: Hashable, name: str, after_sequence: int, deliver: Deliver) -> None:
        """Deliver what comes after ``after_sequence``; 0: first a resynchronization, as from the GCS.

        Raises:
            ValueError: there is no such channel.
        """
        if name not in CHANNELS:
            raise ValueError(f"no channel {name[:40]!r}: expected one of {', '.join(sorted(CHANNELS))}")
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel()
            self._subscribe_upstream(gcs_pb2.ChannelSubscription(channel=name))
        channel.subscribers[who] = deliver
        if after_sequence < channel.last:
            missed = [p for p in channel.ring if p.sequence > after_sequence]
            if after_sequence and missed and missed[0].sequence == after_sequence + 1:
                for publication in missed:
                    deliver(publication)
            else:
                deliver(gcs_pb2.Publication(channel=name, sequence=channel.last, resynchronize=True))

    def unsubscribe(self, who: Hashable) -> None:
        """The client is gone. The channel stays subscribed: the next client will want it again."""
        for channel in self._channels.values():
            channel.subscribers.pop(who, None)

    def publish(self, publication: gcs_pb2.Publication) -> None:
        """The GCS published something."""
        channel = self._channels.get(publication.channel)
        if channel is None:
            return
        if publication.resynchronize:
            channel.ring.clear()
        else:
            channel.ring.append(publication)
        channel.last = publication.sequence
        for deliver in list(channel.subscribers.values()):
            deliver(publication)

    def subscriptions(self) -> list[gcs_pb2.ChannelSubscription]:
        """Where to resume, for a GCS that we register with."""
        return [
            gcs_pb2.ChannelSubscription(channel=name, after_sequence=channel.last)
            for name, channel in self._channels.items()
        ]
