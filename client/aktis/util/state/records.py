"""One record per thing, made of what the GCS says. Read as attributes or, as a dict is, by name."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from aktis._common.resources import ResourceSet
from aktis._proto import gcs_pb2
from aktis._runtime.causes import describe_death
from aktis._runtime.group_spec import describe


class Record:
    """Access by name; ids are in hexadecimal, times in milliseconds since 1970."""

    def __getitem__(self, name: str) -> Any:
        """Return a field.

        Raises:
            KeyError: there is none of that name.
        """
        if name not in self.names():
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the fields."""
        return iter(self.names())

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, or the default when there is none of that name."""
        return getattr(self, name) if name in self.names() else default

    def asdict(self) -> dict[str, Any]:
        """Return the fields as a dict."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the fields."""
        return [field.name for field in fields(cls)]  # type: ignore[arg-type]


@dataclass(frozen=True)
class ActorState(Record):
    """An actor; the dead of the last ones as well."""

    actor_id: str
    class_name: str
    state: str
    """DEPENDENCIES_UNREADY, PENDING_CREATION, ALIVE, RESTARTING, DEAD."""
    job_id: str
    name: str
    namespace: str
    node_id: str | None
    pid: int | None
    required_resources: dict[str, float]
    is_detached: bool
    num_restarts: int
    death_cause: str | None
    pending_reason: str | None
    start_time_ms: int | None
    end_time_ms: int | None

    @classmethod
    def of(cls, actor: gcs_pb2.Actor) -> Self:
        """Describe what the GCS says."""
        spec, address = actor.spec, actor.address
        dead = actor.state == gcs_pb2.Actor.DEAD
        return cls(
            actor_id=spec.actor_id.hex(),
            class_name=spec.class_name,
            state=_actor_state(actor),
            job_id=spec.job_id.hex(),
            name=spec.name,
            namespace=spec.namespace,
            node_id=address.node_id.hex() or None,
            pid=address.pid or None,
            required_resources=ResourceSet.from_proto(spec.resources).to_floats(),
            is_detached=spec.detached,
            num_restarts=actor.restarts,
            death_cause=describe_death(actor.death_cause) if dead else None,
            pending_reason=actor.pending_reason or None,
            start_time_ms=actor.start_time_unix_ms or None,
            end_time_ms=actor.end_time_unix_ms or None,
        )


def _actor_state(actor: gcs_pb2.Actor) -> str:
    if actor.state == gcs_pb2.Actor.PENDING and actor.spec.awaits_arguments:
        return "DEPENDENCIES_UNREADY"
    if actor.state in (gcs_pb2.Actor.PENDING, gcs_pb2.Actor.STARTING):
        return "PENDING_CREATION"
    return gcs_pb2.Actor.State.Name(actor.state)


@dataclass(frozen=True)
class NodeState(Record):
    """A node; the dead of the last ones as well."""

    node_id: str
    node_ip: str
    is_head_node: bool
    state: str
    """ALIVE or DEAD; a node that has not been heard of for some seconds is alive until it is given up."""
    state_message: str | None
    node_name: str
    resources_total: dict[str, float]
    labels: dict[str, str]
    start_time_ms: int | None
    end_time_ms: int | None

    @classmethod
    def of(cls, node: gcs_pb2.Node) -> Self:
        """Describe what the GCS says."""
        return cls(
            node_id=node.node_id.hex(),
            node_ip=node.ip,
            is_head_node=node.is_head,
            state="DEAD" if node.state == gcs_pb2.Node.DEAD else "ALIVE",
            state_message=node.death_message or None,
            node_name=node.hostname,
            resources_total=ResourceSet.from_proto(node.total).to_floats(),
            labels=dict(node.labels),
            start_time_ms=node.start_time_unix_ms or None,
            end_time_ms=node.end_time_unix_ms or None,
        )


@dataclass(frozen=True)
class JobState(Record):
    """A program and its driver; the finished of the last ones as well."""

    job_id: str
    status: str
    """RUNNING or FINISHED."""
    entrypoint: str
    namespace: str
    driver_pid: int
    driver_node_id: str
    metadata: dict[str, str]
    start_time: int | None
    end_time: int | None

    @classmethod
    def of(cls, job: gcs_pb2.Job) -> Self:
        """Describe what the GCS says."""
        return cls(
            job_id=job.job_id.hex(),
            status=gcs_pb2.Job.State.Name(job.state),
            entrypoint=job.entrypoint,
            namespace=job.namespace,
            driver_pid=job.driver.pid,
            driver_node_id=job.driver.node_id.hex(),
            metadata=dict(job.metadata),
            start_time=job.start_time_unix_ms or None,
            end_time=job.end_time_unix_ms or None,
        )


@dataclass(frozen=True)
class PlacementGroupState(Record):
    """A placement group; the removed of the last ones as well."""

    placement_group_id: str
    name: str
    state: str
    """PENDING, CREATED, RESCHEDULING, REMOVED."""
    strategy: str
    bundles: dict[int, dict[str, float]]
    bundles_to_node_id: dict[int, str]

    @classmethod
    def of(cls, group: gcs_pb2.PlacementGroup) -> Self:
        """Describe what the GCS says."""
        described = describe(group)
        return cls(**{name: described[name] for name in cls.names()})
