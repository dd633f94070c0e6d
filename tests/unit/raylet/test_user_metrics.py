"""Metrics of user code in the raylet: adding up, bounds, what goes with a process and with a job."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from aktis._proto import raylet_pb2
from aktisd.raylet.user_metrics import UserMetrics
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

Batch = raylet_pb2.MetricBatch
ONE, OTHER, DRIVER = b"one", b"other", b"driver"
JOB, LATER = b"\0\0\0\1", b"\0\0\0\2"


class Node:
    """User metrics with drivers that come and go."""

    def __init__(self, **limits: int) -> None:
        self.drivers = {JOB, LATER}
        self.metrics = UserMetrics(lambda job: job in self.drivers, **limits)

    def counter(self, process: bytes, amount: float, job: bytes = JOB, name: str = "c", **tags: str) -> None:
        self.record(process, job, Batch.COUNTER, name, tags, value=amount)

    def gauge(self, process: bytes, value: float, job: bytes = JOB, name: str = "g", **tags: str) -> None:
        self.record(process, job, Batch.GAUGE, name, tags, value=value)

    def record(
        self, process: bytes, job: bytes, kind: int, name: str, tags: dict[str, str], **series: Any
    ) -> None:
        family = Batch.Family(name=name, description="what it is", kind=kind, tag_keys=list(tags))  # type: ignore[arg-type]
        family.series.add(tag_values=list(tags.values()), **series)
        self.metrics.record(process, job, Batch(families=[family]))

    def driver_gone(self, job: bytes = JOB) -> None:
        self.drivers.discard(job)
        self.metrics.process_gone(DRIVER, job)

    def scrape(self) -> list[str]:
        registry = CollectorRegistry()

        class Shown(Collector):
            collect = self.metrics.collect

        registry.register(Shown())
        return [line for line in generate_latest(registry).decode().splitlines() if line[0] != "#"]


def test_counters_of_all_processes_are_added_up_and_go_on_after_their_ends() -> None:
    node = Node()
    node.counter(ONE, 2)
    node.counter(OTHER, 3)
    node.metrics.process_gone(ONE, b"")
    node.counter(OTHER, 1)
    assert node.scrape() == ['aktis_user_c_total{job_id="00000001"} 6.0']


def test_a_gauge_is_what_was_set_last_and_goes_with_its_process() -> None:
    node = Node()
    node.gauge(ONE, 1)
    node.gauge(OTHER, 2)
    node.gauge(ONE, 3)
    assert node.scrape() == ['aktis_user_g{job_id="00000001"} 3.0']
    node.metrics.process_gone(ONE, b"")
    assert node.scrape() == ['aktis_user_g{job_id="00000001"} 2.0']
    node.metrics.process_gone(OTHER, b"")
    assert node.scrape() == []
    assert node.metrics.series_count == 0


def test_histograms_are_added_up_bucket_by_bucket() -> None:
    node = Node()
    family = Batch.Family(name="h", kind=Batch.HISTOGRAM, boundaries=[0.5, 2])
    family.series.add(value=4.25, bucket_counts=[1, 0, 2])
    for process in (ONE, OTHER):
        node.metrics.record(process, JOB, Batch(families=[family]))
    assert node.scrape() == [
        'aktis_user_h_bucket{job_id="00000001",le="0.5"} 2.0',
        'aktis_user_h_bucket{job_id="00000001",le="2.0"} 2.0',
        'aktis_user_h_bucket{job_id="00000001",le="+Inf"} 6.0',
        'aktis_user_h_count{job_id="00000001"} 6.0',
        'aktis_user_h_sum{job_id="00000001"} 8.5',
    ]


def test_a_job_ends_with_its_driver_and_the_last_process_that_measured() -> None:
    node = Node()
    node.counter(ONE, 1)
    node.counter(DRIVER, 1, LATER)
    node.metrics.process_gone(ONE, b"")
    assert len(node.scrape()) == 2, "the driver is there"
    node.counter(OTHER, 1)
    node.driver_gone()
    assert len(node.scrape()) == 2, "a detached actor may live on"
    node.metrics.process_gone(OTHER, b"")
    assert node.scrape() == ['aktis_user_c_total{job_id="00000002"} 1.0']


def test_a_driver_that_has_measured_nothing_ends_its_job_too() -> None:
    node = Node()
    node.counter(ONE, 1)
    node.metrics.process_gone(ONE, b"")
    node.driver_gone()
    assert node.scrape() == []


def test_jobs_and_tags_are_series_of_their_own() -> None:
    node = Node()
    node.counter(ONE, 1, route="/")
    node.counter(ONE, 2, route="/a")
    node.counter(OTHER, 3, LATER, route="/")
    assert node.scrape() == [
        'aktis_user_c_total{job_id="00000001",route="/"} 1.0',
        'aktis_user_c_total{job_id="00000001",route="/a"} 2.0',
        'aktis_user_c_total{job_id="00000002",route="/"} 3.0',
    ]


def test_what_has_no_room_is_dropped_and_counted() -> None:
    node = Node(series_limit=2)
    for route in "abcd":
        node.counter(ONE, 1, route=route)
    node.counter(ONE, 1, route="a")
    node.metrics.record(ONE, JOB, Batch(dropped=5))
    assert node.metrics.series_count == 2
    assert node.metrics.dropped_total == 2 + 5
    node.driver_gone()
    node.metrics.process_gone(ONE, b"")
    node.counter(ONE, 1, LATER, route="c")
    assert node.scrape() == ['aktis_user_c_total{job_id="00000002",route="c"} 1.0']


def test_one_name_is_one_kind() -> None:
    node = Node()
    node.counter(ONE, 1, name="x")
    node.gauge(OTHER, 2, name="x")
    assert node.scrape() == ['aktis_user_x_total{job_id="00000001"} 1.0']
    assert node.metrics.dropped_total == 1


@pytest.mark.parametrize(
    ("name", "key", "line"),
    [
        ("a b-c", "x.y", 'aktis_user_a_b_c_total{job_id="00000001",x_y="v"} 1.0'),
        ("seen_total", "le", 'aktis_user_seen_total{job_id="00000001",tag_le="v"} 1.0'),
        ("1st", "job_id", 'aktis_user_1st_total{job_id="00000001",tag_job_id="v"} 1.0'),
        ("é", "__x", 'aktis_user___total{job_id="00000001",tag___x="v"} 1.0'),
    ],
)
def test_names_are_made_fit_for_prometheus(name: str, key: str, line: str) -> None:
    node = Node()
    node.record(ONE, JOB, Batch.COUNTER, name, {key: "v"}, value=1)
    assert node.scrape() == [line]


def family(**changes: Any) -> Batch.Family:
    made = Batch.Family(name="h", kind=Batch.HISTOGRAM, boundaries=[1.0])
    made.series.add(bucket_counts=[1, 1])
    made.MergeFrom(Batch.Family(**changes))
    return made


@pytest.mark.parametrize(
    "make",
    [
        lambda: Batch.Family(kind=Batch.COUNTER),
        lambda: Batch.Family(name="x"),
        lambda: Batch.Family(name="x" * 2000, kind=Batch.COUNTER),
        lambda: family(boundaries=[0.5]),
        lambda: Batch.Family(name="h", kind=Batch.HISTOGRAM, boundaries=[math.inf]),
        lambda: Batch.Family(name="h", kind=Batch.HISTOGRAM, boundaries=[math.nan]),
        lambda: family(tag_keys=["a"]),
        lambda: family(tag_keys=[f"k{n}" for n in range(100)]),
        lambda: family(series=[raylet_pb2.MetricBatch.Series(bucket_counts=[1])]),
        lambda: family(series=[raylet_pb2.MetricBatch.Series(bucket_counts=[1, 1], tag_values=["a"])]),
        lambda: Batch.Family(
            name="x",
            kind=Batch.COUNTER,
            tag_keys=["a.b", "a-b"],
            series=[raylet_pb2.MetricBatch.Series(tag_values=["1", "2"])],
        ),
    ],
)
def test_a_malformed_batch_is_refused_whole(make: Callable[[], Batch.Family]) -> None:
    node = Node()
    good = Batch.Family(name="good", kind=Batch.COUNTER)
    good.series.add(value=1)
    with pytest.raises(ValueError, match=r"metric|name"):
        node.metrics.record(ONE, JOB, Batch(families=[good, make()]))
    assert node.scrape() == []


def test_no_two_metrics_have_samples_of_one_name() -> None:
    node = Node()
    node.counter(ONE, 2, name="a")
    node.gauge(ONE, 7, name="a_total")
    assert node.scrape() == ['aktis_user_a_total{job_id="00000001"} 2.0']
    assert node.metrics.dropped_total == 1


def test_a_histogram_has_the_boundaries_that_it_had_first() -> None:
    node = Node()
    for bounds in ([1.0], [2.0]):
        family = Batch.Family(name="h", kind=Batch.HISTOGRAM, boundaries=bounds)
        family.series.add(value=1.0, bucket_counts=[1, 0])
        node.metrics.record(ONE, JOB, Batch(families=[family]))
    assert [line for line in node.scrape() if "_count" in line] == [
        'aktis_user_h_count{job_id="00000001"} 1.0'
    ]
    assert node.metrics.dropped_total == 1
