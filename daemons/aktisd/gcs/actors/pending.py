"""Actors that wait for a node, one queue per demand.

When the first of a queue does not fit, nor does the rest: a change of the resource view costs one decision
per different demand, not one per actor.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from aktisd.gcs.actors.record import ActorRecord, Demand


@dataclass(slots=True)
class PendingQueue:
    """First come, first served among actors with equal demands."""

    demand: Demand
    # Not a dict: finding the first key of one whose first keys were deleted is linear in their number.
    actors: OrderedDict[bytes, ActorRecord] = field(default_factory=OrderedDict)
    tried_version: int = 0
    """The version of the resource view in which the first one did not fit."""
    warned_jobs: set[bytes] = field(default_factory=set)
    """Whose drivers were told that it is infeasible."""


class PendingActors:
    """All queues."""

    def __init__(self) -> None:
        self._queues: dict[Demand, PendingQueue] = {}

    def __iter__(self) -> Iterator[PendingQueue]:
        return iter(list(self._queues.values()))

    def __len__(self) -> int:
        return sum(len(queue.actors) for queue in self._queues.values())

    def add(self, record: ActorRecord) -> None:
        """Let an actor wait at the end of its queue."""
        queue = self._queues.get(record.demand)
        if queue is None:
            queue = self._queues[record.demand] = PendingQueue(record.demand)
        queue.actors[record.actor_id] = record

    def discard(self, record: ActorRecord) -> None:
        """Take an actor out, if it waits."""
        queue = self._queues.get(record.demand)
        if queue is not None and queue.actors.pop(record.actor_id, None) is not None and not queue.actors:
            del self._queues[record.demand]
