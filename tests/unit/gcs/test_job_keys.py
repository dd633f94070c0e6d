"""Functions and settings of jobs leave the key-value store with the last job that needs them."""

import pytest
from aktis._proto import gcs_pb2
from aktisd.gcs import methods
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status
from aktisd.gcs.job_keys import NAMESPACE

from tests.support.gcs_parts import Report, SimulatedCluster, actor_spec, report


class Cluster(SimulatedCluster):
    """With a node, and the calls of clients."""

    def __init__(self) -> None:
        super().__init__()
        self.register(1)

    def put(self, key: bytes, job_id: bytes, namespace: str = "functions") -> None:
        out = Effects()
        request = gcs_pb2.KvPutRequest(namespace=namespace, key=key, value=b"v", job_id=job_id)
        try:
            methods.call(self.state, "KvPut", request.SerializeToString(), out)
        finally:
            self.settle(out)

    def finish(self, job: gcs_pb2.Job) -> None:
        out = Effects()
        self.state.finish_job(job.job_id, "test", out)
        self.settle(out)

    def later(self) -> None:
        self.clock.advance(300_000)
        out = Effects()
        self.state.job_keys.tick(out)
        self.settle(out)

    def keys(self, namespace: str = "functions") -> list[bytes]:
        return list(self.state.kv.list(gcs_pb2.KvListRequest(namespace=namespace)).keys)


def test_a_value_goes_with_the_last_job_that_has_put_it() -> None:
    cluster = Cluster()
    first, second = cluster.job(1), cluster.job(2)
    cluster.put(b"f\0", first.job_id)
    cluster.put(b"f\0", first.job_id)
    cluster.put(b"g", first.job_id)
    cluster.put(b"f\0", second.job_id)
    cluster.put(first.job_id, first.job_id, "jobs")
    cluster.put(b"for ever", b"")
    cluster.finish(first)
    assert cluster.keys() == [b"f\0", b"for ever"]
    assert cluster.keys("jobs") == []
    cluster.finish(second)
    assert cluster.keys() == [b"for ever"]
    assert cluster.keys(NAMESPACE) == []


def test_a_restart_forgets_nobody() -> None:
    cluster = Cluster()
    first, second = cluster.job(1), cluster.job(2)
    cluster.put(b"f", first.job_id)
    cluster.put(b"f", second.job_id)
    cluster.restart()
    cluster.finish(first)
    assert cluster.keys() == [b"f"]
    cluster.restart()
    cluster.finish(second)
    assert cluster.keys() == []


def test_an_actor_that_outlives_its_job_keeps_what_it_may_need() -> None:
    cluster = Cluster()
    job = cluster.job()
    cluster.put(b"f", job.job_id)
    cluster.create(actor_spec(1, detached=True, name="d", job_id=job.job_id))
    cluster.up(1, actor_report=report(1, 1, Report.ALIVE))
    cluster.finish(job)
    cluster.put(b"g", job.job_id)  # the actor submits tasks
    cluster.later()
    assert cluster.keys() == [b"f", b"g"]
    out = Effects()
    kill = gcs_pb2.KillActorRequest(actor_id=actor_spec(1).actor_id, no_restart=True)
    cluster.state.actor_requests.kill(kill, out)
    cluster.settle(out)
    cluster.up(1, actor_report=report(1, 1, Report.DIED))
    cluster.later()
    assert cluster.keys() == []


@pytest.mark.parametrize(
    ("namespace", "key", "job_id"),
    [
        ("functions", b"f", b"longer than an id"),
        ("functions", b"x" * 1024, b"\0\0\0\1"),
        ("functions", b"", b"\0\0\0\1"),
        ("x" * 600, b"f", b"\0\0\0\1"),
        (NAMESPACE, b"\0\0\0\1\xff\0f", b""),
        (NAMESPACE, b"f", b"\0\0\0\1"),
    ],
)
def test_what_cannot_be_held_is_refused_and_breaks_nothing_later(
    namespace: str, key: bytes, job_id: bytes
) -> None:
    cluster = Cluster()
    job = cluster.job()
    with pytest.raises(RequestError) as error:
        cluster.put(key, job_id, namespace)
    assert error.value.status == Status.INVALID_ARGUMENT
    assert cluster.keys() == []
    cluster.finish(job)
    cluster.later()
    assert cluster.keys(NAMESPACE) == []
