"""Which version this is, and which versions it can talk to.

The gRPC contracts and the frames have versions of their own: a node one release apart can join as long as
the major protocol numbers agree.
"""

from aktis import _core

VERSION: str = _core.__version__

PROTOCOL_MAJOR = 1
"""Of the gRPC contracts in proto/aktis/v1. Peers with another major number refuse each other."""

PROTOCOL_MINOR = 0
"""Grows with compatible additions; for information only."""


def protocol_text(major: int = PROTOCOL_MAJOR, minor: int = PROTOCOL_MINOR) -> str:
    """Return the protocol version as it travels in metadata, for example ``"1.0"``."""
    return f"{major}.{minor}"


def refusal(peer_major: int, peer_minor: int, peer_version: str = "") -> str | None:
    """Say why a peer cannot be served, or return None when it can.

    The text names both versions and what to do, because it is what an operator sees on the refused side.
    """
    if peer_major == PROTOCOL_MAJOR:
        return None
    older = "the peer" if peer_major < PROTOCOL_MAJOR else "this side"
    peer = f"protocol {protocol_text(peer_major, peer_minor)}" + (
        f" (aktis {peer_version})" if peer_version else ""
    )
    return (
        f"{peer} cannot talk to protocol {protocol_text()} (aktis {VERSION}): "
        f"upgrade {older} so that both have the same major protocol number"
    )
