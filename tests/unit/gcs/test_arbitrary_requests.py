"""Whatever the GCS is asked is served or refused with words, and nothing of it breaks what comes next."""

import contextlib
from collections.abc import Mapping
from typing import Any

import pytest
from aktis._proto import gcs_pb2
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError
from aktisd.gcs.methods import METHODS, call
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.arbitrary import message_with, messages_of
from tests.support.gcs_parts import (
    SimulatedCluster,
    actor_id,
    actor_spec,
    group_id,
    node_id,
    process,
    worker_id,
)

JOB = b"\0\0\0\1"
KNOWN: Mapping[str, st.SearchStrategy[Any]] = {
    "job_id": st.just(JOB),
    "node_id": st.sampled_from([node_id(1), node_id(2)]),
    "worker_id": st.sampled_from([worker_id(1), worker_id(2), worker_id(3)]),
    "actor_id": st.sampled_from([actor_id(1), actor_id(2)]),
    "owner_actor_id": st.sampled_from([b"", actor_id(1)]),
    "placement_group_id": st.sampled_from([group_id(1), group_id(2), b""]),
    "placement_group_ids": st.sampled_from([group_id(1), group_id(2)]),
    "incarnation": st.integers(0, 2),
    "name": st.sampled_from(["", "counter"]),
    "namespace": st.sampled_from(["", "space", "job_keys"]),
    "amounts": st.just(10_000),
}
ROUNDS = 20


def cluster_with_work() -> SimulatedCluster:
    """One with a node, a job, and an actor that runs."""
    cluster = SimulatedCluster()
    cluster.register(1)
    cluster.job()
    cluster.create(actor_spec(1, name="counter"))
    report = gcs_pb2.ActorReport(
        actor_id=actor_id(1), incarnation=1, event=gcs_pb2.ActorReport.ALIVE, address=process(2)
    )
    cluster.up(1, actor_report=report)
    return cluster


def step(cluster: SimulatedCluster, name: str, payload: bytes) -> None:
    """Serve one call as the gateway does."""
    out = Effects()
    # As the gateway does: what a refused request has done so far is kept.
    with contextlib.suppress(RequestError):
        reply = call(cluster.state, name, payload, out)
        assert reply is not None
    cluster.settle(out)


@pytest.mark.parametrize("name", sorted(METHODS))
@settings(max_examples=ROUNDS)
@given(data=st.data())
def test_any_request_is_served_or_refused(name: str, data: st.DataObject) -> None:
    cluster = cluster_with_work()
    for request in data.draw(st.lists(messages_of(METHODS[name].request, KNOWN), max_size=4)):
        step(cluster, name, request.SerializeToString())
    for other in sorted(METHODS):
        step(cluster, other, b"")  # lists and shows what there is now
    cluster.pass_time(120_000)
    out = Effects()
    cluster.state.finish_job(JOB, "test", out)
    cluster.settle(out)
    cluster.restart()


@settings(max_examples=ROUNDS)
@given(name=st.sampled_from(sorted(METHODS)), payload=st.binary(max_size=60))
def test_any_bytes_are_served_or_refused(name: str, payload: bytes) -> None:
    step(SimulatedCluster(), name, payload)


BODIES = sorted(
    field.name
    for field in gcs_pb2.NodeUp.DESCRIPTOR.oneofs_by_name["body"].fields
    if field.name not in {"register", "batch"}
)


@settings(max_examples=4 * ROUNDS)
@given(
    ups=st.lists(
        st.sampled_from(BODIES).flatmap(lambda body: message_with(gcs_pb2.NodeUp, body, KNOWN)), max_size=5
    )
)
def test_any_message_of_a_node_is_taken_in_or_refused(ups: list[gcs_pb2.NodeUp]) -> None:
    cluster = cluster_with_work()
    for message in ups:
        if cluster.state.nodes.is_dead(node_id(1)):
            break  # the gateway hears no more of it
        out = Effects()
        with contextlib.suppress(RequestError):
            cluster.state.up(node_id(1), message, out)
        cluster.settle(out)
    cluster.pass_time(120_000)
