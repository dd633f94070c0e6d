"""Everything that aktis-gcs shows on /metrics, read from the managers when it is asked for."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aktisd.gcs.actors.record import TRANSITIONS, State
from aktisd.gcs.gateway import Gateway
from aktisd.gcs.placement_groups.record import STATE_NAMES
from aktisd.gcs.placement_groups.record import TRANSITIONS as GROUP_TRANSITIONS
from aktisd.gcs.storage.writer import StorageWriter


class GcsCollector(Collector):
    """Reads on the event loop's thread, where the managers live. No id is a label."""

    def __init__(self, gateway: Gateway, writer: StorageWriter) -> None:
        self._gateway = gateway
        self._writer = writer

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        yield from self._nodes_and_jobs()
        yield from self._actors()
        yield from self._groups()
        yield from self._kv_and_events()
        yield from self._traffic()
        yield from self._storage()

    def _nodes_and_jobs(self) -> Iterator[Metric]:
        cluster = self._gateway.cluster
        yield _gauge("term", "Number of this owner of the storage.", cluster.term)
        yield _gauges("nodes", "Nodes by state.", "state", cluster.nodes.counts())
        yield _gauge("node_streams", "Nodes that are connected.", self._gateway.streams())
        yield _changes("node", cluster.nodes.transitions)
        yield _gauges("jobs", "Jobs by state.", "state", cluster.jobs.counts())

    def _actors(self) -> Iterator[Metric]:
        actors = self._gateway.cluster.actors
        counts = {State.Name(state): actors.table.counts[state] for state in TRANSITIONS}
        yield _gauges(
            "actors", "Actors by state; of the dead ones those that are remembered.", "state", counts
        )
        yield _gauge("actors_waiting", "Actors that wait for a node now.", actors.pending())
        yield _changes("actor", actors.transitions)

    def _groups(self) -> Iterator[Metric]:
        groups = self._gateway.cluster.groups
        counts = {STATE_NAMES[state]: groups.table.counts[state] for state in GROUP_TRANSITIONS}
        yield _gauges(
            "placement_groups",
            "Placement groups by state; of the removed ones those that are remembered.",
            "state",
            counts,
        )
        yield _gauge("placement_groups_waiting", "Placement groups that wait for room now.", groups.pending())
        yield _changes("placement_group", groups.transitions)

    def _kv_and_events(self) -> Iterator[Metric]:
        cluster = self._gateway.cluster
        yield _gauge("kv_keys", "Keys of the key-value store.", len(cluster.kv))
        yield _gauge("kv_bytes", "Size of its keys and values.", cluster.kv.total_bytes)
        packages = cluster.packages
        yield _gauge("packages", "Uploaded packages of runtime environments.", len(packages))
        yield _gauge("package_bytes", "Their size.", packages.package_bytes)
        yield _counter("packages_removed", "Packages removed because no job needed them.", packages.removed)
        reads = {"hit": cluster.kv.hits, "miss": cluster.kv.misses}
        yield _counters("kv_reads", "Values read, by whether the cache had them.", "cache", reads)
        yield _counter("task_events", "Task events received.", cluster.task_events.received)
        yield _counter(
            "task_events_dropped", "Task events dropped, here or before.", cluster.task_events.dropped
        )
        yield _gauge("task_events_bytes", "Size of the task events kept.", cluster.task_events.stored_bytes())

    def _traffic(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "aktis_gcs_calls", "Unary calls, direct and relayed.", labels=("method", "status")
        )
        for (method, status), count in self._gateway.calls.items():
            calls.add_metric((method, status), count)
        yield calls
        yield _counter("bad_messages", "Malformed stream messages.", self._gateway.bad_messages)
        published = self._gateway.cluster.pubsub.published
        yield _counters("publications", "Publications by channel.", "channel", published)

    def _storage(self) -> Iterator[Metric]:
        statistics = self._writer.statistics()
        yield _counter("storage_commits", "Commits of storage.", statistics.commits)
        yield _counter("storage_batches", "Batches that were grouped into commits.", statistics.batches)
        yield _counter("storage_rows", "Rows written.", statistics.rows)
        yield _counter(
            "storage_retries", "Steps of storage that failed and were tried again.", statistics.retries
        )
        yield _counter("storage_commit_seconds", "Time spent in commits.", statistics.commit_seconds)
        unwritten = self._gateway.outbox.unwritten_bytes
        yield _gauge("storage_unwritten_bytes", "Writes that wait for storage.", unwritten)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"aktis_gcs_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"aktis_gcs_{name}", text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"aktis_gcs_{name}", text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"aktis_gcs_{name}", text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _changes(what: str, transitions: Mapping[tuple[str, str], int]) -> Metric:
    family = CounterMetricFamily(
        f"aktis_gcs_{what}_changes", f"Changes of state of a {what}.", labels=("old", "new")
    )
    for pair, count in transitions.items():
        family.add_metric(pair, count)
    return family
