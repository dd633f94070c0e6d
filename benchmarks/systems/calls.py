"""Functions that pools call in their workers; at module level, because pools pickle them by name."""

from __future__ import annotations

CALLS_PER_STEP = 1_000

TASKS_SYNCHRONOUS = "tasks, synchronous"
TASKS_ASYNCHRONOUS = "tasks, asynchronous"
TASKS_BATCH = "1 000 tasks then get"
ACTOR_SYNCHRONOUS = "actor calls, synchronous"
ACTOR_ASYNCHRONOUS = "actor calls, asynchronous"


def small(_: object = None) -> bytes:
    return b"ok"


def same(number: int) -> int:
    return number
