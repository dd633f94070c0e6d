"""Servers refuse strangers and other versions, channels refuse calls without a deadline."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from aktis._common import rpc
from aktis._common.access import REQUIRED_ROLE, Role, TokenAuthority
from aktis._common.errors import StartError
from aktis._common.version import protocol_text
from aktis._proto import gcs_pb2, gcs_pb2_grpc


def gcs_stub(channel: grpc.aio.Channel) -> "gcs_pb2_grpc.GcsAsyncStub":
    return cast("gcs_pb2_grpc.GcsAsyncStub", gcs_pb2_grpc.GcsStub(channel))


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ak-", dir="/tmp") as directory:
        yield Path(directory)


class Gcs(gcs_pb2_grpc.GcsServicer):
    """Answers enough to see that a call came through."""

    async def KvGet(self, request: gcs_pb2.KvGetRequest, context: Any) -> gcs_pb2.KvGetReply:  # noqa: N802
        return gcs_pb2.KvGetReply(found=True, value=request.key)

    async def Subscribe(  # noqa: N802
        self, request: gcs_pb2.SubscribeRequest, context: Any
    ) -> AsyncIterator[gcs_pb2.Publication]:
        yield gcs_pb2.Publication(channel=request.channel)

    async def NodeStream(  # noqa: N802
        self, request_iterator: AsyncIterator[gcs_pb2.NodeUp], context: Any
    ) -> AsyncIterator[gcs_pb2.NodeDown]:
        async for up in request_iterator:
            yield gcs_pb2.NodeDown(heartbeat_ack=gcs_pb2.HeartbeatAck(sequence=up.heartbeat.sequence))


async def heartbeats(*sequences: int) -> AsyncIterator[gcs_pb2.NodeUp]:
    for sequence in sequences:
        yield gcs_pb2.NodeUp(heartbeat=gcs_pb2.NodeHeartbeat(sequence=sequence))


Denials = list[tuple[str, str]]


def serve(directory: Path, talk: Callable[[str, Denials], Awaitable[None]]) -> None:
    """Run a server with the token "secret" and a conversation with it."""

    async def run() -> None:
        denials: Denials = []
        server = rpc.create_server("secret", on_denied=lambda method, why: denials.append((method, why)))
        gcs_pb2_grpc.add_GcsServicer_to_server(Gcs(), server)  # type: ignore[abstract]
        (address,) = rpc.bind(server, [f"unix:{directory}/g.sock"], "gcs.listen_addresses")
        await server.start()
        try:
            await asyncio.wait_for(talk(address, denials), 20)
        finally:
            await server.stop(None)

    asyncio.run(run())


def test_calls_and_streams_pass_with_the_token(short_tmp: Path) -> None:
    async def talk(address: str, denials: Denials) -> None:
        async with rpc.connect(address, "secret") as channel:
            stub = gcs_stub(channel)
            assert (await stub.KvGet(gcs_pb2.KvGetRequest(key=b"k"), timeout=5)).value == b"k"
            items = [item.channel async for item in stub.Subscribe(gcs_pb2.SubscribeRequest(channel="nodes"))]
            assert items == ["nodes"]
            acks = [down.heartbeat_ack.sequence async for down in stub.NodeStream(heartbeats(7, 8))]
            assert acks == [7, 8]
        assert denials == []

    serve(short_tmp, talk)


def test_a_wrong_token_is_refused_on_every_kind_of_call(short_tmp: Path) -> None:
    async def talk(address: str, denials: Denials) -> None:
        async with rpc.connect(address, "guess") as channel:
            stub = gcs_stub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as unary:
                await stub.KvGet(gcs_pb2.KvGetRequest(), timeout=5)
            assert unary.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "wrong token" in str(unary.value.details())
            assert "guess" not in str(unary.value.details())
            with pytest.raises(grpc.aio.AioRpcError):
                await anext(aiter(stub.Subscribe(gcs_pb2.SubscribeRequest())))
            with pytest.raises(grpc.aio.AioRpcError):
                await anext(aiter(stub.NodeStream(heartbeats(1))))
        methods = [method.rpartition("/")[2] for method, _ in denials]
        assert methods == ["KvGet", "Subscribe", "NodeStream"]

    serve(short_tmp, talk)


@pytest.mark.parametrize(
    ("metadata", "code", "text"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED, "no token"),
        (((rpc.TOKEN_KEY, "secret"),), grpc.StatusCode.FAILED_PRECONDITION, "must be MAJOR.MINOR, got ''"),
        (
            ((rpc.TOKEN_KEY, "secret"), (rpc.PROTOCOL_KEY, protocol_text(999, 0))),
            grpc.StatusCode.FAILED_PRECONDITION,
            "protocol 999.0 cannot talk to protocol",
        ),
        (
            ((rpc.TOKEN_KEY, "secret"), (rpc.PROTOCOL_KEY, "1" * 5000 + ".0")),
            grpc.StatusCode.FAILED_PRECONDITION,
            "cannot talk",
        ),
    ],
)
def test_calls_of_strangers_and_other_versions(
    short_tmp: Path, metadata: tuple[tuple[str, str], ...], code: grpc.StatusCode, text: str
) -> None:
    async def talk(address: str, _denials: Denials) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await gcs_stub(channel).KvGet(
                    gcs_pb2.KvGetRequest(), timeout=5, metadata=grpc.aio.Metadata(*metadata)
                )
        assert caught.value.code() is code
        assert text in str(caught.value.details())

    serve(short_tmp, talk)


def test_a_role_that_the_holder_lacks_is_refused(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenAuthority, "roles", lambda _self, _token: frozenset({Role.READ}))

    async def talk(address: str, _denials: Denials) -> None:
        async with rpc.connect(address, "any") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await gcs_stub(channel).KvGet(gcs_pb2.KvGetRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "needs the role 'submit'" in str(caught.value.details())

    serve(short_tmp, talk)


def test_a_method_without_an_entry_is_refused(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {method: role for method, role in REQUIRED_ROLE.items() if not method.endswith("/KvGet")}
    monkeypatch.setattr(rpc, "REQUIRED_ROLE", table)

    async def talk(address: str, _denials: Denials) -> None:
        async with rpc.connect(address, "secret") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await gcs_stub(channel).KvGet(gcs_pb2.KvGetRequest(), timeout=5)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "no role assigned" in str(caught.value.details())

    serve(short_tmp, talk)


def test_a_call_without_a_deadline_is_an_error(short_tmp: Path) -> None:
    async def talk(address: str, _denials: Denials) -> None:
        async with rpc.connect(address, "secret") as channel:
            with pytest.raises(rpc.DeadlineMissingError, match="KvGet was called without timeout="):
                await gcs_stub(channel).KvGet(gcs_pb2.KvGetRequest())

    serve(short_tmp, talk)


def bind(address: str) -> tuple[str, ...]:
    async def run() -> tuple[str, ...]:
        server = rpc.create_server("secret")
        bound = rpc.bind(server, [address], "gcs.listen_addresses")
        await server.start()
        await server.stop(None)
        return bound

    return asyncio.run(run())


def test_port_zero_becomes_a_real_port() -> None:
    (address,) = bind("127.0.0.1:0")
    assert int(address.rpartition(":")[2]) > 0


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError) as caught:
            bind(address)
    assert f"gcs.listen_addresses: cannot listen on {address}: Address already in use" in str(caught.value)


def test_a_live_socket_is_never_taken_over(short_tmp: Path) -> None:
    path = short_tmp / "g.sock"
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen()
        with pytest.raises(StartError, match="in use by a running process"):
            bind(f"unix:{path}")
    assert path.exists()


def test_a_dead_socket_is_replaced(short_tmp: Path) -> None:
    path = short_tmp / "g.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert bind(f"unix:{path}") == (f"unix:{path}",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("absent/g.sock", "directory does not exist"),
        ("file/g.sock", "Not a directory"),
        ("x" * 100, "choose a shorter directory"),
        ("file", "not a socket"),
    ],
)
def test_sockets_that_cannot_be_bound(short_tmp: Path, name: str, text: str) -> None:
    (short_tmp / "file").touch()
    with pytest.raises(StartError, match=text):
        bind(f"unix:{short_tmp / name}")
    assert (short_tmp / "file").exists()
