"""Collective operations over TCP, for members on several nodes.

Every operation begins with a header from everybody to everybody: so members that call different things all
learn of it before any data is sent, and the group can go on. Then small arrays go from everybody to
everybody; large ones go around a ring, so that each member sends and receives about what it holds, whatever
the number of members. Each part is reduced by one member in one order: all have the same bits.
"""

import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from aktis import _core
from aktis.util.collective import mesh
from aktis.util.collective.arrays import Bytes
from aktis.util.collective.errors import CollectiveError
from aktis.util.collective.types import ReduceOp

_HEADER: Final = struct.Struct("<BBBxIQ")  # operation, type, reduction, root, elements
_DIRECT_HEADER: Final = struct.Struct("<B7xQ")  # type, bytes
_CHUNK_BYTES: Final = 1 << 20
_DIRECT_BYTES: Final = 32 * 1024
_OPERATIONS: Final = ("barrier", "allreduce", "reduce", "broadcast", "allgather", "reducescatter")
_BARRIER, _ALL_REDUCE, _REDUCE, _BROADCAST, _ALL_GATHER, _REDUCE_SCATTER = range(6)


_SIZES: Final = {
    code: 2 if name == "bfloat16" else np.dtype(name).itemsize
    for code, name in enumerate(_core.collective.DATA_TYPES)
}


def connect_mesh(
    own_ip: str,
    rank: int,
    world_size: int,
    timeout_s: float,
    exchange: Callable[[tuple[str, int]], tuple[str, list[tuple[str, int]]]],
) -> "TcpGroup":
    """Connect all members; see `aktis.util.collective.mesh.make`."""
    links, direct = mesh.make(own_ip, rank, world_size, time.monotonic() + timeout_s, exchange)
    return TcpGroup(rank, world_size, links, direct)


class TcpGroup:
    """One member's connections; a `Transport`. Ends with its last reference: the others see it leave."""

    def __init__(
        self,
        rank: int,
        world_size: int,
        links: Mapping[int, socket.socket],
        direct: Mapping[int, socket.socket],
    ) -> None:
        self._rank = rank
        self._world_size = world_size
        self._links = links
        self._direct = direct
        self._others = tuple(other for other in range(world_size) if other != rank)
        self._right = (rank + 1) % world_size
        self._left = (rank - 1) % world_size
        self._broken = ""
        # One thread may be in a collective operation and others in send() and recv(); the last one closes.
        self._lock = threading.Lock()
        self._inside = 0

    def __del__(self) -> None:
        mesh.close_all(self._links, self._direct)

    # ---- operations ----

    def barrier(self, timeout_s: float) -> None:
        """Wait for all members."""
        self._begin((_BARRIER, 0, 0, 0, 0), timeout_s)

    def all_reduce(self, data: Bytes, dtype: int, op: int, timeout_s: float) -> None:
        """Reduce in place."""
        deadline_s = self._begin((_ALL_REDUCE, dtype, op, 0, _count(data, dtype)), timeout_s)
        if data.nbytes <= _DIRECT_BYTES:
            parts = {other: np.empty_like(data) for other in self._others}
            self._exchange(dict.fromkeys(self._others, data.copy()), parts, deadline_s)
            parts[self._rank] = data.copy()
            data[:] = parts[0]
            for other in range(1, self._world_size):
                _core.collective.combine(data, parts[other], dtype, op)
            return
        parts_of = self._split(data, dtype)
        self._ring_reduce(parts_of, dtype, op, deadline_s)
        self._ring_gather(parts_of, deadline_s)

    def reduce(self, data: Bytes, dtype: int, op: int, root: int, timeout_s: float) -> None:
        """Reduce into the root's array."""
        deadline_s = self._begin((_REDUCE, dtype, op, root, _count(data, dtype)), timeout_s)
        work = data if self._rank == root else data.copy()
        parts = self._split(work, dtype)
        self._ring_reduce(parts, dtype, op, deadline_s)
        if self._rank == root:
            self._exchange({}, {other: parts[other] for other in self._others}, deadline_s)
        else:
            self._exchange({root: parts[self._rank]}, {}, deadline_s)

    def broadcast(self, data: Bytes, dtype: int, root: int, timeout_s: float) -> None:
        """Pass the root's array along the ring, chunk by chunk."""
        deadline_s = self._begin((_BROADCAST, dtype, 0, root, _count(data, dtype)), timeout_s)
        first, last = self._rank == root, self._right == root
        before: Bytes | None = None
        for start in range(0, data.nbytes, _CHUNK_BYTES):
            chunk = data[start : start + _CHUNK_BYTES]
            passes = chunk if first else before
            sends = {self._right: passes} if passes is not None and not last else {}
            self._exchange(sends, {} if first else {self._left: chunk}, deadline_s)
            before = chunk
        if before is not None and not first and not last:
            self._exchange({self._right: before}, {}, deadline_s)

    def all_gather(self, data: Bytes, outputs: Sequence[Bytes], dtype: int, timeout_s: float) -> None:
        """Copy everybody's array into the outputs."""
        deadline_s = self._begin((_ALL_GATHER, dtype, 0, 0, _count(data, dtype)), timeout_s)
        outputs[self._rank][:] = data
        self._ring_gather(outputs, deadline_s)

    def reduce_scatter(
        self, inputs: Sequence[Bytes], output: Bytes, dtype: int, op: int, timeout_s: float
    ) -> None:
        """Reduce the inputs of one rank at that rank."""
        deadline_s = self._begin((_REDUCE_SCATTER, dtype, op, 0, _count(output, dtype)), timeout_s)
        parts = [part.copy() for part in inputs]
        self._ring_reduce(parts, dtype, op, deadline_s)
        output[:] = parts[self._rank]

    def send(self, data: Bytes, dtype: int, to: int, timeout_s: float) -> None:
        """Send to one member."""
        deadline_s = time.monotonic() + timeout_s
        self._talk(self._direct, {to: _DIRECT_HEADER.pack(dtype, data.nbytes)}, {}, deadline_s)
        self._talk(self._direct, {to: data}, {}, deadline_s)

    def receive(self, data: Bytes, dtype: int, source: int, timeout_s: float) -> None:
        """Receive from one member."""
        deadline_s = time.monotonic() + timeout_s
        header = bytearray(_DIRECT_HEADER.size)
        self._talk(self._direct, {}, {source: header}, deadline_s)
        their_dtype, size_bytes = _DIRECT_HEADER.unpack(header)
        if (their_dtype, size_bytes) == (dtype, data.nbytes):
            self._talk(self._direct, {}, {source: data}, deadline_s)
            return
        for start in range(0, size_bytes, _CHUNK_BYTES):
            lost = bytearray(min(_CHUNK_BYTES, size_bytes - start))
            self._talk(self._direct, {}, {source: lost}, deadline_s)
        raise ValueError(
            f"rank {source} has sent {_elements(size_bytes, their_dtype)}, rank {self._rank} receives "
            f"{_elements(data.nbytes, dtype)}: that message is lost"
        )

    # ---- parts ----

    def _begin(self, header: tuple[int, int, int, int, int], timeout_s: float) -> float:
        """Compare with everybody what is to be done; return the deadline."""
        deadline_s = time.monotonic() + timeout_s
        mine = _HEADER.pack(*header)
        theirs = {other: bytearray(_HEADER.size) for other in self._others}
        self._exchange(dict.fromkeys(self._others, mine), theirs, deadline_s)
        for other, raw in theirs.items():
            if raw != mine:
                raise ValueError(
                    f"the members of the group call different things: rank {self._rank} {_describe(header)}, "
                    f"rank {other} {_describe(_HEADER.unpack(raw))}"
                )
        return deadline_s

    def _ring_reduce(self, parts: Sequence[Bytes], dtype: int, op: int, deadline_s: float) -> None:
        """Afterwards the part at each member's own rank is the reduction of all members'."""
        for step in range(self._world_size - 1):
            sent = (self._rank - step - 1) % self._world_size
            received = (self._rank - step - 2) % self._world_size
            incoming = np.empty_like(parts[received])
            self._exchange({self._right: parts[sent]}, {self._left: incoming}, deadline_s)
            _core.collective.combine(parts[received], incoming, dtype, op)

    def _ring_gather(self, parts: Sequence[Bytes], deadline_s: float) -> None:
        """Each member has the part at its rank; afterwards all have all."""
        for step in range(self._world_size - 1):
            sent = (self._rank - step) % self._world_size
            received = (self._rank - step - 1) % self._world_size
            self._exchange({self._right: parts[sent]}, {self._left: parts[received]}, deadline_s)

    def _split(self, data: Bytes, dtype: int) -> list[Bytes]:
        """Return one part per member, as views, in whole elements."""
        size, elements = _SIZES[dtype], _count(data, dtype)
        bounds = [elements * part // self._world_size * size for part in range(self._world_size + 1)]
        return [data[start:end] for start, end in itertools.pairwise(bounds)]

    def _exchange(
        self, sends: Mapping[int, object], receives: Mapping[int, object], deadline_s: float
    ) -> None:
        self._talk(self._links, sends, receives, deadline_s)

    def _talk(
        self,
        links: Mapping[int, socket.socket],
        sends: Mapping[int, object],
        receives: Mapping[int, object],
        deadline_s: float,
    ) -> None:
        """Exchange; whatever goes wrong in the middle breaks the group for everybody."""
        with self._lock:
            if self._broken:
                raise CollectiveError(self._broken)
            self._inside += 1
        try:
            mesh.exchange(links, sends, receives, deadline_s)
        except BaseException as error:
            if self._broken and isinstance(error, CollectiveError):  # by another thread: that is the cause
                raise CollectiveError(self._broken) from error
            self._broken = str(error) or f"rank {self._rank} was interrupted ({type(error).__name__})"
            mesh.shut_down_all(self._links, self._direct)
            raise
        finally:
            with self._lock:
                self._inside -= 1
                if self._broken and not self._inside:
                    mesh.close_all(self._links, self._direct)


def _count(data: Bytes, dtype: int) -> int:
    return data.nbytes // _SIZES[dtype]


def _elements(size_bytes: int, dtype: int) -> str:
    if dtype not in _SIZES:
        return f"{size_bytes} bytes"
    return f"{size_bytes // _SIZES[dtype]} {_core.collective.DATA_TYPES[dtype]}"


def _describe(header: tuple[int, int, int, int, int]) -> str:
    operation, dtype, op, root, count = header
    text = _OPERATIONS[operation]
    if operation == _BARRIER:
        return text
    text += f" of {count} {_core.collective.DATA_TYPES[dtype]}"
    if operation in (_ALL_REDUCE, _REDUCE, _REDUCE_SCATTER):
        text += f" by {ReduceOp(op).name}"
    if operation == _BROADCAST:
        text += f" from rank {root}"
    return text + f" to rank {root}" if operation == _REDUCE else text
