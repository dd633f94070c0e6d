"""What aktis-plasma shows on /metrics: the C++ store's statistics, read when it is asked for."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_GAUGES: Final[Mapping[str, str]] = {
    "capacity_bytes": "Size of the arena.",
    "used_bytes": "Bytes that objects and leased slabs take.",
    "free_bytes": "Bytes that nobody has.",
    "largest_free_bytes": "Largest free piece: far below free_bytes means fragmentation.",
    "warm_free_bytes": "Free bytes whose pages are in memory already.",
    "resident_bytes": "Memory that the arena takes now.",
    "slab_bytes": "Bytes leased to clients and not sealed.",
    "evictable_bytes": "Bytes of copies that nobody pins.",
    "creating_objects": "Objects being written.",
    "creating_bytes": "Bytes of objects being written.",
    "sealed_objects": "Objects that can be read.",
    "sealed_bytes": "Bytes of objects that can be read.",
    "deleted_objects": "Deleted objects that are still being read.",
    "deleted_bytes": "Bytes of deleted objects that are still being read.",
    "pinned_objects": "Objects that some client holds.",
    "pinned_bytes": "Bytes of objects that some client holds.",
    "clients": "Connected clients.",
    "waiting_gets": "Objects that somebody waits for.",
    "waiting_creates": "Creations that wait for room.",
    "waiting_create_bytes": "Bytes of creations that wait for room.",
}

_COUNTERS: Final[Mapping[str, str]] = {
    "creates_total": "Objects created by request.",
    "seals_total": "Objects sealed.",
    "gets_total": "Objects asked for.",
    "releases_total": "Objects released.",
    "deletes_total": "Objects deleted by their owner.",
    "aborts_total": "Objects given up before they were sealed.",
    "slabs_total": "Slabs leased.",
    "allocated_bytes_total": "Bytes allocated for objects and slabs.",
    "evictions_total": "Objects evicted.",
    "evicted_bytes_total": "Bytes of objects evicted.",
    "full_errors_total": "Creations that failed because the store was full.",
    "protocol_errors_total": "Connections closed because of what a client said.",
    "refused_connections_total": "Connections refused before or in the handshake.",
    "disconnects_total": "Clients that went away.",
    "duplicates_total": "Objects sealed a second time under the same id.",
    "missing_total": "Objects that were asked for, must have been there, and were not.",
}


class PlasmaCollector(Collector):
    """Asks the store's thread once per scrape; takes microseconds."""

    def __init__(self, statistics: Callable[[], Mapping[str, int]]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        now = self._statistics()
        for name, help_text in _GAUGES.items():
            yield GaugeMetricFamily(f"aktis_plasma_{name}", help_text, value=now[name])
        for name, help_text in _COUNTERS.items():
            yield CounterMetricFamily(f"aktis_plasma_{name}", help_text, value=now[name])
