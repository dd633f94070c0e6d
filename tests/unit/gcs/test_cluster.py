"""What one event means to several managers."""

import pytest
from aktis._proto import common_pb2, gcs_pb2
from aktisd.gcs.cluster import UP_HANDLERS
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError
from aktisd.gcs.nodes import RefusedError

from tests.support.gcs_parts import (
    SimulatedCluster,
    actor_spec,
    node_id,
    registration,
    report,
    sent,
    worker_id,
)

STREAM_ANSWERS = {"register", "relay", "subscription", "batch", "snapshot"}


def test_every_message_of_a_node_has_a_handler() -> None:
    kinds = {field.name for field in gcs_pb2.NodeUp.DESCRIPTOR.oneofs_by_name["body"].fields}
    assert kinds == UP_HANDLERS.keys() | STREAM_ANSWERS


def test_registration_is_answered_first() -> None:
    cluster = SimulatedCluster()
    cluster.register(1)
    cluster.job()
    cluster.create(actor_spec(1))
    out = cluster.register(1, live_jobs=[b"\0\0\0\1", b"\0\0\0\7"])
    kinds = [message.WhichOneof("body") for _, message in out.messages]
    assert kinds == ["registered", "job_ended", "start_actor"]
    (ended,) = sent(out, "job_ended")
    assert ended[1].job_id == b"\0\0\0\7"  # type: ignore[attr-defined]


def test_cluster_id_and_term_across_restarts() -> None:
    cluster = SimulatedCluster()
    first = cluster.state.info()
    cluster.restart()
    second = cluster.state.info()
    assert first.cluster_id == second.cluster_id
    assert len(first.cluster_id) == 16
    assert second.term == first.term + 1


def test_death_of_a_driver_ends_its_job_everywhere() -> None:
    cluster = SimulatedCluster()
    cluster.register(1)
    cluster.register(2)
    job = cluster.job(driver=5, node=2)
    out = cluster.up(2, process_died=gcs_pb2.ProcessDied(worker_id=worker_id(5)))
    assert sorted(to for to, _ in sent(out, "job_ended")) == [node_id(1), node_id(2)]
    assert not cluster.state.jobs.is_running(job.job_id)


def test_grace_period_of_a_job_runs_out() -> None:
    cluster = SimulatedCluster()
    cluster.register(1)
    job = cluster.job()
    cluster.restart()
    cluster.register(1)
    cluster.pass_time(cluster.limits.job_grace_ms)
    assert not cluster.state.jobs.is_running(job.job_id)


def test_refused_registration_changes_nothing() -> None:
    cluster = SimulatedCluster()
    wrong = registration(1)
    wrong.protocol_major = 99
    out = Effects()
    with pytest.raises(RefusedError):
        cluster.state.register(wrong, out)
    assert not out.writes
    assert not out.messages


@pytest.mark.parametrize(
    "message",
    [
        gcs_pb2.NodeUp(),
        gcs_pb2.NodeUp(register=registration(1)),
        gcs_pb2.NodeUp(batch=gcs_pb2.NodeUpBatch()),
        gcs_pb2.NodeUp(process_died=gcs_pb2.ProcessDied(worker_id=b"x")),
        gcs_pb2.NodeUp(actor_report=gcs_pb2.ActorReport(event=gcs_pb2.ActorReport.ALIVE)),
        gcs_pb2.NodeUp(resources=gcs_pb2.ResourceUpdate(total=common_pb2.Resources(amounts={"CPU": -1}))),
    ],
)
def test_malformed_message(message: gcs_pb2.NodeUp) -> None:
    cluster = SimulatedCluster()
    cluster.register(1)
    with pytest.raises(RequestError):
        cluster.state.up(node_id(1), message, Effects())


def test_wakes_for_ticks_and_for_delayed_restarts() -> None:
    cluster = SimulatedCluster()
    cluster.register(1)
    cluster.job()
    cluster.create(actor_spec(1, max_restarts=-1))
    assert cluster.state.next_wake_ms() == cluster.clock.now_ms + 500
    for incarnation in (1, 2):
        cluster.up(1, actor_report=report(1, incarnation, gcs_pb2.ActorReport.DIED))
    assert cluster.state.next_wake_ms() == cluster.clock.now_ms + cluster.limits.restart_backoff_ms
