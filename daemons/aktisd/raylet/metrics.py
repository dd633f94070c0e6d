"""What the raylet shows on /metrics. Read from the tables at each scrape; no ids as labels."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aktisd.raylet.raylet import Raylet
from aktisd.raylet.resources import UNIT
from aktisd.raylet.workers import WorkerState


class RayletCollector(Collector):
    """Runs on the raylet's loop, like everything that it reads."""

    def __init__(self, raylet: Raylet) -> None:
        self._raylet = raylet

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._resources()
        yield from self._workers()
        yield from self._simple()
        yield from self._raylet.user_metrics.collect()

    def _resources(self) -> Iterator[Metric]:
        ledger = self._raylet.logic.ledger
        total = GaugeMetricFamily("aktis_raylet_resource_total", "What the node has.", labels=["resource"])
        free = GaugeMetricFamily("aktis_raylet_resource_available", "What is free.", labels=["resource"])
        for name, amount in ledger.total.items():
            total.add_metric([name], amount / UNIT)
            free.add_metric([name], ledger.available[name] / UNIT)
        yield total
        yield free

    def _workers(self) -> Iterator[Metric]:
        pool = self._raylet.logic.pool
        workers = GaugeMetricFamily("aktis_raylet_workers", "Worker processes by state.", labels=["state"])
        for state in WorkerState:
            if state is not WorkerState.DEAD:
                workers.add_metric([state.name.lower()], pool.count(state))
        yield workers
        deaths = CounterMetricFamily(
            "aktis_raylet_worker_deaths", "Ended workers by cause.", labels=["cause"]
        )
        for kind, count in self._raylet.deaths_total.items():
            deaths.add_metric([kind.lower()], count)
        yield deaths

    def _simple(self) -> Iterator[Metric]:
        raylet = self._raylet
        pending = sum(count for _, count in raylet.logic.scheduler.pending())
        gauges = {
            "leases": ("Live leases.", sum(1 for _ in raylet.logic.scheduler.leases())),
            "leases_pending": ("Leases wanted and not granted.", pending),
            "actors_waiting": ("Actors that wait for a process.", raylet.logic.actors.waiting),
            "connections": ("Processes on the control socket.", len(raylet.control)),
            "user_metric_series": ("Series of metrics of user code.", raylet.user_metrics.series_count),
            "gcs_connected": ("1 while registered with the GCS.", int(raylet.gcs.is_up)),
            "gcs_calls_under_way": ("Relayed calls without an answer.", raylet.gcs.calls_under_way),
        }
        counters = {
            "leases_granted": ("Leases granted.", raylet.granted_total),
            "workers_started": ("Worker processes asked for.", raylet.logic.pool.started_total),
            "environment_failures": (
                "Runtime environments that could not be set up.",
                raylet.environments.failures_total,
            ),
            "template_restarts": ("Templates that had to be replaced.", raylet.templates.restarts),
            "protocol_errors": ("Connections closed for what they sent.", raylet.control.protocol_errors),
            "gcs_reconnects": ("Times that the stream to the GCS broke.", raylet.gcs.reconnects),
            "user_metrics_dropped": (
                "Measurements of user code without room, or of a name of another kind.",
                raylet.user_metrics.dropped_total,
            ),
            "log_lines_forwarded": ("Lines of workers sent to drivers.", raylet.lines.forwarded_total),
            "log_lines_dropped": ("Lines of workers cut by the rate limit.", raylet.lines.dropped_total),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"aktis_raylet_{name}", text, value)
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(f"aktis_raylet_{name}", text, value)
