"""A call reduced to its minimum: one pickle there and one back over a Unix socket, between two processes."""

from __future__ import annotations

import os
import pickle
import socket
import struct
from collections.abc import Callable

from aktis._microbenchmark.model import Load

LENGTH = struct.Struct("<I")
CALLS_PER_STEP = 1_000
RECEIVE_BYTES = 1 << 16


class FrameReader:
    """Cuts a stream of length-prefixed frames out of what a socket delivers."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._buffer = b""

    def read(self) -> list[bytes]:
        """All whole frames there are, after one receive at least; empty at the end of the stream."""
        while True:
            data = self._receive(RECEIVE_BYTES)
            if not data:
                return []
            self._buffer += data
            frames, self._buffer = split_frames(self._buffer)
            if frames:
                return frames


def split_frames(buffer: bytes) -> tuple[list[bytes], bytes]:
    """The whole frames at the start of the buffer, and the rest."""
    frames: list[bytes] = []
    start = 0
    while start + LENGTH.size <= len(buffer):
        (size,) = LENGTH.unpack_from(buffer, start)
        end = start + LENGTH.size + size
        if end > len(buffer):
            break
        frames.append(buffer[start + LENGTH.size : end])
        start = end
    return frames, buffer[start:]


def frame(value: object) -> bytes:
    body = pickle.dumps(value, protocol=5)
    return LENGTH.pack(len(body)) + body


def _serve(connection: socket.socket) -> None:
    """The child: answers each frame; everything that came together is answered together."""
    reader = FrameReader(connection.recv)
    while frames := reader.read():
        connection.sendall(b"".join(frame(pickle.loads(body)[1]) for body in frames))


def _start_server() -> tuple[socket.socket, Callable[[], None]]:
    """A connection to a new child, and what ends it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        ours.close()
        try:
            _serve(theirs)
        finally:
            os._exit(0)
    theirs.close()

    def close() -> None:
        # Not only close: a child forked later may hold a copy of this end, and then no end of stream comes.
        ours.shutdown(socket.SHUT_RDWR)
        ours.close()
        os.waitpid(pid, 0)

    return ours, close


def synchronous() -> Load:
    connection, close = _start_server()
    reader = FrameReader(connection.recv)

    def step() -> None:
        connection.sendall(frame(("small", b"ok")))
        (answer,) = reader.read()
        pickle.loads(answer)

    return Load(step, close=close)


def pipelined() -> Load:
    """Each call is a pickle of its own; the system calls are shared by as many as fit."""
    connection, close = _start_server()
    reader = FrameReader(connection.recv)

    def step() -> None:
        connection.sendall(b"".join(frame(("small", b"ok")) for _ in range(CALLS_PER_STEP)))
        answered = 0
        while answered < CALLS_PER_STEP:
            for answer in reader.read():
                pickle.loads(answer)
                answered += 1

    return Load(step, amount=CALLS_PER_STEP, close=close)
