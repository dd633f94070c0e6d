"""One placement group as the GCS keeps it, and the states it may go through.

(create) ──> PENDING <──> PREPARING ──> CREATED <──> RESCHEDULING      any ──> REMOVED
                                           ^              │ ^
                                           └── PREPARING ─┴─┘

PREPARING is only in memory: what a GCS that died was preparing is placed again, under another attempt.
"""

import functools
from dataclasses import dataclass, field
from typing import TypeAlias

from aktis._common.resources import ResourceSet
from aktis._proto import gcs_pb2

from aktisd.gcs.placement_groups.policies import Wish
from aktisd.gcs.resource_view import NodeResources

Group = gcs_pb2.PlacementGroup
State = gcs_pb2.PlacementGroup.State
StateValue: TypeAlias = "gcs_pb2.PlacementGroup.State.ValueType"

STATE_NAMES: dict[StateValue, str] = {value: State.Name(value) for value in State.values()}
TRANSITIONS: dict[StateValue, frozenset[StateValue]] = {
    Group.PENDING: frozenset({Group.PREPARING, Group.REMOVED}),
    Group.PREPARING: frozenset({Group.CREATED, Group.PENDING, Group.RESCHEDULING, Group.REMOVED}),
    Group.CREATED: frozenset({Group.RESCHEDULING, Group.REMOVED}),
    Group.RESCHEDULING: frozenset({Group.PREPARING, Group.REMOVED}),
    Group.REMOVED: frozenset(),
}
WAITING = frozenset({Group.PENDING, Group.RESCHEDULING})


@dataclass(slots=True)
class Place:
    """Where a bundle is, or is being prepared: nowhere when ``node_id`` is empty."""

    node_id: bytes = b""
    attempt: int = 0


@dataclass(slots=True)
class GroupRecord:
    """A placement group."""

    group_id: bytes
    spec: gcs_pb2.PlacementGroupSpec
    wishes: tuple[Wish, ...]
    state: StateValue = Group.PENDING
    places: list[Place] = field(default_factory=list)
    removal_reason: str = ""
    start_time_unix_ms: int = 0
    created_time_unix_ms: int = 0
    end_time_unix_ms: int = 0

    # Only in memory.
    spec_row: bytes = b""
    """The part of what is stored that never changes."""
    attempt: int = 0
    """The one under way, while PREPARING."""
    attempts: int = 0
    untried: bool = False
    """No node was ever asked for it, also by no earlier GCS."""
    awaited: set[bytes] = field(default_factory=set)
    """Nodes that have not answered it."""
    queued_as: tuple[object, ...] | None = None
    """Its shape when it began to wait, while it waits."""
    promises: list[tuple[NodeResources, ResourceSet]] = field(default_factory=list)
    """What the resource view counts as given away by it."""
    refusal: str = ""
    """Why a raylet could not prepare its bundles, the last time."""

    @property
    def name_key(self) -> tuple[str, str] | None:
        """Its namespace and name; ``None`` when it is anonymous."""
        return (self.spec.namespace, self.spec.name) if self.spec.name else None

    @property
    def shape(self) -> tuple[object, ...]:
        """What groups have in common that fit wherever one of them does."""
        if self.kept():
            return (self.group_id,)
        return (self.spec.strategy, self.wishes)

    def kept(self) -> dict[int, bytes]:
        """Return the node of every bundle that has one, while it waits."""
        return {index: place.node_id for index, place in enumerate(self.places) if place.node_id}

    def missing(self) -> dict[int, Wish]:
        """Return the bundles that are nowhere."""
        return {index: self.wishes[index] for index, place in enumerate(self.places) if not place.node_id}

    def nodes(self) -> set[bytes]:
        """Return the nodes that have bundles of it, or prepare some."""
        return {place.node_id for place in self.places if place.node_id}

    def to_proto(self) -> gcs_pb2.PlacementGroup:
        """Return a snapshot, for answers."""
        return Group.FromString(self._encode(self.state, self.places))

    def to_row(self) -> bytes:
        """Return what is stored: to whoever reads it, what is only being prepared is nowhere."""
        if self.state != Group.PREPARING:
            return self._encode(self.state, self.places)
        kept = [Place() if place.attempt == self.attempt else place for place in self.places]
        return self._encode(self.waiting_state, kept)

    @property
    def waiting_state(self) -> StateValue:
        """The state in which it waits for nodes."""
        return Group.RESCHEDULING if self.created_time_unix_ms else Group.PENDING

    def _encode(self, state: StateValue, places: list[Place]) -> bytes:
        """Encode everything, the larger part only once."""
        if not self.spec_row:
            self.spec_row = Group(spec=self.spec).SerializeToString()
        rest = Group(
            state=state,
            places=[Group.Place(node_id=place.node_id, attempt=place.attempt) for place in places],
            removal_reason=self.removal_reason,
            start_time_unix_ms=self.start_time_unix_ms,
            created_time_unix_ms=self.created_time_unix_ms,
            end_time_unix_ms=self.end_time_unix_ms,
            attempts=self.attempts,
        )
        return self.spec_row + rest.SerializeToString()  # what follows is merged when it is read

    @classmethod
    def from_spec(
        cls, spec: gcs_pb2.PlacementGroupSpec, wishes: tuple[Wish, ...], start_time_unix_ms: int
    ) -> "GroupRecord":
        """Make a new group from a valid spec and its `wishes_of`."""
        kept = gcs_pb2.PlacementGroupSpec()
        kept.CopyFrom(spec)
        places = [Place() for _ in wishes]
        return cls(
            spec.placement_group_id,
            kept,
            wishes,
            places=places,
            start_time_unix_ms=start_time_unix_ms,
            untried=True,
        )

    @classmethod
    def from_stored(cls, row: bytes) -> "GroupRecord":
        """Read back what `to_row` stored."""
        group = Group.FromString(row)
        return cls(
            group.spec.placement_group_id,
            group.spec,
            wishes_of(group.spec),
            group.state,
            [Place(place.node_id, place.attempt) for place in group.places],
            group.removal_reason,
            group.start_time_unix_ms,
            group.created_time_unix_ms,
            group.end_time_unix_ms,
        )


def wishes_of(spec: gcs_pb2.PlacementGroupSpec) -> tuple[Wish, ...]:
    """Return what the bundles ask for.

    Raises:
        ValueError: an amount or a name is not valid.
    """
    return tuple(_wish(bundle.SerializeToString(deterministic=True)) for bundle in spec.bundles)


@functools.lru_cache(maxsize=1024)
def _wish(encoded: bytes) -> Wish:
    """Decode a bundle; programs make many groups of the same ones."""
    bundle = gcs_pb2.Bundle.FromString(encoded)
    conditions = tuple(sorted(bundle.label_selector.conditions.items()))
    return Wish(ResourceSet.from_proto(bundle.resources), conditions)
