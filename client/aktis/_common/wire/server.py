"""The accepting side: listeners, the server's decision about a HELLO, its open connections."""

import asyncio
import os
import socket
from dataclasses import dataclass

from aktis import _core
from aktis._common.logging import get_logger
from aktis._common.wire.model import HandshakePolicy, Limits, PeerHandler, PeerState, hello_frame
from aktis._common.wire.peer import WirePeer


@dataclass
class ServerStatistics:
    """Counts since the start: connections accepted, opened, ended before they were open."""

    accepted: int = 0
    opened: int = 0
    refused: int = 0


class WireServer:
    """Listens, checks handshakes, and hands frames to one handler."""

    def __init__(
        self,
        policy: HandshakePolicy,
        handler: PeerHandler,
        *,
        limits: Limits | None = None,
        max_connections: int = 10_000,
    ) -> None:
        """
        Args:
            max_connections: peers beyond are refused as soon as they connect.
        """
        self._policy = policy
        self._handler = handler
        self._limits = limits or Limits()
        self._max_connections = max_connections
        self._servers: list[asyncio.Server] = []
        self._stopping = ""
        self._files: list[tuple[str, int, int]] = []
        self._peers: set[WirePeer] = set()
        self.statistics = ServerStatistics()

    @property
    def peers(self) -> frozenset[WirePeer]:
        """Connections that are open."""
        return frozenset(peer for peer in self._peers if peer.state is PeerState.OPEN)

    async def listen(self, address: str) -> str:
        """Listen at "unix:/path" (mode 0600) or "tcp:host:port"; may be called for several addresses.

        Returns:
            The address with the port that was chosen for port 0.

        Raises:
            OSError: the address is in use or cannot be bound; names it.
            ValueError: it is not an address.
        """
        fd, actual = _core.listen_socket(address)
        listener = socket.socket(fileno=fd)
        path = _core.parse_endpoint(address)[0]
        loop = asyncio.get_running_loop()
        if path:
            status = os.stat(path)
            self._files.append((path, status.st_dev, status.st_ino))
            server = await loop.create_unix_server(self._make_peer, sock=listener)
        else:
            server = await loop.create_server(self._make_peer, sock=listener)
        self._servers.append(server)
        return actual

    async def close(self, reason: str = "the server stops") -> None:
        """Stop listening, remove socket files, close every connection; returns when all are gone."""
        self._stopping = reason
        for server in self._servers:
            server.close()
        self._servers.clear()
        for path, device, inode in self._files:
            _remove_own_file(path, device, inode)
        self._files.clear()
        peers = list(self._peers)
        for peer in peers:
            peer.close(reason)
        await asyncio.gather(*(peer.wait_closed() for peer in peers))

    def _make_peer(self) -> WirePeer:
        return WirePeer(self._handler, self._limits, ServerHandshake(self))


class ServerHandshake:
    """The accepting end: waits for a HELLO, answers with an ACK or the reason why not."""

    def __init__(self, server: WireServer) -> None:
        self._server = server

    def start(self, peer: WirePeer) -> None:
        server = self._server
        server.statistics.accepted += 1
        server._peers.add(peer)
        if server._stopping:  # asyncio had accepted it before
            self._refuse(peer, _core.REJECT_BUSY, server._stopping)
        elif len(server._peers) > server._max_connections:
            self._refuse(peer, _core.REJECT_BUSY, f"there are {server._max_connections} connections already")

    def received(self, peer: WirePeer, frame_type: int, payload: bytes) -> None:
        if frame_type != _core.FRAME_HELLO:
            self.malformed(peer, f"the first frame must be a HELLO, this one has type {frame_type}")
            return
        try:
            hello = _core.decode_hello(payload)
        except ValueError as error:
            self.malformed(peer, str(error))
            return
        policy = self._server._policy
        refusal = _core.check_hello(
            hello,
            server_id=policy.identity.sender,
            token=policy.token,
            accepted_roles=policy.accepted_roles,
            required_uid=policy.required_uid,
            peer_uid=peer.credentials.uid if peer.credentials else None,
        )
        if refusal is not None:
            self._refuse(peer, *refusal)
            return
        peer.write(hello_frame(_core.FRAME_HELLO_ACK, policy.identity))
        self._server.statistics.opened += 1
        peer.open(hello)

    def malformed(self, peer: WirePeer, reason: str) -> None:
        self._refuse(peer, _core.REJECT_MALFORMED, reason)

    def _refuse(self, peer: WirePeer, code: int, message: str) -> None:
        peer.write(_core.encode_frame(_core.FRAME_HELLO_REJECT, 0, 0, _core.encode_reject(code, message)))
        peer.shut(f"refused: {message}")

    def done(self, peer: WirePeer, reason: str, opened: bool) -> None:
        self._server._peers.discard(peer)
        if not opened:
            self._server.statistics.refused += 1
            pid = peer.credentials.pid if peer.credentials else None
            get_logger().warning("a connection ended before it was open", reason=reason, pid=pid)


def _remove_own_file(path: str, device: int, inode: int) -> None:
    """Remove a socket file unless a successor has put its own in its place."""
    try:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) == (device, inode):
            os.unlink(path)
    except FileNotFoundError:
        return
