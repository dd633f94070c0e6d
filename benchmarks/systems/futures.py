"""``concurrent.futures.ProcessPoolExecutor``."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

from aktis._microbenchmark.model import Load

from benchmarks.protocol import Reporter
from benchmarks.systems import calls


def measure(reporter: Reporter) -> None:
    numbers = range(calls.CALLS_PER_STEP)
    with ProcessPoolExecutor(reporter.request.clients) as pool:

        def many_small() -> None:
            for future in [pool.submit(calls.small) for _ in numbers]:
                future.result()

        reporter.attempt_load(calls.TASKS_BATCH, lambda: Load(lambda: list(pool.map(calls.same, numbers))))
        reporter.attempt_load(
            calls.TASKS_SYNCHRONOUS, lambda: Load(lambda: pool.submit(calls.small).result())
        )
        reporter.attempt_load(calls.TASKS_ASYNCHRONOUS, lambda: Load(many_small, amount=len(numbers)))
