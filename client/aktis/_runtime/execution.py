"""What the running task or actor of this process is, as user code may ask. Empty in a driver."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aktis._core import Task, running_task


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
    devices: Mapping[str, list[int]] = field(default_factory=dict)


@dataclass
class ActorFacts:
    """The actor that this process is."""

    actor_id: bytes
    incarnation: int
    shape: Any
    instance: Any = None


assignment = Assignment()
actor: ActorFacts | None = None
