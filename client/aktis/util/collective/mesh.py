"""TCP connections from each member of a group to each other one: how they are made, how bytes are exchanged.

Two per pair: one for collective operations, one for `send` and `recv`, so that those do not mix. Whoever
connects shows the group's key, which only its members have; others are turned away.
"""

import contextlib
import hmac
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aktis.util.collective.errors import CollectiveError, CollectiveTimeoutError

COLLECTIVE: Final = 0
DIRECT: Final = 1
_HELLO: Final = struct.Struct("<16sIB")
_HELLO_TIMEOUT_S: Final = 5.0
_POLLED_S: Final = 3600.0


def make(
    own_ip: str,
    rank: int,
    world_size: int,
    deadline_s: float,
    exchange: Callable[[tuple[str, int]], tuple[str, list[tuple[str, int]]]],
) -> tuple[dict[int, socket.socket], dict[int, socket.socket]]:
    """Connect to all other members and return the connections of both kinds by rank.

    Args:
        own_ip: Where this member listens for the others.
        rank, world_size: Who this is.
        deadline_s: When to give up, as `time.monotonic` counts.
        exchange: Tells all members this one's address; returns the group's key and the addresses of all.

    Raises:
        CollectiveTimeoutError: not everybody came in time.
        CollectiveError: somebody cannot be reached.
    """
    links: tuple[dict[int, socket.socket], dict[int, socket.socket]] = ({}, {})
    with socket.create_server((own_ip, 0), family=_family(own_ip), backlog=2 * world_size) as listener:
        try:
            key_text, addresses = exchange((own_ip, listener.getsockname()[1]))
            key = bytes.fromhex(key_text)
            for other in range(rank):  # everybody listens already
                for kind in (COLLECTIVE, DIRECT):
                    links[kind][other] = _dial(addresses[other], _HELLO.pack(key, rank, kind), deadline_s)
            while any(len(links[kind]) < world_size - 1 for kind in (COLLECTIVE, DIRECT)):
                accepted = _accept(listener, key, rank, world_size, deadline_s)
                if accepted is not None:
                    connection, other, kind = accepted
                    links[kind][other] = connection
        except BaseException:
            close_all(links[COLLECTIVE], links[DIRECT])
            raise
    for connections in links:
        for connection in connections.values():
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
    return links


def shut_down_all(*groups: Mapping[int, socket.socket]) -> None:
    """Wake the threads that wait for connections; they find them ended."""
    for connections in groups:
        for connection in connections.values():
            with contextlib.suppress(OSError):  # the other end has gone already
                connection.shutdown(socket.SHUT_RDWR)


def close_all(*groups: Mapping[int, socket.socket]) -> None:
    """Close connections; who waits for us at the other ends learns of it."""
    for connections in groups:
        for connection in connections.values():
            connection.close()


def _family(ip: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise CollectiveTimeoutError("not all members of the group have connected within its timeout")
    return left_s


def _dial(address: tuple[str, int], hello: bytes, deadline_s: float) -> socket.socket:
    try:
        connection = socket.create_connection(address, _left_s(deadline_s))
        try:
            connection.sendall(hello)
        except BaseException:
            connection.close()
            raise
    except OSError as error:
        raise CollectiveError(f"a member at {address[0]}:{address[1]} cannot be reached: {error}") from error
    return connection


def _accept(
    listener: socket.socket, key: bytes, rank: int, world_size: int, deadline_s: float
) -> tuple[socket.socket, int, int] | None:
    """Accept a connection and return it with its rank and kind; None for one that is not a member's."""
    listener.settimeout(_left_s(deadline_s))
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        _left_s(deadline_s)
        return None
    try:
        connection.settimeout(min(_HELLO_TIMEOUT_S, _left_s(deadline_s)))
        shown, other, kind = _HELLO.unpack(connection.recv(_HELLO.size, socket.MSG_WAITALL))
    except (OSError, struct.error):
        connection.close()
        return None
    if not hmac.compare_digest(shown, key) or not rank < other < world_size or kind not in (0, 1):
        connection.close()
        return None
    return connection, other, kind


def exchange(
    links: Mapping[int, socket.socket],
    sends: Mapping[int, Any],
    receives: Mapping[int, Any],
    deadline_s: float,
) -> None:
    """Send a buffer to each of some members and fill one from each of some, all at the same time.

    Raises:
        CollectiveTimeoutError: the deadline passed.
        CollectiveError: a member is gone.
    """
    out = {rank: memoryview(buffer) for rank, buffer in sends.items() if len(buffer)}
    into = {rank: memoryview(buffer) for rank, buffer in receives.items() if len(buffer)}
    _move(links, out, into)  # what can be done at once needs no poll
    if not out and not into:
        return
    poller = select.poll()
    ranks = {links[rank].fileno(): rank for rank in {*out, *into}}
    while out or into:
        for descriptor, rank in ranks.items():
            wanted = (select.POLLOUT if rank in out else 0) | (select.POLLIN if rank in into else 0)
            poller.register(descriptor, wanted)
        left_s = deadline_s - time.monotonic()
        ready = poller.poll(max(0, min(left_s, _POLLED_S)) * 1000)
        if not ready and time.monotonic() >= deadline_s:
            late = ", ".join(str(rank) for rank in sorted({*out, *into}))
            raise CollectiveTimeoutError(f"waited in vain for rank {late} until the group's timeout")
        _move(links, out, into)
        for descriptor, rank in list(ranks.items()):
            if rank not in out and rank not in into:
                poller.unregister(descriptor)
                del ranks[descriptor]


def _move(
    links: Mapping[int, socket.socket], out: dict[int, memoryview], into: dict[int, memoryview]
) -> None:
    """Send and receive what can be without waiting; what is finished is taken out."""
    for rank in list(out):
        _advance(out, rank, links[rank].send)
    for rank in list(into):
        _advance(into, rank, links[rank].recv_into)


def _advance(pending: dict[int, memoryview], rank: int, step: Callable[[memoryview], int]) -> None:
    while rank in pending:
        try:
            count = step(pending[rank])
        except BlockingIOError:
            return
        except OSError as error:
            raise CollectiveError(f"rank {rank} has died or left the group: {error.strerror}") from error
        if count == 0:
            raise CollectiveError(f"rank {rank} has died or left the group: its connection is closed")
        pending[rank] = pending[rank][count:]
        if not pending[rank]:
            del pending[rank]
