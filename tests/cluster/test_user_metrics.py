"""Metrics of user code from a real scrape of a real raylet."""

import os
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import aktis
import pytest
from aktis._common.records import DaemonRecord
from aktis.util.metrics import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from tests.support.clients import embedded, run_program
from tests.support.sandbox import Sandbox, wait_for_exit

pytestmark = pytest.mark.xdist_group("user_metrics")

WAIT_S = 20.0


class Scrapes:
    """Reads the metrics of the raylet until they are as expected."""

    def __init__(self, session_dir: str) -> None:
        record = DaemonRecord.read(Path(session_dir) / "run" / "raylet.json")
        assert record is not None
        self._url = f"http://{record.metrics_address}/metrics"

    def values(self, prefix: str) -> dict[str, float]:
        with urllib.request.urlopen(self._url, timeout=10) as answer:
            text = answer.read().decode()
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = {key: value for key, value in sample.labels.items() if key != "job_id"}
                if sample.name.startswith(prefix):
                    assert sample.labels["job_id"] == aktis.get_runtime_context().get_job_id()
                    found[sample.name + "".join(f" {k}={v}" for k, v in sorted(labels.items()))] = (
                        sample.value
                    )
        return found

    def wait_for(self, prefix: str, expected: Mapping[str, float]) -> None:
        deadline = time.monotonic() + WAIT_S
        while (found := self.values(prefix)) != expected:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)  # tidy: allow  a scrape is all that tells


@pytest.fixture(scope="module")
def scrapes() -> Iterator[Scrapes]:
    with embedded(num_cpus=2) as context:
        yield Scrapes(context["session_dir"])


@aktis.remote
def serve(route: str, count: int) -> None:
    requests = Counter("requests", "Requests served.", tag_keys=("route",))
    for _ in range(count):
        requests.inc(tags={"route": route})


def test_what_tasks_and_the_driver_count_is_added_up(scrapes: Scrapes) -> None:
    aktis.get([serve.remote("/", 3), serve.remote("/", 4), serve.remote("/a", 5)])
    Counter("requests", "Requests served.", tag_keys=("route",)).inc(tags={"route": "/"})
    expected = {"aktis_user_requests_total route=/": 8, "aktis_user_requests_total route=/a": 5}
    scrapes.wait_for("aktis_user_requests", expected)


def test_what_a_process_measured_just_before_its_end_is_not_lost(scrapes: Scrapes) -> None:
    @aktis.remote(num_cpus=0)
    class ShortLived:
        def count(self) -> int:
            Counter("short_lived").inc()
            return os.getpid()

        def leave(self) -> None:
            Counter("short_lived").inc(10)
            aktis.exit_actor()

    actors = [ShortLived.remote() for _ in range(4)]
    pids = aktis.get([actor.count.remote() for actor in actors])
    ends = [actor.leave.remote() for actor in actors[:2]]
    del actors  # the others end because nobody has them any more
    aktis.wait(ends, num_returns=2, timeout=30)
    assert all(wait_for_exit(pid, 20) for pid in pids)
    scrapes.wait_for("aktis_user_short_lived", {"aktis_user_short_lived_total": 24})


def test_a_gauge_goes_with_its_process_and_a_histogram_stays(scrapes: Scrapes) -> None:
    @aktis.remote
    class Worker:
        def measure(self) -> None:
            Gauge("load").set(0.5)
            Histogram("took_seconds", boundaries=[1.0]).observe(0.25)

    worker = Worker.remote()
    aktis.get(worker.measure.remote())
    scrapes.wait_for("aktis_user_load", {"aktis_user_load": 0.5})
    aktis.kill(worker)
    scrapes.wait_for("aktis_user_load", {})
    assert scrapes.values("aktis_user_took") == {
        "aktis_user_took_seconds_bucket le=1.0": 1,
        "aktis_user_took_seconds_bucket le=+Inf": 1,
        "aktis_user_took_seconds_count": 1,
        "aktis_user_took_seconds_sum": 0.25,
    }


def test_what_was_measured_before_there_was_a_session_is_sent_by_it(sandbox: Sandbox) -> None:
    program = """
import aktis
from aktis.util.metrics import Counter
from tests.cluster.test_user_metrics import Scrapes
Counter("early").inc()
context = aktis.init(num_cpus=1)
Scrapes(context["session_dir"]).wait_for("aktis_user_early", {"aktis_user_early_total": 1})
aktis.shutdown()
"""
    finished = run_program(sandbox, program)
    assert finished.returncode == 0, finished.stderr
