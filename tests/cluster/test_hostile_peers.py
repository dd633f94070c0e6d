"""Processes that say what they should not are hung up on with a reason, and everybody else goes on."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aktis
import grpc
import pytest
from aktis import _core
from aktis._common import rpc
from aktis._proto import (
    common_pb2,
    gcs_pb2,
    gcs_pb2_grpc,
    plasma_pb2,
    plasma_pb2_grpc,
    raylet_pb2,
    raylet_pb2_grpc,
)
from aktis._runtime import current

from tests.support.clients import embedded
from tests.support.control_peer import ControlPeer, raylet_address

pytestmark = pytest.mark.xdist_group("hostile_peers")
LIMIT_S = 20.0


@dataclass(frozen=True)
class Target:
    """A process with a socket, and how to see what it logs and that it serves."""

    address: str
    token: str
    log: Callable[[], str]
    serve: Callable[[], None]

    def peer(self, token: str | None = None, major: int = _core.PROTOCOL_MAJOR) -> ControlPeer:
        return ControlPeer(
            self.address, self.token if token is None else token, role=_core.ROLE_WORKER, major=major
        )


@pytest.fixture(scope="module")
def session_dir() -> Iterator[Path]:
    with embedded(num_cpus=1) as context:
        yield Path(context["session_dir"])


@aktis.remote
def who() -> tuple[str, int]:
    return aktis.get_runtime_context().get_worker_id(), os.getpid()


def token_of(session_dir: Path) -> str:
    return (session_dir / "token").read_text().strip()


@pytest.fixture(params=["worker", "driver"])
def target(request: pytest.FixtureRequest, session_dir: Path, capfd: pytest.CaptureFixture[str]) -> Target:
    worker = aktis.get(who.remote(), timeout=LIMIT_S)
    logs = {
        "worker": lambda: Path(f"/proc/{worker[1]}/fd/2").read_text(),
        "driver": lambda: capfd.readouterr().err,
    }
    ids = {"worker": worker[0], "driver": current.require().worker_id.hex()}

    def serve() -> None:
        assert aktis.get(who.remote(), timeout=LIMIT_S) == worker

    address = f"unix:{session_dir}/sock/{ids[request.param]}.sock"
    return Target(address, token_of(session_dir), logs[request.param], serve)


TRUNCATED = {
    "task": 32,
    "reply": 33,
    "give back": 34,
    "steal": 35,
    "cancel": 36,
    "object get": 37,
    "object value": 38,
    "borrow add": 39,
    "borrow ack": 40,
    "borrow nack": 41,
    "borrow remove": 42,
    "return release": 43,
    "object lost": 44,
    "object free": 45,
    "stream item": 46,
    "stream taken": 47,
    "overdue": 48,
    "cancel asked": 49,
}


@pytest.mark.parametrize("kind", TRUNCATED.values(), ids=TRUNCATED.keys())
def test_a_frame_that_does_not_decode_closes_its_connection(target: Target, kind: int) -> None:
    for payload in (b"", b"\xff\xff\xff"):
        with target.peer() as peer:
            peer.send_frame(kind, payload)
            peer.wait_closed(LIMIT_S)
    assert "which sent" in target.log()
    target.serve()


def test_a_count_that_the_frame_cannot_hold_closes_the_connection(target: Target) -> None:
    with target.peer() as peer:
        peer.send_frame(TRUNCATED["give back"], b"\x01\xff\xff\xff\xff" + bytes(64))
        peer.wait_closed(LIMIT_S)
    assert "tasks given back that do not decode" in target.log()
    target.serve()


def test_an_unknown_kind_of_frame_closes_the_connection(target: Target) -> None:
    with target.peer() as peer:
        peer.send_frame(63, b"what is this")
        peer.wait_closed(LIMIT_S)
    assert "a frame of type 63" in target.log()
    target.serve()


def test_messages_about_what_nobody_knows_change_nothing(target: Target) -> None:
    with target.peer() as peer:
        for kind in (34, 36, 39, 40, 41, 42):
            peer.send_frame(kind, bytes(5 if kind == 34 else 29))
        peer.send_frame(35, b"\xff\xff\xff\xff")
        peer.send_frame(43, bytes(8))
        target.serve()
        peer.send_frame(63, b"")  # it was not hung up on before
        peer.wait_closed(LIMIT_S)
    assert "a frame of type 63" in target.log()


def test_a_wrong_token_or_version_is_refused_with_the_reason(target: Target) -> None:
    with pytest.raises(PermissionError, match="token"):
        target.peer(token="guessed")
    with pytest.raises(PermissionError, match="version"):
        target.peer(major=99)
    with target.peer():  # what was refused before has been dealt with
        log = target.log()
    assert "ended before it was open: refused: " in log
    assert "guessed" not in log
    target.serve()


GARBAGE = {
    "ones": b"\xff" * 256,
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "task without a greeting": _core.encode_frame(32, 0, 0, b"x" * 64),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_instead_of_a_greeting_closes_the_connection(target: Target, data: bytes) -> None:
    send_until_closed(target.address, data)
    with target.peer():
        assert "ended before it was open" in target.log()
    target.serve()


def test_what_was_rejected_is_counted(session_dir: Path) -> None:
    session = current.require()
    before = session.core.statistics()
    address = f"unix:{session_dir}/sock/{session.worker_id.hex()}.sock"
    with ControlPeer(address, token_of(session_dir), role=_core.ROLE_WORKER) as peer:
        peer.send_frame(33, b"")
        peer.wait_closed(LIMIT_S)
    with pytest.raises(PermissionError):
        ControlPeer(address, "wrong", role=_core.ROLE_WORKER)
    with ControlPeer(address, token_of(session_dir), role=_core.ROLE_WORKER):
        after = session.core.statistics()
    assert after["rejected_frames"] == before["rejected_frames"] + 1
    assert after["refused_peers"] == before["refused_peers"] + 1


def test_what_a_driver_says_does_not_have_its_node_refused(session_dir: Path) -> None:
    worker = aktis.get(who.remote(), timeout=LIMIT_S)
    events = common_pb2.TaskEventBatch(events=[common_pb2.TaskEvent(job_id=b"none")], dropped=2**64 - 1)
    with ControlPeer(raylet_address(session_dir), token_of(session_dir)) as peer:
        peer.register_driver()
        for _ in range(3):
            peer.send(task_events=events)
        # What came before a call has reached the GCS when it is answered, and been counted there.
        peer.send(gcs_call=raylet_pb2.GcsCall(method="ListTaskEvents"))
        answer = peer.receive("gcs_result", LIMIT_S)
        assert (answer.status, answer.error) == (0, "")
        assert gcs_pb2.ListTaskEventsReply.FromString(answer.payload).dropped == 2**64 - 1
    assert aktis.get(who.remote(), timeout=LIMIT_S) == worker


def send_until_closed(address: str, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(LIMIT_S)
        peer.connect(address.removeprefix("unix:"))
        try:
            peer.sendall(data)
            while peer.recv(4096):
                pass  # perhaps a refusal; then the end
        except ConnectionError:
            pass  # it did not even read to the end


@pytest.mark.parametrize("name", ["gcs.sock", "raylet-grpc.sock", "plasma-grpc.sock"])
def test_garbage_on_a_grpc_socket_ends_only_its_connection(session_dir: Path, name: str) -> None:
    address = f"unix:{session_dir}/{name}"
    for data in (b"\xff" * 4096, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 4096, *GARBAGE.values()):
        send_until_closed(address, data)
    metadata = rpc.call_metadata(token_of(session_dir))
    with grpc.insecure_channel(address) as channel:
        if name == "gcs.sock":
            gcs_pb2_grpc.GcsStub(channel).ListNodes(
                gcs_pb2.ListNodesRequest(), timeout=LIMIT_S, metadata=metadata
            )
        elif name == "raylet-grpc.sock":
            raylet_pb2_grpc.RayletStub(channel).GetState(
                raylet_pb2.GetRayletStateRequest(), timeout=LIMIT_S, metadata=metadata
            )
        else:
            plasma_pb2_grpc.PlasmaStub(channel).GetStatistics(
                plasma_pb2.PlasmaStatisticsRequest(), timeout=LIMIT_S, metadata=metadata
            )
    assert aktis.get(who.remote(), timeout=LIMIT_S)
