"""Aktis, and any runtime with the same API: all rows, and the cost of the cluster itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from aktis._microbenchmark import ROWS

from benchmarks import catalogue
from benchmarks.procfs import descendants, pss_mib
from benchmarks.protocol import Reporter, timed_s

IDLE_ACTORS = 10
SETTLE_INTERVAL_S = 1.0
SETTLE_LIMIT_S = 15.0
SETTLED_WITHIN = 0.02


def measure(reporter: Reporter, api: Any, import_s: float) -> None:
    """Starts a cluster, measures it idle, runs the rows, stops it."""
    reporter.value(catalogue.IMPORT, import_s)
    request = reporter.request
    init_s = timed_s(lambda: api.init(num_cpus=request.num_cpus, log_to_driver=False))
    reporter.value(catalogue.INIT, init_s)
    try:
        reporter.attempt(catalogue.CLUSTER_MEMORY, lambda: settled(_cluster_pss_mib))
        for row in ROWS:
            reporter.attempt_load(row.name, lambda row=row: row.prepare(api, request.clients))  # type: ignore[misc]
        reporter.attempt(catalogue.ACTOR_MEMORY, lambda: _idle_actor_pss_mib(api))
    finally:
        shutdown_s = timed_s(api.shutdown)
    reporter.value(catalogue.SHUTDOWN, shutdown_s)


def _cluster_pss_mib() -> float:
    """All processes of the cluster without the driver.

    They are what lives below the harness (which adopts whoever loses its parent), apart from this process.
    """
    return pss_mib(descendants(os.getppid()) - {os.getpid()})


def _idle_actor_pss_mib(api: Any) -> float:
    """Mean over the processes of some actors that have answered one call and then sit idle."""

    class Idle:
        def pid(self) -> int:
            import os

            return os.getpid()

    idle = api.remote(num_cpus=0)(Idle)
    actors = [idle.remote() for _ in range(IDLE_ACTORS)]
    pids: set[int] = set(api.get([actor.pid.remote() for actor in actors]))
    try:
        return settled(lambda: pss_mib(pids)) / len(pids)
    finally:
        for actor in actors:
            api.kill(actor)


def settled(read: Callable[[], float]) -> float:
    """Reads until two readings one interval apart are nearly equal, or the limit has passed.

    Nothing announces that a cluster has become idle (a peer starts processes long after its ``init`` has
    returned), so this is the one place that looks again and again.
    """
    deadline = time.monotonic() + SETTLE_LIMIT_S
    before = read()
    while True:
        time.sleep(SETTLE_INTERVAL_S)
        now = read()
        if abs(now - before) <= SETTLED_WITHIN * max(now, before) or time.monotonic() > deadline:
            return now
        before = now
