"""A daemon's standard error: copied from a pipe to a file of limited size, with the last lines at hand."""

import os
from collections import deque
from pathlib import Path
from typing import Final

_CHUNK_BYTES: Final = 64 * 1024
_LINE_LIMIT_BYTES: Final = 4 * 1024


class LogFile:
    """Appends to ``path``; at ``limit_bytes`` the file is renamed to ``path.1``, replacing an older one.

    A disk that is full loses lines, counted in ``lost_bytes``; it never stops the daemon or its supervisor.
    """

    def __init__(self, path: Path, limit_bytes: int, *, tail_lines: int = 40) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._fd = self._open()
        self._size_bytes = os.fstat(self._fd).st_size
        self._tail: deque[bytes] = deque(maxlen=tail_lines)
        self._partial = b""
        self.lost_bytes = 0

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def copy_from(self, pipe: int) -> bool:
        """Copy what a non-blocking pipe holds; return False at its end."""
        while True:
            try:
                data = os.read(pipe, _CHUNK_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.write(data)
            if len(data) < _CHUNK_BYTES:
                return True

    def write(self, data: bytes) -> None:
        """Append bytes."""
        *lines, rest = (self._partial + data).split(b"\n")
        self._tail.extend(line[:_LINE_LIMIT_BYTES] for line in lines)
        self._partial = rest[-_LINE_LIMIT_BYTES:]
        try:
            if self._size_bytes + len(data) > self._limit_bytes and self._size_bytes > 0:
                self._rotate()
            os.write(self._fd, data)
            self._size_bytes += len(data)
        except OSError:
            self.lost_bytes += len(data)

    def _rotate(self) -> None:
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        os.close(self._fd)
        self._fd = self._open()
        self._size_bytes = 0

    def tail(self) -> list[str]:
        """Return the last lines."""
        lines = [*self._tail, self._partial] if self._partial else list(self._tail)
        return [line.decode("utf-8", "replace") for line in lines]

    def fileno(self) -> int:
        """Return the descriptor of the file; it changes with each rotation."""
        return self._fd

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
