"""One framed connection on an event loop, either end of it."""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from aktis import _core
from aktis._common.logging import get_logger
from aktis._common.wire.model import TRANSITIONS, Credentials, Limits, PeerHandler, PeerState, credentials_of


class Handshake(Protocol):
    """What differs between the two ends of a connection."""

    def start(self, peer: "WirePeer") -> None: ...
    def received(self, peer: "WirePeer", frame_type: int, payload: bytes) -> None: ...
    def malformed(self, peer: "WirePeer", reason: str) -> None: ...
    def done(self, peer: "WirePeer", reason: str, opened: bool) -> None: ...


class WirePeer(asyncio.Protocol):
    """One connection. Made by `WireServer` and `connect`; users send, drain and close."""

    def __init__(self, handler: PeerHandler, limits: Limits, handshake: "Handshake") -> None:
        self._handler = handler
        self._limits = limits
        self._handshake = handshake
        self._state = PeerState.HANDSHAKE
        self._decoder = _core.FrameDecoder(_core.MAX_HANDSHAKE_PAYLOAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self._hello: _core.Hello | None = None
        self._credentials: Credentials | None = None
        self._outbox: list[bytes] = []  # while a batch of received frames is handled
        self._outbox_bytes = 0
        self._in_batch = False
        self._flush_due = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reason = ""

    # ---- for users ----

    @property
    def state(self) -> PeerState:
        """Where in its life the connection is."""
        return self._state

    @property
    def hello(self) -> _core.Hello:
        """What the peer said about itself: role, sender, node, pid, version.

        Raises:
            RuntimeError: the handshake is not done.
        """
        if self._hello is None:
            raise RuntimeError("the handshake of this connection is not done")
        return self._hello

    @property
    def credentials(self) -> Credentials | None:
        """What the kernel says about the peer; None over TCP."""
        return self._credentials

    @property
    def waiting_bytes(self) -> int:
        """Bytes that were sent here and that the kernel has not taken yet."""
        buffered = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return buffered + self._outbox_bytes

    def send(self, frame_type: int, correlation: int, payload: bytes, flags: int = 0) -> bool:
        """Send a frame; never waits. Frames sent in one turn of the loop go out in one write.

        Returns:
            False when the connection is not open, or was closed because the peer does not read.
        """
        if self._state is not PeerState.OPEN:
            return False
        self.write(_core.encode_frame(frame_type, flags, correlation, payload))
        if self.waiting_bytes > self._limits.max_waiting_bytes:
            self.abort(f"the peer does not read: {self.waiting_bytes} bytes are waiting for it")
            return False
        return True

    async def drain(self) -> None:
        """Wait until less than `Limits.pause_bytes` waits to be written; at most `Limits.stall_timeout_s`.

        Raises:
            ConnectionError: the connection was closed; says why.
        """
        await self._writable.wait()
        if self._state is not PeerState.OPEN:
            raise ConnectionError(self._reason or "the connection is not open")

    def close(self, reason: str) -> None:
        """Close after what was sent has been written, as far as the peer takes it in `close_timeout_s`."""
        self.shut(f"closed here: {reason}")

    async def wait_closed(self) -> str:
        """Wait until the connection is gone; return the reason."""
        return await asyncio.shield(self._closed)

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.pause_bytes)
        self._credentials = credentials_of(self._transport)
        self._arm(self._limits.handshake_timeout_s, self._on_handshake_timeout)
        self._handshake.start(self)

    def data_received(self, data: bytes) -> None:
        """Decode and deliver; send the answers in one write."""
        self._in_batch = True
        try:
            if self._state is PeerState.HANDSHAKE:
                self._receive_handshake(data)
                data = b""
            if self._state is PeerState.OPEN:
                self._receive_frames(data)
        finally:
            self._in_batch = False
            self._flush()

    def eof_received(self) -> None:
        """Let asyncio close the transport: a peer that has stopped sending is gone."""
        half = " in the middle of a frame" if self._decoder.buffered_bytes else ""
        self._reason = self._reason or f"closed by peer{half}"

    def pause_writing(self) -> None:
        """Stop reading from a peer that does not read, and give it a time limit."""
        self._writable.clear()
        if self._state is not PeerState.OPEN or self._transport is None:
            return
        self._transport.pause_reading()
        self._arm(self._limits.stall_timeout_s, self._on_stall_timeout)

    def resume_writing(self) -> None:
        """Go on after the peer has read."""
        self._writable.set()
        if self._state is PeerState.OPEN and self._transport is not None:
            self._disarm()
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who may be waiting."""
        opened = self._hello is not None
        self._move(PeerState.CLOSED)
        self._disarm()
        self._outbox.clear()
        self._outbox_bytes = 0
        self._reason = self._reason or (f"closed by peer: {exc}" if exc else "closed by peer")
        self._writable.set()
        if not self._closed.done():
            self._closed.set_result(self._reason)
        self._handshake.done(self, self._reason, opened)
        if opened:
            self._handler.on_closed(self, self._reason)

    # ---- internal ----

    def _receive_handshake(self, data: bytes) -> None:
        # One frame only: what follows it may be larger than a stranger's frames may be.
        try:
            frames = self._decoder.feed(data, limit=1)
        except ValueError as error:
            self._handshake.malformed(self, f"malformed frame: {error}")
            return
        for frame_type, _flags, _correlation, payload in frames:
            self._handshake.received(self, frame_type, payload)

    def _receive_frames(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                if self._state is not PeerState.OPEN:
                    return
                self._deliver(*frame)
            if self._decoder.error:
                self.shut(f"malformed frame: {self._decoder.error}")
        except ValueError as error:
            self.shut(f"malformed frame: {error}")

    def _deliver(self, frame_type: int, flags: int, correlation: int, payload: bytes) -> None:
        if frame_type == _core.FRAME_PING:
            self.send(_core.FRAME_PONG, correlation, b"")
        elif frame_type < _core.FRAME_CONTROL and frame_type != _core.FRAME_PONG:
            self.shut(f"malformed frame: type {frame_type} after the handshake")
        else:
            self._guarded(self._handler.on_frame, frame_type, flags, correlation, payload)

    def _guarded(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(self, *arguments)
        except Exception:
            get_logger().exception("the handler of a connection failed", callback=callback.__name__)
            self.shut("closed here: its request could not be handled, see the log")

    # ---- for the handshakes of this package ----

    def open(self, hello: _core.Hello) -> None:
        """The peer is welcome: deliver frames from now on."""
        self._disarm()
        self._hello = hello
        self._move(PeerState.OPEN)
        self._decoder.set_max_payload_bytes(self._limits.max_payload_bytes)
        self._guarded(self._handler.on_open)

    def write(self, data: bytes) -> None:
        """Write an encoded frame in whatever state."""
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        if self._outbox_bytes >= self._limits.pause_bytes:
            self._flush()
        elif not (self._in_batch or self._flush_due):
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if not self._outbox or self._transport is None:
            return
        data = self._outbox[0] if len(self._outbox) == 1 else b"".join(self._outbox)
        self._outbox.clear()
        self._outbox_bytes = 0
        self._transport.write(data)

    def shut(self, reason: str) -> None:
        """Close with this reason after what was written, within `Limits.close_timeout_s`."""
        if self._state in (PeerState.CLOSING, PeerState.CLOSED):
            return
        self._reason = self._reason or reason
        self._move(PeerState.CLOSING)
        self._writable.set()
        self._flush()
        self._arm(self._limits.close_timeout_s, self._on_close_timeout)
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close now, with this reason; what was not written is dropped."""
        self._reason = self._reason or reason
        if self._state in (PeerState.HANDSHAKE, PeerState.OPEN):
            self._move(PeerState.CLOSING)
        self._disarm()
        self._outbox.clear()
        self._outbox_bytes = 0
        if self._transport is not None:
            self._transport.abort()

    def _move(self, to: PeerState) -> None:
        if to not in TRANSITIONS[self._state]:
            raise AssertionError(f"a connection cannot go from {self._state.name} to {to.name}")
        self._state = to

    def _arm(self, delay_s: float, callback: Callable[[], None]) -> None:
        """One deadline at a time: of the handshake, of a stalled peer, or of the last bytes."""
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(delay_s, callback)

    def _on_handshake_timeout(self) -> None:
        self.abort(f"the handshake took longer than {self._limits.handshake_timeout_s:g} s")

    def _on_stall_timeout(self) -> None:
        behind = f"{self.waiting_bytes} bytes wait for it"
        self.abort(f"the peer did not keep up for {self._limits.stall_timeout_s:g} s: {behind}")

    def _on_close_timeout(self) -> None:
        self.abort(self._reason)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
