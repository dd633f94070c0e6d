"""What no runtime can beat here: bare pickles between two processes, bare copies into shared memory."""

from __future__ import annotations

from benchmarks.protocol import Reporter
from benchmarks.rows import memory_copy, pickle_trip
from benchmarks.systems import calls


def measure(reporter: Reporter) -> None:
    for row in (calls.TASKS_SYNCHRONOUS, calls.ACTOR_SYNCHRONOUS):
        reporter.attempt_load(row, pickle_trip.synchronous)
    for row in (calls.TASKS_ASYNCHRONOUS, calls.ACTOR_ASYNCHRONOUS):
        reporter.attempt_load(row, pickle_trip.pipelined)
    reporter.attempt_load("put, GB/s", memory_copy.one_copier)
    clients = reporter.request.clients
    reporter.attempt_load("put, several clients, GB/s", lambda: memory_copy.several_copiers(clients))
