"""Ids, ends and the grace period of jobs."""

import pytest
from aktis._proto import common_pb2, gcs_pb2
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status
from aktisd.gcs.jobs import COUNTER_KEY, MAX_JOB, JobManager
from aktisd.gcs.limits import Limits
from aktisd.gcs.storage.interface import Table

from tests.support.gcs_parts import SimulatedClock, node_id, process, worker_id

Job = gcs_pb2.Job
LIMITS = Limits(job_grace_ms=10_000, finished_jobs=2)


def manager() -> tuple[JobManager, SimulatedClock]:
    clock = SimulatedClock()
    return JobManager(clock, LIMITS), clock


def request(driver: int = 1, node: int = 1, **fields: str) -> gcs_pb2.RegisterJobRequest:
    return gcs_pb2.RegisterJobRequest(driver=process(driver, node), **fields)  # type: ignore[arg-type]


def test_ids_count_up_and_survive() -> None:
    jobs, clock = manager()
    out = Effects()
    first, second = jobs.register(request(1), out), jobs.register(request(2), out)
    assert (first.job_id, second.job_id) == (b"\0\0\0\1", b"\0\0\0\2")
    jobs.finish(first.job_id, "done", out)
    again = JobManager(clock, LIMITS)
    rows = {key: value for (table, key), value in out.rows().items() if table == Table.JOBS and value}
    again.load(rows, out.rows()[Table.META, COUNTER_KEY])
    assert again.register(request(3), Effects()).job_id == b"\0\0\0\3"
    assert again.counts() == {"RUNNING": 2, "FINISHED": 1}
    assert again.of_driver(worker_id(2)) == second.job_id


def test_ids_run_out_with_a_message() -> None:
    jobs, _ = manager()
    jobs.load({}, MAX_JOB.to_bytes(4, "big"))
    with pytest.raises(RequestError, match="used up") as caught:
        jobs.register(request(), Effects())
    assert caught.value.status == Status.RESOURCE_EXHAUSTED


def test_same_driver_gets_its_job_again() -> None:
    jobs, _ = manager()
    first = jobs.register(request(1, namespace="a"), Effects())
    out = Effects()
    assert jobs.register(request(1, namespace="a"), out) == first
    assert not out.writes


def test_anonymous_namespaces_differ() -> None:
    jobs, _ = manager()
    first, second = jobs.register(request(1), Effects()), jobs.register(request(2), Effects())
    assert first.namespace
    assert first.namespace != second.namespace
    assert jobs.register(request(3, namespace="prod"), Effects()).namespace == "prod"


def test_finish_once() -> None:
    jobs, clock = manager()
    job = jobs.register(request(), Effects())
    clock.advance(5)
    out = Effects()
    assert jobs.finish(job.job_id, "done", out)
    assert not jobs.finish(job.job_id, "done", out)
    assert not jobs.finish(b"none", "done", out)
    assert [p.job.state for p in out.publications] == [Job.FINISHED]
    assert jobs.get(job.job_id).end_time_unix_ms == clock.unix_ms()
    assert not jobs.is_running(job.job_id)


def test_oldest_finished_are_forgotten() -> None:
    jobs, _ = manager()
    out = Effects()
    for driver in range(1, 5):
        jobs.finish(jobs.register(request(driver), out).job_id, "done", out)
    assert [job.job_id[-1] for job in jobs.list()] == [3, 4]
    assert out.rows()[Table.JOBS, b"\0\0\0\1"] is None
    with pytest.raises(RequestError, match="no job"):
        jobs.get(b"\0\0\0\1")


def test_driver_that_does_not_come_back() -> None:
    jobs, clock = manager()
    gone, back, elsewhere = (
        jobs.register(request(n, node), Effects()) for n, node in ((1, 1), (2, 1), (3, 2))
    )
    jobs.node_registered(node_id(1), {back.job_id}, Effects())
    clock.advance(9_999)
    assert jobs.due() == []
    clock.advance(1)
    assert jobs.due() == [gone.job_id]
    assert elsewhere.job_id not in jobs.due()


@pytest.mark.parametrize("by_driver", [True, False])
def test_driver_that_comes_back_within_the_grace_period(by_driver: bool) -> None:
    jobs, clock = manager()
    job = jobs.register(request(1), Effects())
    jobs.node_registered(node_id(1), set(), Effects())
    clock.advance(5_000)
    if by_driver:
        jobs.register(request(1), Effects())
    else:
        jobs.node_registered(node_id(1), {job.job_id}, Effects())
    clock.advance(20_000)
    assert jobs.due() == []


def test_grace_period_is_not_prolonged_by_another_registration() -> None:
    jobs, clock = manager()
    job = jobs.register(request(1), Effects())
    jobs.node_registered(node_id(1), set(), Effects())
    clock.advance(9_000)
    jobs.node_registered(node_id(1), set(), Effects())
    clock.advance(1_000)
    assert jobs.due() == [job.job_id]


@pytest.mark.parametrize(
    "wrong",
    [
        gcs_pb2.RegisterJobRequest(driver=common_pb2.ProcessAddress(worker_id=b"short")),
        request(namespace="a\0b"),
        request(namespace="x" * 1_000),
        request(entrypoint="x" * 100_000),
        gcs_pb2.RegisterJobRequest(driver=process(1), metadata={"a": "x" * 100_000}),
    ],
)
def test_malformed(wrong: gcs_pb2.RegisterJobRequest) -> None:
    jobs, _ = manager()
    out = Effects()
    with pytest.raises(RequestError) as caught:
        jobs.register(wrong, out)
    assert caught.value.status == Status.INVALID_ARGUMENT
    assert not out.writes
