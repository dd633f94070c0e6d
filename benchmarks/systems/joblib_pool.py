"""joblib with its default backend (loky) and its automatic batching."""

from __future__ import annotations

import importlib

from aktis._microbenchmark.model import Load

from benchmarks.protocol import Reporter
from benchmarks.systems import calls


def measure(reporter: Reporter) -> None:
    joblib = importlib.import_module("joblib")
    numbers = range(calls.CALLS_PER_STEP)
    one_small = joblib.delayed(calls.small)
    one_same = joblib.delayed(calls.same)
    with joblib.Parallel(n_jobs=reporter.request.clients) as parallel:
        reporter.attempt_load(calls.TASKS_BATCH, lambda: Load(lambda: parallel(one_same(n) for n in numbers)))
        reporter.attempt_load(calls.TASKS_SYNCHRONOUS, lambda: Load(lambda: parallel([one_small()])))
        reporter.attempt_load(
            calls.TASKS_ASYNCHRONOUS,
            lambda: Load(lambda: parallel(one_small() for _ in numbers), amount=len(numbers)),
        )
