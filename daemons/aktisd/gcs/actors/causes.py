"""Causes of death that the GCS itself finds."""

from typing import TypeAlias

from aktis._common import ids
from aktis._common.proto_values import enum_name
from aktis._proto import common_pb2

DeathCause = common_pb2.DeathCause
Kind = common_pb2.DeathCause.Kind
KindValue: TypeAlias = "common_pb2.DeathCause.Kind.ValueType"

FINAL: frozenset[KindValue] = frozenset(
    {
        DeathCause.INTENDED,
        DeathCause.CREATION_FAILED,
        DeathCause.OWNER_DIED,
        DeathCause.JOB_FINISHED,
        DeathCause.UNSCHEDULABLE,
        DeathCause.RUNTIME_ENV_FAILED,
        DeathCause.PLACEMENT_GROUP_REMOVED,
    }
)
"""After these an actor does not restart, whatever its budget."""


def words(cause: DeathCause) -> str:
    """Return what a cause says for people; its kind may be one that the process itself has made up."""
    return cause.message or enum_name(Kind.DESCRIPTOR, cause.kind)


def killed(no_restart: bool) -> DeathCause:
    """Return the cause for kill()."""
    return DeathCause(
        kind=DeathCause.KILLED, message="killed by kill()" + ("" if no_restart else ", may restart")
    )


def owner_died(worker_id: bytes, why: str) -> DeathCause:
    """Return the cause for an actor whose owner is gone."""
    message = f"its owner, process {ids.short(worker_id)}, is gone: {why}"
    return DeathCause(kind=DeathCause.OWNER_DIED, message=message)


def job_finished(job_id: bytes) -> DeathCause:
    """Return the cause for an actor whose job ended."""
    return DeathCause(kind=DeathCause.JOB_FINISHED, message=f"its job {job_id.hex()} finished")


def node_died(node_id: bytes, why: str) -> DeathCause:
    """Return the cause for an actor on a dead node."""
    message = f"its node {ids.short(node_id)} died: {why}"
    return DeathCause(kind=DeathCause.NODE_DIED, message=message, node_id=node_id)


def vanished(node_id: bytes) -> DeathCause:
    """Return the cause for an actor that its raylet no longer knows when it registers again."""
    message = f"its process was gone when node {ids.short(node_id)} registered again"
    return DeathCause(message=message, node_id=node_id)  # how it ended nobody can say


def group_removed(group_id: bytes, why: str) -> DeathCause:
    """Return the cause for an actor whose placement group is gone."""
    message = f"its placement group {group_id.hex()} does not exist any more: {why}"
    return DeathCause(kind=DeathCause.PLACEMENT_GROUP_REMOVED, message=message)


def unschedulable(why: str) -> DeathCause:
    """Return the cause for an actor that no waiting can help."""
    return DeathCause(kind=DeathCause.UNSCHEDULABLE, message=why)


def stale() -> DeathCause:
    """Return the cause for a process that no longer is the actor."""
    return DeathCause(
        kind=DeathCause.KILLED, message="a newer incarnation of the actor replaced it, or it has ended"
    )


def asked_to_end() -> DeathCause:
    """Return the cause for a graceful end."""
    return DeathCause(kind=DeathCause.INTENDED, message="the last handle to it went out of scope")
