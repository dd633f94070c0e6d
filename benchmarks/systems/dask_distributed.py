"""Dask distributed: a local cluster of processes, as its ``Client`` starts it."""

from __future__ import annotations

import importlib
from typing import Any

from aktis._microbenchmark.model import Load

from benchmarks.protocol import Reporter
from benchmarks.systems import calls


class Small:
    """The actor."""

    def small(self) -> bytes:
        return b"ok"


def measure(reporter: Reporter) -> None:
    distributed = importlib.import_module("distributed")
    workers = reporter.request.clients
    with (
        distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        _measure_with(reporter, client)


def _measure_with(reporter: Reporter, client: Any) -> None:
    numbers = range(calls.CALLS_PER_STEP)

    def batch(function: Any) -> object:
        # pure=False: else Dask answers a repeated call from memory.
        return client.gather(client.map(function, numbers, pure=False))

    def one() -> object:
        return client.submit(calls.small, pure=False).result()

    reporter.attempt_load(calls.TASKS_BATCH, lambda: Load(lambda: batch(calls.same)))
    reporter.attempt_load(calls.TASKS_SYNCHRONOUS, lambda: Load(one))
    reporter.attempt_load(
        calls.TASKS_ASYNCHRONOUS, lambda: Load(lambda: batch(calls.small), amount=len(numbers))
    )
    actor = client.submit(Small, actor=True).result()

    def many_actor_calls() -> None:
        for future in [actor.small() for _ in numbers]:
            future.result()

    reporter.attempt_load(calls.ACTOR_SYNCHRONOUS, lambda: Load(lambda: actor.small().result()))
    reporter.attempt_load(calls.ACTOR_ASYNCHRONOUS, lambda: Load(many_actor_calls, amount=len(numbers)))
