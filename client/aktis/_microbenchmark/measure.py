"""Turns a load into a rate."""

from __future__ import annotations

import time
from collections.abc import Callable

from .model import Api, Load, Row, Sample

Clock = Callable[[], float]


def rate(load: Load, seconds: float, warmup_s: float, clock: Clock = time.perf_counter) -> Sample:
    """Runs ``load`` for about ``seconds`` and returns amount per second.

    Steps run until ``warmup_s`` has passed (at least one, so that workers, connections and pages are warm),
    then timed steps until their own time adds up to ``seconds`` (at least one). A step is never cut short,
    so a slow system takes longer, not fewer calls than one step.

    Raises ``ValueError`` for a duration that is not positive.
    """
    if seconds <= 0 or warmup_s < 0:
        raise ValueError(f"seconds must be > 0 and warmup_s >= 0, got {seconds} and {warmup_s}")
    _spend(load, warmup_s, clock)
    steps, elapsed_s = _spend(load, seconds, clock)
    return Sample(load.amount * steps / elapsed_s, steps, elapsed_s)


def _spend(load: Load, budget_s: float, clock: Clock) -> tuple[int, float]:
    """Runs steps until the time inside them reaches the budget; returns how many and that time."""
    steps = 0
    spent_s = 0.0
    while True:
        start = clock()
        load.step()
        spent_s += clock() - start
        load.reset()
        steps += 1
        if spent_s >= budget_s:
            return steps, spent_s


def measure_row(api: Api, row: Row, clients: int, seconds: float, warmup_s: float) -> Sample:
    """Prepares the row's load, measures it and cleans up after it, also when it fails."""
    load = row.prepare(api, clients)
    try:
        return rate(load, seconds, warmup_s)
    finally:
        load.close()
