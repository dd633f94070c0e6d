"""Every number of the store is on /metrics, under its own name."""

from aktis._core import PlasmaStore
from aktisd.plasma.metrics import PlasmaCollector
from prometheus_client import CollectorRegistry, generate_latest

NOT_METRICS = {"epoch", "resumed_objects", "dropped_slots"}  # facts of the start, in the log


def test_all_statistics_are_exported(store: PlasmaStore) -> None:
    registry = CollectorRegistry()
    registry.register(PlasmaCollector(store.statistics))
    lines = generate_latest(registry).decode().splitlines()
    exported = {line.split()[0].removeprefix("aktis_plasma_") for line in lines if not line.startswith("#")}
    assert exported == set(store.statistics()) - NOT_METRICS
