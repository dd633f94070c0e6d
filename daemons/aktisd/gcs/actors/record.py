"""One actor as the GCS keeps it, and the states it may go through.

(create) ──> PENDING ──> STARTING ──> ALIVE ──> RESTARTING ──> STARTING ...
                ^           │ no room   │            ^
                └───────────┤           │            │
                            └── died ───┴────────────┘      any ──> DEAD
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from aktis._common.resources import ResourceSet
from aktis._proto import common_pb2, gcs_pb2

from aktisd.gcs.placement_groups.bundle_views import bundle_key

Actor = gcs_pb2.Actor
State = gcs_pb2.Actor.State
StateValue: TypeAlias = "gcs_pb2.Actor.State.ValueType"

TRANSITIONS: dict[StateValue, frozenset[StateValue]] = {
    Actor.PENDING: frozenset({Actor.STARTING, Actor.DEAD}),
    Actor.STARTING: frozenset({Actor.ALIVE, Actor.PENDING, Actor.RESTARTING, Actor.DEAD}),
    Actor.ALIVE: frozenset({Actor.RESTARTING, Actor.DEAD}),
    Actor.RESTARTING: frozenset({Actor.STARTING, Actor.DEAD}),
    Actor.DEAD: frozenset(),
}
Labels = tuple[tuple[str, str], ...]
WITH_PROCESS = frozenset({Actor.STARTING, Actor.ALIVE})
WAITING = frozenset({Actor.PENDING, Actor.RESTARTING})
UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class Demand:
    """What an actor asks of a node; actors with equal demands wait in one queue."""

    resources: ResourceSet
    """Held while it lives."""
    placement: ResourceSet
    """Must exist on the node, and is preferred to be free there, when the actor is placed; never held."""
    labels: Labels = ()
    """Label and condition, see `aktis._common.labels`."""
    fallbacks: tuple[Labels, ...] = ()
    """Instead of ``labels``, in this order, where no node satisfies those."""
    preferred: Labels = ()
    """Such nodes first."""
    affinity: bytes = b""
    """The node that it must be on, or should be if ``soft``."""
    soft: bool = False
    group: bytes = b""
    """The placement group in whose bundles it lives."""
    bundle: int = -1
    """Of the group; -1: any."""

    @property
    def is_pinned(self) -> bool:
        """Whether no other node than one will do, ever."""
        return bool(self.affinity) and not self.soft

    @classmethod
    def of(cls, spec: gcs_pb2.ActorSpec) -> "Demand":
        """Read the demand of a spec whose resources are valid."""
        return cls(
            ResourceSet.from_proto(spec.resources),
            ResourceSet.from_proto(spec.placement_resources),
            _labels(spec.label_selector),
            tuple(_labels(selector.conditions) for selector in spec.strategy.fallbacks),
            _labels(spec.strategy.preferred.conditions),
            spec.strategy.node_id,
            spec.strategy.soft,
            spec.strategy.placement_group_id,
            spec.strategy.bundle_index if spec.strategy.placement_group_id else -1,
        )


def _labels(selector: Mapping[str, str]) -> Labels:
    return tuple(sorted(selector.items()))


class Counted(Enum):
    """How the resource view counts an actor on its node."""

    NOT = "not"
    PROMISED = "promised"
    RUNNING = "running"


@dataclass(slots=True)
class ActorRecord:
    """An actor. `spec` lacks the opaque parts, which are kept apart and only until its death."""

    spec: gcs_pb2.ActorSpec
    demand: Demand
    creation_task: bytes
    handle: bytes
    state: StateValue = Actor.PENDING
    incarnation: int = 0
    restarts: int = 0
    ending: bool = False
    node_id: bytes = b""
    """Where its process is or is being started; empty in the other states."""
    bundle: int = -1
    """Of its placement group, where its process is or is being started."""
    address: common_pb2.ProcessAddress | None = None
    """Of the living process."""
    death_cause: common_pb2.DeathCause | None = None
    start_time_unix_ms: int = 0
    end_time_unix_ms: int = 0

    # Only in memory.
    counted: Counted = Counted.NOT
    counted_reports: int = 0
    """What `ResourceView.promise` returned."""
    stop: gcs_pb2.StopActor | None = None
    """What was last asked of its present process, repeated when its raylet reconnects."""
    alive_since_ms: float | None = None
    quick_deaths: int = field(default=0)

    @property
    def actor_id(self) -> bytes:
        """Its id."""
        return self.spec.actor_id

    @property
    def place_key(self) -> bytes:
        """By what the resource view that it is counted in names its node or bundle."""
        return bundle_key(self.bundle) if self.demand.group else self.node_id

    @property
    def name_key(self) -> tuple[str, str] | None:
        """Its namespace and name; ``None`` when it is anonymous."""
        return (self.spec.namespace, self.spec.name) if self.spec.name else None

    def is_placeable(self) -> bool:
        """Say whether it waits for a node, and for nothing else."""
        return self.state in WAITING and not self.spec.awaits_arguments

    def may_restart(self) -> bool:
        """Say whether the budget allows one more process."""
        limit = self.spec.max_restarts
        return not self.ending and (limit == UNLIMITED or self.restarts < limit)

    def to_proto(self) -> gcs_pb2.Actor:
        """Return a snapshot without the opaque parts, for publications, lists and storage."""
        actor = Actor(
            spec=self.spec,
            state=self.state,
            incarnation=self.incarnation,
            restarts=self.restarts,
            ending=self.ending,
            start_time_unix_ms=self.start_time_unix_ms,
            end_time_unix_ms=self.end_time_unix_ms,
            bundle_index=self.bundle,
        )
        if self.address is not None:
            actor.address.CopyFrom(self.address)
        elif self.node_id:
            actor.address.node_id = self.node_id
        if self.death_cause is not None:
            actor.death_cause.CopyFrom(self.death_cause)
        return actor

    def full_spec(self) -> gcs_pb2.ActorSpec:
        """Return the spec with its opaque parts, for the process that becomes the actor."""
        spec = gcs_pb2.ActorSpec()
        spec.CopyFrom(self.spec)
        spec.creation_task, spec.handle = self.creation_task, self.handle
        return spec

    def opaque(self) -> bytes:
        """Return what is stored beside the record."""
        return gcs_pb2.ActorSpec(creation_task=self.creation_task, handle=self.handle).SerializeToString()

    @classmethod
    def from_spec(cls, spec: gcs_pb2.ActorSpec, start_time_unix_ms: int) -> "ActorRecord":
        """Make a new actor from a valid spec."""
        slim = gcs_pb2.ActorSpec()
        slim.CopyFrom(spec)
        slim.ClearField("creation_task")
        slim.ClearField("handle")
        return cls(
            slim, Demand.of(spec), spec.creation_task, spec.handle, start_time_unix_ms=start_time_unix_ms
        )

    @classmethod
    def from_stored(cls, row: bytes, opaque: bytes | None) -> "ActorRecord":
        """Read back what `to_proto` and `opaque` stored."""
        actor = Actor.FromString(row)
        parts = gcs_pb2.ActorSpec.FromString(opaque or b"")
        record = cls(actor.spec, Demand.of(actor.spec), parts.creation_task, parts.handle, state=actor.state)
        record.incarnation, record.restarts, record.ending = actor.incarnation, actor.restarts, actor.ending
        record.bundle = actor.bundle_index
        record.start_time_unix_ms, record.end_time_unix_ms = actor.start_time_unix_ms, actor.end_time_unix_ms
        if actor.HasField("death_cause"):
            record.death_cause = actor.death_cause
        if actor.state in WITH_PROCESS:
            record.node_id = actor.address.node_id
            record.address = actor.address if actor.state == Actor.ALIVE else None
        return record
