"""Who speaks, what is demanded of a peer, its limits, the states of a connection."""

import asyncio
import enum
import os
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from aktis import _core

if TYPE_CHECKING:
    from aktis._common.wire.peer import WirePeer

_UCRED: Final = struct.Struct("3i")


@dataclass(frozen=True)
class Identity:
    """Who speaks: the calling process's part of every handshake.

    Attributes:
        role: one of aktis._core.ROLE_*.
        sender: 16 random bytes per process.
        node: 16 bytes, or empty while the node is not known.
    """

    role: int
    sender: bytes
    node: bytes = b""


@dataclass(frozen=True)
class HandshakePolicy:
    """What a server demands of a HELLO. No token: none is demanded; no roles: every role is welcome."""

    identity: Identity
    token: str = field(repr=False)
    accepted_roles: tuple[int, ...] = ()
    required_uid: int | None = None


@dataclass(frozen=True)
class Limits:
    """Bounds of one connection.

    Attributes:
        stall_timeout_s: how long `pause_bytes` may wait for a peer before it is disconnected.
        pause_bytes: with more waiting to be written the peer is not read from.
        max_waiting_bytes: with more waiting to be written the peer is disconnected at once.
        close_timeout_s: how long the last bytes of a closed connection may take.
    """

    max_payload_bytes: int = 64 * 2**20
    handshake_timeout_s: float = 5.0
    stall_timeout_s: float = 30.0
    pause_bytes: int = 2**20
    max_waiting_bytes: int = 256 * 2**20
    close_timeout_s: float = 1.0


@dataclass(frozen=True)
class Credentials:
    """What the kernel says about the process at the other end of a Unix socket."""

    pid: int
    uid: int
    gid: int


class PeerState(enum.Enum):
    """Life of a connection; `TRANSITIONS` is the table."""

    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()  # nothing is sent or delivered any more; the last bytes are on their way
    CLOSED = enum.auto()


TRANSITIONS: Final = {
    PeerState.HANDSHAKE: {PeerState.OPEN, PeerState.CLOSING, PeerState.CLOSED},
    PeerState.OPEN: {PeerState.CLOSING, PeerState.CLOSED},
    PeerState.CLOSING: {PeerState.CLOSED},
    PeerState.CLOSED: set[PeerState](),
}


class PeerHandler(Protocol):
    """Receives what happens on open connections, on the event loop's thread.

    An exception in `on_open` or `on_frame` closes that connection and is logged; the others go on.
    """

    def on_open(self, peer: "WirePeer") -> None:
        """The handshake is done."""

    def on_frame(
        self, peer: "WirePeer", frame_type: int, flags: int, correlation: int, payload: bytes
    ) -> None:
        """A frame came, of a type that is not the wire's own, or a PONG."""

    def on_closed(self, peer: "WirePeer", reason: str) -> None:
        """The connection is gone; the last call. Only for peers whose `on_open` was called."""


def hello_frame(frame_type: int, identity: Identity, token: str = "", expected_peer: bytes = b"") -> bytes:
    payload = _core.encode_hello(
        role=identity.role,
        sender=identity.sender,
        node=identity.node,
        expected_peer=expected_peer,
        token=token,
        pid=os.getpid(),
    )
    return _core.encode_frame(frame_type, 0, 0, payload)


def credentials_of(transport: asyncio.Transport) -> Credentials | None:
    sock: Any = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    return Credentials(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))
