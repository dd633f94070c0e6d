"""What the running task or actor of this process is, as user code may ask. Empty in a driver."""

import contextvars
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aktis._core import Task


class _PerThread(threading.local):
    task: Task | None = None


# One attribute per thread for plain tasks, which is all that the fast path sets; coroutines of async actors
# interleave on one thread and have a context each.
per_thread = _PerThread()
per_coroutine: contextvars.ContextVar[Task | None] = contextvars.ContextVar("aktis_task", default=None)


def current_task() -> Task | None:
    """The task that the caller is part of, None in a driver or outside of tasks."""
    return per_coroutine.get() or per_thread.task


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
