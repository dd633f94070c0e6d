"""The systems that can be measured."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.protocol import Reporter


@dataclass(frozen=True, slots=True)
class System:
    """A system: its name in the table, and where it lives.

    own: runs in the environment in which the harness runs; else in the peers' environment.
    module: has ``measure(reporter)``; None for a runtime, which is imported under a stopwatch instead.
    """

    name: str
    own: bool
    module: str | None

    def measurer(self) -> Callable[[Reporter], None]:
        """The function that measures a system that is not a runtime."""
        if self.module is None:
            raise ValueError(f"{self.name} is a runtime: use systems.runtime.measure")
        found: Callable[[Reporter], None] = importlib.import_module(self.module).measure
        return found


SYSTEMS = {
    system.name: system
    for system in (
        System("aktis", own=True, module=None),
        System("ray", own=False, module=None),
        System("multiprocessing", own=False, module="benchmarks.systems.multiprocessing_pool"),
        System("futures", own=False, module="benchmarks.systems.futures"),
        System("joblib", own=False, module="benchmarks.systems.joblib_pool"),
        System("dask", own=False, module="benchmarks.systems.dask_distributed"),
        System("mpi", own=False, module="benchmarks.systems.mpi"),
        System("limit", own=False, module="benchmarks.systems.limit"),
    )
}


def select_systems(names: str) -> list[System]:
    """The systems of a comma-separated list; ``ValueError`` names an unknown one and those there are."""
    chosen: list[System] = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name not in SYSTEMS:
            raise ValueError(f"no system {name!r}; the systems are: {', '.join(SYSTEMS)}")
        chosen.append(SYSTEMS[name])
    return chosen
