"""The connecting side: one function that returns an open connection."""

import asyncio

from aktis import _core
from aktis._common.wire.model import Identity, Limits, PeerHandler, PeerState, hello_frame
from aktis._common.wire.peer import WirePeer


async def connect(
    address: str,
    identity: Identity,
    token: str,
    handler: PeerHandler,
    *,
    expected_peer: bytes = b"",
    limits: Limits | None = None,
) -> WirePeer:
    """Connect to "unix:/path" or "tcp:host:port" and shake hands, within ``limits.handshake_timeout_s``.

    Args:
        expected_peer: the sender id that must answer; empty: any.

    Raises:
        ConnectionError: nobody listens there, or the server refused; says why and where.
        TimeoutError: it took too long.
        ValueError: it is not an address.
    """
    path, host, port = _core.parse_endpoint(address)
    limits = limits or Limits()
    handshake = ClientHandshake(identity, token, expected_peer)
    peer = WirePeer(handler, limits, handshake)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limits.handshake_timeout_s):
            if path:
                await loop.create_unix_connection(lambda: peer, path)
            else:
                await loop.create_connection(lambda: peer, host, port)
            await handshake.opened
    except TimeoutError:
        raise TimeoutError(f"{address}: no handshake within {limits.handshake_timeout_s:g} s") from None
    except OSError as error:
        raise ConnectionError(f"cannot connect to {address}: {error}") from error
    finally:
        if peer.state is PeerState.HANDSHAKE:
            peer.abort("given up before the handshake was done")
    return peer


class ClientHandshake:
    """The connecting end: sends a HELLO, waits for the answer."""

    def __init__(self, identity: Identity, token: str, expected_peer: bytes) -> None:
        self._identity = identity
        self._token = token
        self._expected_peer = expected_peer
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self, peer: WirePeer) -> None:
        peer.write(hello_frame(_core.FRAME_HELLO, self._identity, self._token, self._expected_peer))

    def received(self, peer: WirePeer, frame_type: int, payload: bytes) -> None:
        try:
            if frame_type == _core.FRAME_HELLO_REJECT:
                peer.shut(f"refused: {_core.decode_reject(payload)[1]}")
            elif frame_type == _core.FRAME_HELLO_ACK:
                self._check_ack(peer, _core.decode_hello(payload))
            else:
                self.malformed(peer, f"type {frame_type} instead of an answer to the HELLO")
        except ValueError as error:
            self.malformed(peer, str(error))

    def _check_ack(self, peer: WirePeer, ack: _core.Hello) -> None:
        refusal = _core.check_hello_ack(ack, self._expected_peer)
        if refusal is not None:
            peer.shut(f"refused here: {refusal[1]}")
            return
        peer.open(ack)
        if not self.opened.done():
            self.opened.set_result(None)

    def malformed(self, peer: WirePeer, reason: str) -> None:
        peer.shut(f"malformed frame: {reason}")

    def done(self, peer: WirePeer, reason: str, opened: bool) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(reason))
