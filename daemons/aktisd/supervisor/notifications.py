"""The supervisor's side of the readiness protocol: datagrams whose sender the kernel vouches for."""

import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MESSAGE_LIMIT_BYTES: Final = 4 * 1024
_UCRED: Final = struct.Struct("iII")


@dataclass(frozen=True)
class Notification:
    """What one daemon said."""

    pid: int
    fields: dict[str, str]


class NotifySocket:
    """Receives what daemons say. Non-blocking; a message that is too long is cut."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(str(path))

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    def receive(self) -> list[Notification]:
        """Return every message that is there; those of other users and without credentials are ignored."""
        notifications: list[Notification] = []
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(
                    _MESSAGE_LIMIT_BYTES, socket.CMSG_SPACE(_UCRED.size)
                )
            except BlockingIOError:
                return notifications
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    pid, uid, _ = _UCRED.unpack(content[: _UCRED.size])
                    if uid == os.getuid():
                        notifications.append(Notification(pid, parse(data)))

    def close(self) -> None:
        """Close the socket and remove its file."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def parse(data: bytes) -> dict[str, str]:
    """Return the assignments of a message; lines of another form are ignored."""
    pairs = (line.partition("=") for line in data.decode("utf-8", "replace").splitlines())
    return {name: value for name, separator, value in pairs if separator}
