"""The table of unary methods is the service's, and bad calls are told apart."""

import pytest
from aktis._proto import gcs_pb2
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status
from aktisd.gcs.methods import METHODS, call
from google.protobuf.message import Message

from tests.support.gcs_parts import SimulatedCluster

SERVICE = gcs_pb2.DESCRIPTOR.services_by_name["Gcs"]
UNARY = {m.name: m for m in SERVICE.methods if not m.client_streaming and not m.server_streaming}


def test_table_has_every_unary_method_with_its_request() -> None:
    assert METHODS.keys() == UNARY.keys()
    for name, method in METHODS.items():
        assert UNARY[name].input_type == method.request.DESCRIPTOR


NEED_CONTENT = {
    "RegisterJob",
    "FinishJob",
    "CreateActors",
    "CreatePlacementGroups",
    "KillActor",
    "KvPut",
    "KvGet",
    "KvDelete",
}


PASSED_ON = {"TakeSnapshot"}  # by the gateway, to the nodes


@pytest.mark.parametrize("name", sorted(UNARY.keys() - NEED_CONTENT - PASSED_ON))
def test_reply_is_of_the_declared_kind(name: str) -> None:
    reply = call(SimulatedCluster().state, name, b"", Effects())
    assert isinstance(reply, Message)
    assert UNARY[name].output_type == reply.DESCRIPTOR


@pytest.mark.parametrize("name", sorted(NEED_CONTENT))
def test_empty_request_is_refused_with_words(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        call(SimulatedCluster().state, name, b"", Effects())
    assert caught.value.status in (Status.INVALID_ARGUMENT, Status.NOT_FOUND)
    assert caught.value.message


@pytest.mark.parametrize(
    ("name", "payload", "status"),
    [
        ("Absent", b"", Status.UNIMPLEMENTED),
        ("x" * 100_000, b"", Status.UNIMPLEMENTED),
        ("KvPut", b"\xff\xff", Status.INVALID_ARGUMENT),
    ],
)
def test_bad_call(name: str, payload: bytes, status: Status) -> None:
    with pytest.raises(RequestError) as caught:
        call(SimulatedCluster().state, name, payload, Effects())
    assert caught.value.status == status
    assert len(caught.value.message) < 200


def test_job_from_begin_to_end() -> None:
    cluster = SimulatedCluster()
    job = cluster.job()
    request = gcs_pb2.FinishJobRequest(job_id=job.job_id).SerializeToString()
    for _ in range(2):
        call(cluster.state, "FinishJob", request, Effects())
    assert not cluster.state.jobs.is_running(job.job_id)
