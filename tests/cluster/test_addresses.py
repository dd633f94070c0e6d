"""Where programs connect to, and what they are told when nobody is there, or somebody who does not fit."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from aktis import _core
from aktis._common import rpc

from tests.support.clients import output, run_program
from tests.support.commands import started_cluster
from tests.support.daemons import Daemons
from tests.support.sandbox import Sandbox

NOBODY = 65534
JOIN = """
import aktis, sys
try:
    with aktis.init(address=sys.argv[1]) as context:
        @aktis.remote
        def one(): return 1
        print(aktis.get(one.remote()), context["session_dir"])
except ConnectionError as error:
    print("refused:", error)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])  # free a moment ago; a fixed one would collide with parallel tests


def join(sandbox: Sandbox, address: str, token_file: Path | None = None) -> str:
    program = JOIN
    if token_file is not None:
        program = f"import os\nos.environ['AKTIS_SECURITY_TOKEN_FILE'] = {str(token_file)!r}\n{JOIN}"
    return output(run_program(sandbox, program, address)).strip()


@pytest.fixture
def wrong_token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("not the one")
    return path


def test_every_form_of_address_reaches_a_running_cluster(sandbox: Sandbox, wrong_token: Path) -> None:
    port = free_port()
    with started_cluster(sandbox, port=port) as report:
        session = report["session_dir"]
        for address in ("auto", f"127.0.0.1:{port}", f"localhost:{port}", f"unix:{session}/raylet.sock"):
            assert join(sandbox, address) == f"1 {session}", address
        by_file = join(sandbox, f"127.0.0.1:{port}", Path(session, "token"))
        assert by_file == f"1 {session}"
        refused = join(sandbox, f"127.0.0.1:{port}", wrong_token)
        assert refused.startswith(
            f"refused: the GCS at 127.0.0.1:{port} refuses: UNAUTHENTICATED: wrong token"
        )
        # Beside a token that is not its own, the raylet's socket is found and refuses.
        (wrong_token.parent / "raylet.sock").symlink_to(f"{session}/raylet.sock")
        refused = join(sandbox, f"unix:{wrong_token.parent}/raylet.sock")
        assert "the cluster token is not the one of this cluster" in refused


def test_an_address_where_nothing_listens(sandbox: Sandbox, wrong_token: Path) -> None:
    assert "nothing listens at unix:/nowhere/raylet.sock" in join(sandbox, "unix:/nowhere/raylet.sock")
    assert "aktis start --head" in join(sandbox, "auto")
    port = free_port()
    # With a token at hand, so that it is the connection that is refused.
    refused = join(sandbox, f"127.0.0.1:{port}", wrong_token)
    assert refused.startswith(f"refused: nothing listens at 127.0.0.1:{port} (UNAVAILABLE)")
    assert "no token for the cluster" in join(sandbox, f"127.0.0.1:{port}")


@contextmanager
def raylet_of_another_version(directory: Path, answer: int) -> Iterator[None]:
    """A socket whose owner speaks protocol 99: it answers every hello with a frame of the given type."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(directory / "raylet.sock"))
    listener.listen()
    hello = _core.encode_hello(role=_core.ROLE_RAYLET, sender=os.urandom(16), major=99)
    connections = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            with suppress(BrokenPipeError):  # who only looks whether somebody listens has gone
                connection.sendall(_core.encode_frame(answer, 0, 0, hello))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for open_socket in (listener, *connections):
            open_socket.close()


def test_a_raylet_of_another_version_is_named_with_both_versions(sandbox: Sandbox, wrong_token: Path) -> None:
    directory = wrong_token.parent
    with raylet_of_another_version(directory, _core.FRAME_HELLO_ACK):
        refused = join(sandbox, f"unix:{directory}/raylet.sock")
    assert refused.startswith("refused:")
    assert "speaks 99." in refused
    assert "install the same release of Aktis on both sides" in refused


@pytest.fixture
def daemons(sandbox: Sandbox) -> Iterator[Daemons]:
    with Daemons(sandbox) as daemons:
        daemons.start("gcs")
        daemons.start("plasma", "plasma.capacity_bytes=16 MiB")
        daemons.start("raylet", "raylet.num_cpus=1", "raylet.workers.prestart=0")
        yield daemons


def first_frame(address: str, hello: bytes) -> tuple[int, bytes]:
    """Say hello and return the type and payload of the answer."""
    decoder = _core.FrameDecoder(1 << 16)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(10)
        peer.connect(address.removeprefix("unix:"))
        peer.sendall(_core.encode_frame(_core.FRAME_HELLO, 0, 0, hello))
        while data := peer.recv(4096):
            for kind, _, _, payload in decoder.feed(data):
                return kind, payload
    raise EOFError("closed without an answer")


def test_every_socket_refuses_another_version(daemons: Daemons) -> None:
    hello = _core.encode_hello(
        role=_core.ROLE_DRIVER, sender=os.urandom(16), token=daemons.token, pid=os.getpid(), major=99
    )
    for name in ("plasma", "raylet"):
        kind, payload = first_frame(f"{daemons.paths.root}/{name}.sock", hello)
        assert kind == _core.FRAME_HELLO_REJECT
        assert "the peer speaks 99." in _core.decode_reject(payload)[1], name
    metadata = ((rpc.TOKEN_KEY, daemons.token), (rpc.PROTOCOL_KEY, "99.0"))
    for service, method in (("Raylet", "GetState"), ("Plasma", "GetStatistics")):
        address = f"unix:{daemons.paths.root}/{service.lower()}-grpc.sock"
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary(f"/aktis.v1.{service}/{method}", bytes, bytes)
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=10, metadata=metadata)
        error: Any = caught.value
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, service
        assert "protocol 99.0 cannot talk to protocol" in error.details()


CONNECT = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.settimeout(10)
peer.connect(sys.argv[1])
print(len(peer.recv(4096)))
"""


def test_the_store_refuses_processes_of_other_users(sandbox: Sandbox) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")  # tidy: allow, nobody else can become another user
    # Permissions would keep them out before; here only the store itself can.
    directory = sandbox.base / "open"
    directory.mkdir()
    sandbox.base.chmod(0o711)
    path = directory / "plasma.sock"
    with Daemons(sandbox) as daemons:
        daemons.start("plasma", "plasma.capacity_bytes=16 MiB", f"plasma.listen_address=unix:{path}")
        path.chmod(0o666)
        # Of the system, because another user may not be able to read this one's.
        command = ["/usr/bin/python3", "-c", CONNECT, str(path)]
        finished = subprocess.run(
            command, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True, text=True
        )
        assert (finished.stdout, finished.stderr) == ("0\n", "")
        log = daemons.log_file("plasma").read_text()
        assert f"of user {NOBODY}: this user may not use the object store" in log
        hello = _core.encode_hello(role=_core.ROLE_DRIVER, sender=os.urandom(16), token=daemons.token)
        assert first_frame(str(path), hello)[0] == _core.FRAME_HELLO_ACK
    directory.rmdir()
