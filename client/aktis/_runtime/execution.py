"""What the running task or actor of this process is, as user code may ask. Empty in a driver."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aktis._common.resources import ResourceSet
from aktis._core import Task, running_task
from aktis._proto import common_pb2

_GROUP_ID_BYTES: Final = 16
_NO_GROUP: Final = bytes(_GROUP_ID_BYTES)
_FIXED_BYTES: Final = _GROUP_ID_BYTES + 1
_CAPTURES: Final = 1
_NO_RESOURCES: Final = 2
MAX_CARRIED_BYTES: Final = 1024
"""What the core takes in a task."""
_ONE_CPU: Final = ResourceSet.of({"CPU": 1})


def current_task() -> Task | None:
    """The task that the caller is part of, None in a driver or outside of tasks.

    The core sets the context variable when a task begins, and reads it when one is submitted: what user code
    is told of itself and what its children are told of it is the same.
    """
    return running_task.get()


@dataclass
class Assignment:
    """What the raylet has given this worker for its lease or actor."""

    resources: Mapping[str, float] = field(default_factory=dict)
    devices: Mapping[str, list[str]] = field(default_factory=dict)
    """By kind, as their drivers call them."""


@dataclass
class ActorFacts:
    """The actor that this process is."""

    actor_id: bytes
    incarnation: int
    shape: Any
    instance: Any = None
    group: bytes = b""
    """Its placement group; empty for none."""
    saver: Any = None
    """Its `aktis._worker.checkpoints.Saver`, if it has the option ``checkpoint``."""


assignment = Assignment()
actor: ActorFacts | None = None


def placement_for(group: bytes, *, captures: bool, resources: ResourceSet) -> bytes:
    """What a task carries along: its placement group, and its resources, which are those of its lease.

    The raylet tells a worker as well, but that can come later than the first task of the lease. A plain task
    of one CPU carries nothing.
    """
    if not group and resources == _ONE_CPU:
        return b""
    encoded = resources.to_proto().SerializeToString(deterministic=True)
    too_long = _FIXED_BYTES + len(encoded) > MAX_CARRIED_BYTES  # only with dozens of custom resources
    flags = (_CAPTURES if captures else 0) | (_NO_RESOURCES if too_long else 0)
    return (group or _NO_GROUP) + bytes([flags]) + (b"" if too_long else encoded)


def group_of(carried: bytes) -> bytes:
    """The group that `placement_for` was told of, empty for none."""
    group = carried[:_GROUP_ID_BYTES]
    return b"" if group == _NO_GROUP else group


def captured_group(carried: bytes) -> bytes | None:
    """The group of a task with this placement if it captures what the task submits."""
    captures = bool(carried) and bool(carried[_GROUP_ID_BYTES] & _CAPTURES)
    return carried[:_GROUP_ID_BYTES] if captures else None


def current_group() -> bytes:
    """The placement group of the running task or of the actor; empty for none."""
    if actor is not None:
        return actor.group
    task = current_task()
    return b"" if task is None else group_of(task.placement)


def assigned_resources() -> dict[str, float]:
    """What the running task or the actor holds, by resource; empty in a driver."""
    if actor is not None:
        return dict(assignment.resources)
    task = current_task()
    if task is None:
        return dict(assignment.resources)
    if not task.placement:
        return _ONE_CPU.to_floats()
    if task.placement[_GROUP_ID_BYTES] & _NO_RESOURCES:
        return dict(assignment.resources)
    encoded = task.placement[_FIXED_BYTES:]
    return ResourceSet.from_proto(common_pb2.Resources.FromString(encoded)).to_floats()
