"""A put reduced to its minimum: ``memcpy`` into shared memory whose pages are already there."""

from __future__ import annotations

import mmap
import os
import socket

import numpy as np
from aktis._microbenchmark.model import Load
from aktis._microbenchmark.rows.objects import ARRAY_BYTES, ARRAYS_PER_STEP
from numpy.typing import NDArray


class Copier:
    """A source array and a populated destination in shared memory."""

    def __init__(self) -> None:
        descriptor = os.memfd_create("benchmark")
        try:
            os.ftruncate(descriptor, ARRAY_BYTES)
            self._mapping = mmap.mmap(descriptor, ARRAY_BYTES)
        finally:
            os.close(descriptor)
        self._source: NDArray[np.uint8] = np.ones(ARRAY_BYTES, dtype=np.uint8)
        self._target: NDArray[np.uint8] = np.frombuffer(self._mapping, dtype=np.uint8)
        self.copy()  # touches every page

    def copy(self) -> None:
        np.copyto(self._target, self._source)


def one_copier() -> Load:
    copier = Copier()
    return Load(copier.copy, amount=ARRAY_BYTES / 1e9)


def _copy_on_request(connection: socket.socket) -> None:
    copier = Copier()
    connection.sendall(b"r")
    while connection.recv(1):
        for _ in range(ARRAYS_PER_STEP):
            copier.copy()
        connection.sendall(b"d")


def several_copiers(clients: int) -> Load:
    """So many processes, each with a memory of its own, copying at the same time."""
    connections: list[socket.socket] = []
    pids: list[int] = []
    for _ in range(clients):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            for connection in (*connections, ours):
                connection.close()
            try:
                _copy_on_request(theirs)
            finally:
                os._exit(0)
        theirs.close()
        connections.append(ours)
        pids.append(pid)
    for connection in connections:
        connection.recv(1)

    def step() -> None:
        for connection in connections:
            connection.sendall(b"c")
        for connection in connections:
            if connection.recv(1) != b"d":
                raise ConnectionError("a copying process ended early")

    def close() -> None:
        for connection in connections:
            connection.shutdown(socket.SHUT_RDWR)  # some later child may hold a copy of this end
            connection.close()
        for pid in pids:
            os.waitpid(pid, 0)

    return Load(step, amount=clients * ARRAYS_PER_STEP * ARRAY_BYTES / 1e9, close=close)
