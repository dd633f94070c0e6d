"""Publications: one bounded ring per channel, and subscribers that are nothing but a position in it.

Nothing is buffered per subscriber. One that falls behind the ring, or comes back from before this process,
is told to resynchronize: it reads the whole state by a request and goes on from the ring's end. Sequence
numbers begin above those of every earlier term, so an old position is always recognized.
"""

from collections import deque
from dataclasses import dataclass, field

from aktis._proto import gcs_pb2

from aktisd.gcs.effects import CHANNELS
from aktisd.gcs.errors import invalid
from aktisd.gcs.limits import Limits

TERM_SHIFT = 32


@dataclass(slots=True)
class Channel:
    """The latest publications of one kind."""

    name: str
    last: int
    """Sequence number of the newest publication, or where the numbering starts."""
    oldest: int
    """A subscriber at this position or later has missed nothing."""
    ring: deque[tuple[gcs_pb2.Publication, int]] = field(default_factory=deque)
    ring_bytes: int = 0


@dataclass(slots=True, eq=False)
class Subscription:
    """A position in a channel. `take` moves it."""

    channel: Channel
    position: int
    key: bytes = b""
    """Only publications with this key; empty: all."""

    def take(self, limit: int) -> list[gcs_pb2.Publication]:
        """Return up to ``limit`` publications that are due and count them as delivered."""
        if self.position < self.channel.oldest or self.position > self.channel.last:
            self.position = self.channel.last
            return [
                gcs_pb2.Publication(channel=self.channel.name, sequence=self.channel.last, resynchronize=True)
            ]
        taken: list[gcs_pb2.Publication] = []
        ring = self.channel.ring
        index = len(ring) - (self.channel.last - self.position)
        while index < len(ring) and len(taken) < limit:
            item = ring[index][0]
            self.position = item.sequence
            index += 1
            if not self.key or self.key == item.key:
                taken.append(item)
        return taken

    @property
    def behind(self) -> int:
        """How many publications it has not taken yet."""
        return self.channel.last - self.position


class PubSub:
    """All channels, driven by the event loop's thread only."""

    def __init__(self, limits: Limits, term: int) -> None:
        self._limits = limits
        start = term << TERM_SHIFT
        self._channels = {name: Channel(name, start, start) for name in CHANNELS}
        self.published: dict[str, int] = dict.fromkeys(CHANNELS, 0)

    def publish(self, publication: gcs_pb2.Publication) -> None:
        """Number a publication and put it into its channel's ring; it must not be changed afterwards."""
        channel = self._channels[publication.channel]
        channel.last += 1
        publication.sequence = channel.last
        size_bytes = publication.ByteSize()
        channel.ring.append((publication, size_bytes))
        channel.ring_bytes += size_bytes
        while (
            len(channel.ring) > self._limits.channel_items or channel.ring_bytes > self._limits.channel_bytes
        ):
            gone, gone_bytes = channel.ring.popleft()
            channel.ring_bytes -= gone_bytes
            channel.oldest = gone.sequence
        self.published[publication.channel] += 1

    def subscribe(self, channel: str, after_sequence: int, key: bytes = b"") -> Subscription:
        """Return a subscription that goes on after a sequence number; 0 begins with a resync.

        Raises:
            RequestError: there is no such channel.
        """
        if channel not in self._channels:
            raise invalid(f"there is no channel {channel!r}; the channels are {', '.join(CHANNELS)}")
        return Subscription(self._channels[channel], after_sequence, key)
