"""``multiprocessing.Pool``."""

from __future__ import annotations

import multiprocessing

from aktis._microbenchmark.model import Load

from benchmarks.protocol import Reporter
from benchmarks.systems import calls


def measure(reporter: Reporter) -> None:
    numbers = range(calls.CALLS_PER_STEP)
    with multiprocessing.Pool(reporter.request.clients) as pool:
        reporter.attempt_load(
            calls.TASKS_BATCH, lambda: Load(lambda: pool.map(calls.same, numbers, chunksize=1))
        )
        reporter.attempt_load(calls.TASKS_SYNCHRONOUS, lambda: Load(lambda: pool.apply(calls.small)))
        # One call per message, as with a task; chunks would measure a loop inside the worker.
        reporter.attempt_load(
            calls.TASKS_ASYNCHRONOUS,
            lambda: Load(lambda: pool.map(calls.small, numbers, chunksize=1), amount=len(numbers)),
        )
