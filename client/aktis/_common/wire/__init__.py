"""Frames over Unix and TCP sockets for asyncio: what the raylet serves its workers with.

A thin shell around the native, sans-I/O parts of aktis._core (frame decoder, handshake rules), which the C++
side of every worker uses too. All objects here belong to one event loop.

A peer is bounded in everything: bytes before its handshake, the time that takes, frame size, and the bytes
that wait for it. While it does not read what it is sent, it is not read from either, and in the end it is
disconnected: one that is slow or hostile costs nobody else memory.
"""

from aktis._common.wire.client import connect
from aktis._common.wire.model import Credentials, HandshakePolicy, Identity, Limits, PeerHandler, PeerState
from aktis._common.wire.peer import WirePeer
from aktis._common.wire.server import ServerStatistics, WireServer

__all__ = [
    "Credentials",
    "HandshakePolicy",
    "Identity",
    "Limits",
    "PeerHandler",
    "PeerState",
    "ServerStatistics",
    "WirePeer",
    "WireServer",
    "connect",
]
