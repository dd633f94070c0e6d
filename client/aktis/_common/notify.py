"""The readiness protocol of systemd: datagrams on the socket that NOTIFY_SOCKET names.

The supervisor speaks the same protocol, so that a daemon need not know who started it.
"""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Tells the service manager about this process. Does nothing when there is none. Any thread."""

    def __init__(self, address: str | None) -> None:
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            # systemd writes an abstract address as @name.
            self._socket.connect("\0" + address[1:] if address.startswith("@") else address)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> "Notifier":
        """Make the notifier of the manager that started this process."""
        return cls((os.environ if environ is None else environ).get("NOTIFY_SOCKET"))

    def send(self, **fields: str) -> bool:
        """Send assignments such as ``READY="1"``; return whether the manager took them.

        A manager that is gone or slow is no reason for a daemon to fail or to wait.
        """
        if self._socket is None:
            return False
        try:
            self._socket.send("\n".join(f"{name}={value}" for name, value in fields.items()).encode())
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the socket; later sends do nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def watchdog_period_s(environ: Mapping[str, str] | None = None) -> float | None:
    """Return how often the manager wants to hear WATCHDOG=1: half of the time that it set, None if never."""
    values = os.environ if environ is None else environ
    limit_us = values.get("WATCHDOG_USEC", "")
    pid = values.get("WATCHDOG_PID", "")
    if not limit_us.isdigit() or int(limit_us) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(limit_us) / 2e6
