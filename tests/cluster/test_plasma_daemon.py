"""The real aktis-plasma process: metrics, control service, hostile peers, a clean end."""

import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from aktis._common import rpc
from aktis._common.version import protocol_text
from aktis._core import PlasmaClient, encode_hello
from aktis._proto import plasma_pb2, plasma_pb2_grpc

from tests.support.sandbox import Sandbox

MIB = 2**20
START_TIMEOUT_S = 30.0
OWNER = b"o" * 16


@dataclass
class Daemon:
    """A running aktis-plasma and where it can be reached."""

    process: subprocess.Popen[bytes]
    root: Path
    token: str
    log: Path

    @property
    def address(self) -> str:
        return f"unix:{self.root}/plasma.sock"

    def record(self) -> dict[str, object]:
        record: dict[str, object] = json.loads((self.root / "run" / "plasma.json").read_text())
        return record

    def client(self) -> PlasmaClient:
        client = PlasmaClient(self.address, token=self.token)
        client.connect()
        return client

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://{self.record()['metrics_address']}/metrics", timeout=5) as reply:
            lines = reply.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=10)


def wait_ready(notify: socket.socket, process: subprocess.Popen[bytes]) -> None:
    notify.settimeout(START_TIMEOUT_S)
    while b"READY=1" not in notify.recv(4096):
        assert process.poll() is None


@pytest.fixture
def daemon(sandbox: Sandbox) -> Iterator[Daemon]:
    root = sandbox.base / "aktis" / "s-plasma00"
    root.mkdir(parents=True, mode=0o700)
    token = secrets.token_hex(16)
    token_file = root / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(token)
    log = sandbox.base / "log"
    notify_path = sandbox.base / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, log.open("wb") as log_file:
        notify.bind(str(notify_path))
        command = [sys.executable, "-m", "aktisd.plasma", "--session-dir", str(root)]
        command += ["--set", "plasma.capacity_bytes=64 MiB", "--set", "logging.format=json"]
        process = subprocess.Popen(
            command, env={**sandbox.env, "NOTIFY_SOCKET": str(notify_path)}, stderr=log_file
        )
        try:
            wait_ready(notify, process)
            yield Daemon(process, root, token, log)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    for leftover in (log, notify_path):
        leftover.unlink()
    sandbox.remove_sessions()


@pytest.fixture
def call(daemon: Daemon) -> Iterator[Callable[..., object]]:
    """Call a method of the control service with the cluster's token."""
    metadata = ((rpc.TOKEN_KEY, daemon.token), (rpc.PROTOCOL_KEY, protocol_text()))
    with grpc.insecure_channel(f"unix:{daemon.root}/plasma-grpc.sock") as channel:
        stub = plasma_pb2_grpc.PlasmaStub(channel)

        def call(method: str, request: object) -> object:
            reply: object = getattr(stub, method)(request, timeout=10, metadata=metadata)
            return reply

        yield call


def test_objects_show_in_metrics_and_statistics(daemon: Daemon, call: Callable[..., object]) -> None:
    client = daemon.client()
    view = client.put(b"i" * 20, b"x" * MIB, owner=OWNER)
    assert client.sync()
    metrics = daemon.metrics()
    assert metrics["aktis_plasma_capacity_bytes"] == 64 * MIB
    assert metrics["aktis_plasma_sealed_objects"] == 1
    assert metrics["aktis_plasma_pinned_bytes"] == MIB
    assert metrics["aktis_plasma_seals_total"] == 1
    statistics = call("GetStatistics", plasma_pb2.PlasmaStatisticsRequest())
    assert isinstance(statistics, plasma_pb2.PlasmaStatistics)
    assert (statistics.objects, statistics.clients, statistics.capacity_bytes) == (1, 1, 64 * MIB)
    reply = call("ListObjects", plasma_pb2.ListObjectsRequest())
    assert isinstance(reply, plasma_pb2.ListObjectsReply)
    assert [(entry.object_id, entry.state, entry.pins) for entry in reply.objects] == [
        (b"i" * 20, "SEALED", 1)
    ]
    del view
    client.close()


def test_objects_of_dead_workers_are_freed(daemon: Daemon, call: Callable[..., object]) -> None:
    client = daemon.client()
    for number in range(3):
        client.put(bytes([number + 1]) * 20, b"x", owner=OWNER)
    assert client.sync()
    reply = call("FreeOwners", plasma_pb2.FreeOwnersRequest(worker_ids=[OWNER]))
    assert isinstance(reply, plasma_pb2.FreeOwnersReply)
    assert reply.freed_objects == 3
    with pytest.raises(grpc.RpcError) as caught:
        call("FreeOwners", plasma_pb2.FreeOwnersRequest(worker_ids=[b"short"]))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    client.close()


def test_wrong_token_is_refused_by_both_services(daemon: Daemon) -> None:
    with pytest.raises(ConnectionError, match="token"):
        PlasmaClient(daemon.address, token="guess").connect()
    with grpc.insecure_channel(f"unix:{daemon.root}/plasma-grpc.sock") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            plasma_pb2_grpc.PlasmaStub(channel).GetStatistics(
                plasma_pb2.PlasmaStatisticsRequest(), timeout=10
            )
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def frame(frame_type: int, payload: bytes) -> bytes:
    return struct.pack("<IHHQ", len(payload), frame_type, 0, 1) + payload


HOSTILE_HELLOS = {
    "garbage": b"\xff" * 64,
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "huge frame": struct.pack("<IHHQ", 0xFFFFFFFF, 1, 0, 0),
    "empty hello": frame(1, b""),
    "no hello": frame(65, b"\x01"),
}


@pytest.mark.parametrize("data", HOSTILE_HELLOS.values(), ids=HOSTILE_HELLOS.keys())
def test_malformed_bytes_close_the_connection(daemon: Daemon, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(10)
        peer.connect(daemon.address.removeprefix("unix:"))
        peer.sendall(data)
        while peer.recv(4096):
            pass  # perhaps a refusal; then the end
    assert daemon.metrics()["aktis_plasma_refused_connections_total"] == 1
    assert daemon.process.poll() is None
    client = daemon.client()
    client.put(b"i" * 20, b"alive")
    client.close()


def test_protocol_error_after_the_handshake_closes_with_a_logged_reason(daemon: Daemon) -> None:
    hello = encode_hello(role=6, sender=b"w" * 16, token=daemon.token)
    release_of_nothing = frame(65, struct.pack("<BQI", 2, 64, 1))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(10)
        peer.connect(daemon.address.removeprefix("unix:"))
        peer.sendall(frame(1, hello) + release_of_nothing)
        while peer.recv(4096):
            pass
    assert daemon.metrics()["aktis_plasma_protocol_errors_total"] == 1
    assert daemon.stop() == 0
    assert "which this client does not hold" in daemon.log.read_text()


def test_sigterm_leaves_nothing(daemon: Daemon) -> None:
    client = daemon.client()
    view = client.put(b"i" * 20, b"x" * MIB)
    assert daemon.stop() == 0
    assert [path.name for path in daemon.root.glob("*.sock")] == []
    assert not (daemon.root / "run" / "plasma.json").exists()
    assert bytes(view[:1]) == b"x"
    del view
    client.close()


def test_capacity_that_cannot_work_is_one_clear_line(sandbox: Sandbox) -> None:
    root = sandbox.base / "aktis" / "s-plasma00"
    root.mkdir(parents=True, mode=0o700)
    (root / "token").touch(mode=0o600)
    (root / "token").write_text("t" * 32)
    command = [sys.executable, "-m", "aktisd.plasma", "--session-dir", str(root), "--set"]
    ended = subprocess.run([*command, "plasma.capacity_bytes=1000"], env=sandbox.env, capture_output=True)
    assert ended.returncode == 2
    assert b"plasma.capacity_bytes: 1000 is too small" in ended.stderr
    assert os.listdir(root / "run") == []
    sandbox.remove_sessions()
