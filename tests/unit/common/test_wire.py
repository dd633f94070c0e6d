"""The asyncio shell of the wire: handshakes, frames, limits, and peers that misbehave."""

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import stat
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aktis import _core
from aktis._common import wire
from aktis._common.wire.client import ClientHandshake
from hypothesis import given, settings
from hypothesis import strategies as st

SERVER = wire.Identity(role=_core.ROLE_RAYLET, sender=b"S" * 16, node=b"N" * 16)
CLIENT = wire.Identity(role=_core.ROLE_WORKER, sender=b"C" * 16)
TOKEN = "secret token"
POLICY = wire.HandshakePolicy(identity=SERVER, token=TOKEN)
QUICK = wire.Limits(handshake_timeout_s=0.05)

Frame = tuple[int, int, int, bytes]


@dataclass
class Recorder:
    """A handler that remembers; `react` may answer."""

    react: Callable[[wire.WirePeer, Frame], object] | None = None
    opened: list[wire.WirePeer] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_open(self, peer: wire.WirePeer) -> None:
        self.opened.append(peer)
        self.changed.set()

    def on_frame(
        self, peer: wire.WirePeer, frame_type: int, flags: int, correlation: int, payload: bytes
    ) -> None:
        frame = (frame_type, flags, correlation, payload)
        self.frames.append(frame)
        self.changed.set()
        if self.react is not None:
            self.react(peer, frame)

    def on_closed(self, peer: wire.WirePeer, reason: str) -> None:
        self.closed.append(reason)
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


def echo(peer: wire.WirePeer, frame: Frame) -> None:
    frame_type, flags, correlation, payload = frame
    peer.send(frame_type, correlation, payload, flags)


def run(test: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await test

    asyncio.run(bounded())


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for sockets, which pytest's own may not be."""
    path = Path(tempfile.mkdtemp(prefix="aktis-wire-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@asynccontextmanager
async def serving(
    handler: Recorder,
    address: str = "tcp:127.0.0.1:0",
    policy: wire.HandshakePolicy = POLICY,
    limits: wire.Limits | None = None,
    max_connections: int = 100,
) -> AsyncIterator[tuple[wire.WireServer, str]]:
    server = wire.WireServer(policy, handler, limits=limits, max_connections=max_connections)
    try:
        yield server, await server.listen(address)
    finally:
        await server.close()


@asynccontextmanager
async def connected(
    address: str, handler: Recorder | None = None, *, token: str = TOKEN, expected_peer: bytes = b""
) -> AsyncIterator[wire.WirePeer]:
    peer = await wire.connect(address, CLIENT, token, handler or Recorder(), expected_peer=expected_peer)
    try:
        yield peer
    finally:
        peer.close("the test is over")
        await peer.wait_closed()


@asynccontextmanager
async def raw_connection(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A peer that speaks for itself, to misbehave with."""
    _, host, port = _core.parse_endpoint(address)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def silent_peer(address: str, at_server: Recorder) -> AsyncIterator[asyncio.StreamWriter]:
    """A peer that has shaken hands and reads nothing any more."""
    async with raw_connection(address) as (_, writer):
        writer.write(hello_frame())
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport too
        await at_server.until(lambda: len(at_server.opened) == 1)
        yield writer


def hello_frame(
    token: str = TOKEN,
    role: int = _core.ROLE_WORKER,
    major: int = _core.PROTOCOL_MAJOR,
    minor: int = _core.PROTOCOL_MINOR,
) -> bytes:
    payload = _core.encode_hello(
        role=role, sender=CLIENT.sender, token=token, pid=os.getpid(), major=major, minor=minor
    )
    return _core.encode_frame(_core.FRAME_HELLO, 0, 0, payload)


async def answer_to(address: str, data: bytes) -> list[Frame]:
    """Send ``data``, then read until the server closes; the frames it sent."""
    received = bytearray()
    async with raw_connection(address) as (reader, writer):
        writer.write(data)
        with contextlib.suppress(ConnectionResetError):
            while part := await reader.read(65536):
                received += part
    return _core.FrameDecoder().feed(received)


# ---- what works ----


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_frames_travel_both_ways(kind: str, directory: Path) -> None:
    async def test() -> None:
        at_server, at_client = Recorder(react=echo), Recorder()
        address = f"unix:{directory}/s" if kind == "unix" else "tcp:127.0.0.1:0"
        async with (
            serving(at_server, address) as (server, actual),
            connected(actual, at_client, expected_peer=SERVER.sender) as peer,
        ):
            assert (peer.hello.sender, peer.hello.node) == (SERVER.sender, SERVER.node)
            assert peer.send(40, 7, b"payload", flags=3)
            await at_client.until(lambda: len(at_client.frames) == 1)
            assert at_client.frames == [(40, 3, 7, b"payload")]
            accepted = at_server.opened[0]
            assert (accepted.hello.role, accepted.hello.sender) == (CLIENT.role, CLIENT.sender)
            assert accepted.hello.pid == os.getpid()
            assert server.peers == {accepted}
            ours = wire.Credentials(os.getpid(), os.getuid(), os.getgid())
            assert accepted.credentials == (ours if kind == "unix" else None)
            peer.close("done")
            assert await peer.wait_closed() == "closed here: done"
            await at_server.until(lambda: at_server.closed == ["closed by peer"])
            assert at_client.closed == ["closed here: done"]
            assert server.statistics == wire.ServerStatistics(accepted=1, opened=1, refused=0)

    run(test())


def test_frames_sent_before_the_acknowledgement_arrive_after_it() -> None:
    async def test() -> None:
        at_server = Recorder()
        large = b"l" * (2 * _core.MAX_HANDSHAKE_PAYLOAD_BYTES)
        async with serving(at_server) as (_, address), raw_connection(address) as (_, writer):
            writer.write(hello_frame() + _core.encode_frame(40, 0, 1, large))
            await at_server.until(lambda: len(at_server.frames) == 1)
            assert at_server.frames == [(40, 0, 1, large)]

    run(test())


def test_pings_are_answered_by_the_shell() -> None:
    async def test() -> None:
        at_server, at_client = Recorder(), Recorder()
        async with serving(at_server) as (_, address), connected(address, at_client) as peer:
            peer.send(_core.FRAME_PING, 5, b"")
            await at_client.until(lambda: bool(at_client.frames))
            assert at_client.frames == [(_core.FRAME_PONG, 0, 5, b"")]
            assert at_server.frames == []

    run(test())


def test_what_was_sent_before_close_arrives() -> None:
    async def test() -> None:
        at_server = Recorder()
        async with serving(at_server) as (_, address), connected(address) as peer:
            payload = b"p" * 3_000_000
            peer.send(40, 1, payload)
            peer.close("done")
            assert not peer.send(40, 2, b"too late")
            await at_server.until(lambda: len(at_server.closed) == 1)
            assert at_server.frames == [(40, 0, 1, payload)]

    run(test())


def test_the_socket_file_is_private_and_goes_with_the_server(directory: Path) -> None:
    async def test() -> None:
        path = directory / "s"
        async with serving(Recorder(), f"unix:{path}"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with pytest.raises(OSError, match=str(path)) as caught:
                await wire.WireServer(POLICY, Recorder()).listen(f"unix:{path}")
            assert caught.value.errno == errno.EADDRINUSE
        assert not path.exists()

    run(test())


def test_a_peer_has_no_hello_before_its_handshake() -> None:
    async def test() -> None:
        peer = wire.WirePeer(Recorder(), QUICK, ClientHandshake(CLIENT, TOKEN, b""))
        assert peer.state is wire.PeerState.HANDSHAKE
        with pytest.raises(RuntimeError, match="not done"):
            _ = peer.hello
        assert not peer.send(40, 0, b"")

    run(test())


# ---- who is refused ----

REFUSALS = {
    "wrong token": (hello_frame(token="wrong"), _core.REJECT_TOKEN, "token"),
    "no token": (hello_frame(token=""), _core.REJECT_TOKEN, "token"),
    "wrong version": (hello_frame(major=7, minor=2), _core.REJECT_VERSION, "7.2"),
    "wrong role": (hello_frame(role=_core.ROLE_PLASMA), _core.REJECT_ROLE, "plasma"),
    "unknown role": (hello_frame(role=99), _core.REJECT_MALFORMED, "HELLO"),
    "no hello": (_core.encode_frame(40, 0, 0, b""), _core.REJECT_MALFORMED, "HELLO"),
    "hello of garbage": (_core.encode_frame(1, 0, 0, b"garbage"), _core.REJECT_MALFORMED, "HELLO"),
    "oversized hello": (struct.pack("<IHHQ", 5000, 1, 0, 0), _core.REJECT_MALFORMED, "5000"),
    "largest length": (struct.pack("<IHHQ", 2**32 - 1, 1, 0, 0), _core.REJECT_MALFORMED, "4294967295"),
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", _core.REJECT_MALFORMED, "announces"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_why(case: str) -> None:
    data, code, words = REFUSALS[case]

    async def test() -> None:
        at_server = Recorder()
        policy = wire.HandshakePolicy(SERVER, TOKEN, accepted_roles=(_core.ROLE_WORKER,))
        async with serving(at_server, policy=policy) as (server, address):
            [(frame_type, _, _, payload)] = await answer_to(address, data)
            assert frame_type == _core.FRAME_HELLO_REJECT
            got, message = _core.decode_reject(payload)
            assert got == code
            assert words in message
            assert TOKEN not in message
        assert at_server.opened == []
        assert at_server.closed == []
        assert server.statistics.refused == 1

    run(test())


def test_connect_reports_the_refusal() -> None:
    async def test() -> None:
        async with serving(Recorder()) as (_, address):
            with pytest.raises(ConnectionError, match="refused: the cluster token"):
                await wire.connect(address, CLIENT, "wrong", Recorder())
            with pytest.raises(ConnectionError, match="was expected at this address"):
                await wire.connect(address, CLIENT, TOKEN, Recorder(), expected_peer=b"X" * 16)

    run(test())


def test_connect_reports_where_nobody_listens(directory: Path) -> None:
    async def test() -> None:
        with pytest.raises(ConnectionError, match=f"unix:{directory}/absent"):
            await wire.connect(f"unix:{directory}/absent", CLIENT, TOKEN, Recorder())

    run(test())


def test_connect_gives_up_on_a_server_that_never_answers(directory: Path) -> None:
    async def test() -> None:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(f"{directory}/s")
            silent.listen()
            with pytest.raises(TimeoutError, match=r"0\.05 s"):
                await wire.connect(f"unix:{directory}/s", CLIENT, TOKEN, Recorder(), limits=QUICK)

    run(test())


def test_another_user_is_refused(directory: Path) -> None:
    async def test() -> None:
        policy = wire.HandshakePolicy(SERVER, TOKEN, required_uid=os.getuid() + 1)
        async with serving(Recorder(), f"unix:{directory}/s", policy) as (_, address):
            with pytest.raises(ConnectionError, match="user id"):
                await wire.connect(address, CLIENT, TOKEN, Recorder())

    run(test())


def test_connections_are_limited_in_number() -> None:
    async def test() -> None:
        async with serving(Recorder(), max_connections=1) as (_, address), connected(address):
            with pytest.raises(ConnectionError, match="1 connections already"):
                await wire.connect(address, CLIENT, TOKEN, Recorder())

    run(test())


def test_a_peer_that_never_speaks_is_disconnected() -> None:
    async def test() -> None:
        async with serving(Recorder(), limits=QUICK) as (server, address):
            assert await answer_to(address, b"") == []
            assert await answer_to(address, hello_frame()[:20]) == []  # half a HELLO is silence too
        assert server.statistics.refused == 2

    run(test())


# ---- misbehaviour after the handshake ----


def test_good_frames_before_a_malformed_one_are_delivered() -> None:
    async def test() -> None:
        at_server = Recorder()
        async with serving(at_server, limits=wire.Limits(max_payload_bytes=1000)) as (_, address):
            good = _core.encode_frame(40, 0, 1, b"g" * 1000)
            await answer_to(address, hello_frame() + good + _core.encode_frame(40, 0, 2, b"b" * 1001))
        assert at_server.frames == [(40, 0, 1, b"g" * 1000)]
        assert len(at_server.closed) == 1
        assert "1001" in at_server.closed[0]

    run(test())


def test_a_second_hello_closes_the_connection() -> None:
    async def test() -> None:
        at_server = Recorder()
        async with serving(at_server) as (_, address):
            await answer_to(address, hello_frame() * 2)
        assert at_server.closed == ["malformed frame: type 1 after the handshake"]

    run(test())


def test_leaving_in_the_middle_of_a_frame_is_named() -> None:
    async def test() -> None:
        at_server = Recorder()
        async with serving(at_server) as (_, address), raw_connection(address) as (_, writer):
            writer.write(hello_frame() + _core.encode_frame(40, 0, 1, b"cut short")[:20])
            writer.write_eof()
            await at_server.until(lambda: len(at_server.closed) == 1)
        assert at_server.closed == ["closed by peer in the middle of a frame"]

    run(test())


def test_a_failing_handler_closes_only_its_connection() -> None:
    def fail(peer: wire.WirePeer, frame: Frame) -> None:
        if frame[2] == 13:
            raise RuntimeError("a bug in the handler")

    async def test() -> None:
        at_server, first, second = Recorder(react=fail), Recorder(), Recorder()
        async with (
            serving(at_server) as (_, address),
            connected(address, first) as unlucky,
            connected(address, second) as other,
        ):
            unlucky.send(40, 13, b"")
            await first.until(lambda: first.closed == ["closed by peer"])
            other.send(40, 14, b"")
            await at_server.until(lambda: len(at_server.frames) == 2)
            assert second.closed == []

    run(test())


def test_a_peer_that_does_not_read_is_not_read_from_and_then_disconnected() -> None:
    async def test() -> None:
        reply = b"r" * 100_000
        at_server = Recorder(react=lambda peer, _: peer.send(41, 0, reply))
        limits = wire.Limits(pause_bytes=200_000, stall_timeout_s=0.2)
        async with (
            serving(at_server, limits=limits) as (_, address),
            silent_peer(address, at_server) as writer,
        ):
            writer.write(_core.encode_frame(40, 0, 0, b"q" * 1000) * 20_000)
            await at_server.until(lambda: len(at_server.closed) == 1)
        assert "did not keep up for 0.2 s" in at_server.closed[0]
        # Far from all 20 000 requests were taken: reading stopped with writing.
        assert len(at_server.frames) < 2000

    run(test())


def test_more_than_the_limit_waiting_disconnects_at_once() -> None:
    async def test() -> None:
        at_server = Recorder()
        limits = wire.Limits(pause_bytes=1000, max_waiting_bytes=20_000_000)
        async with serving(at_server, limits=limits) as (_, address), silent_peer(address, at_server):
            peer = at_server.opened[0]
            accepted = 0
            while peer.send(41, 0, b"x" * 1_000_000):
                accepted += 1
                assert accepted < 100
            assert peer.state is wire.PeerState.CLOSING
            with pytest.raises(ConnectionError, match="does not read"):
                await peer.drain()
            assert "does not read" in await peer.wait_closed()

    run(test())


def test_drain_waits_until_the_peer_has_read() -> None:
    async def test() -> None:
        at_server, at_client = Recorder(), Recorder()
        limits = wire.Limits(pause_bytes=10_000)
        async with serving(at_server, limits=limits) as (_, address), connected(address, at_client):
            await at_server.until(lambda: len(at_server.opened) == 1)
            peer = at_server.opened[0]
            peer.send(41, 1, b"x" * 10_000_000)
            assert peer.waiting_bytes > 10_000
            await peer.drain()
            assert peer.waiting_bytes <= 10_000
            await at_client.until(lambda: len(at_client.frames) == 1)

    run(test())


def test_closing_does_not_wait_for_ever_for_a_peer_that_does_not_read() -> None:
    async def test() -> None:
        at_server = Recorder()
        limits = wire.Limits(close_timeout_s=0.05)
        async with serving(at_server, limits=limits) as (server, address), silent_peer(address, at_server):
            at_server.opened[0].send(41, 0, b"x" * 20_000_000)
            await server.close("test")
            assert at_server.closed == ["closed here: test"]

    run(test())


@given(garbage=st.binary(max_size=300), known=st.booleans())
@settings(max_examples=50)
def test_garbage_ends_at_most_its_own_connection(garbage: bytes, known: bool) -> None:
    async def test() -> None:
        at_server = Recorder()
        async with serving(at_server, limits=wire.Limits(max_payload_bytes=1000)) as (_, address):
            async with raw_connection(address) as (reader, writer):
                writer.write((hello_frame() if known else b"") + garbage)
                writer.write_eof()
                with contextlib.suppress(ConnectionResetError):
                    while await reader.read(65536):
                        pass
            async with connected(address) as healthy:
                assert healthy.state is wire.PeerState.OPEN
        assert len(at_server.closed) == len(at_server.opened) == (2 if known else 1)

    run(test())


# ---- the native parts ----


@given(
    frames=st.lists(
        st.tuples(
            st.integers(1, 2**16 - 1),
            st.integers(0, 2**16 - 1),
            st.integers(0, 2**64 - 1),
            st.binary(max_size=300),
        ),
        max_size=20,
    ),
    step=st.integers(1, 700),
)
def test_frames_survive_any_cut_of_the_stream(frames: list[Frame], step: int) -> None:
    stream = b"".join(_core.encode_frame(*frame) for frame in frames)
    decoder = _core.FrameDecoder()
    decoded: list[Frame] = []
    for at in range(0, len(stream), step):
        decoded += decoder.feed(stream[at : at + step])
    assert decoded == frames
    assert decoder.buffered_bytes == 0


def test_a_decoder_hands_out_as_many_frames_as_asked_for() -> None:
    decoder = _core.FrameDecoder()
    stream = b"".join(_core.encode_frame(40, 0, i, b"") for i in range(3))
    assert decoder.feed(stream, limit=1) == [(40, 0, 0, b"")]
    assert decoder.feed(b"") == [(40, 0, 1, b""), (40, 0, 2, b"")]


def test_a_decoder_that_failed_stays_failed() -> None:
    decoder = _core.FrameDecoder(max_payload_bytes=10)
    assert decoder.feed(_core.encode_frame(40, 0, 0, b"ok") + bytes(16)) == [(40, 0, 0, b"ok")]
    assert "type 0" in decoder.error
    with pytest.raises(ValueError, match="type 0"):
        decoder.feed(_core.encode_frame(40, 0, 0, b"ok"))


def test_arguments_of_the_wrong_size_are_refused() -> None:
    with pytest.raises(ValueError, match="sender must have 16 bytes"):
        _core.encode_hello(role=_core.ROLE_TOOL, sender=b"short")
    with pytest.raises(ValueError, match="at most 256"):
        _core.encode_hello(role=_core.ROLE_TOOL, sender=b"S" * 16, token="t" * 257)
    with pytest.raises(ValueError, match="type 0"):
        _core.encode_frame(0, 0, 0, b"")


@given(st.binary(max_size=100))
def test_random_payloads_never_pass_for_a_hello(payload: bytes) -> None:
    with pytest.raises(ValueError, match="malformed"):
        _core.decode_hello(payload)


def test_frames_that_are_sent_in_one_turn_leave_together() -> None:
    async def test() -> None:
        at_server, at_client = Recorder(), Recorder()
        async with serving(at_server) as (_, address), connected(address, at_client):
            await at_server.until(lambda: len(at_server.opened) == 1)
            peer = at_server.opened[0]
            for number in range(3):
                peer.send(41, number, b"x")
            assert peer.waiting_bytes == 3 * len(_core.encode_frame(41, 0, 0, b"x")), "none has left yet"
            await at_client.until(lambda: len(at_client.frames) == 3)
            assert [frame[2] for frame in at_client.frames] == [0, 1, 2]
            assert peer.waiting_bytes == 0

    run(test())
