"""When the GCS is told what is free: soon after a change, at once where it waits, else only what is new."""

import asyncio
from collections.abc import Callable

from aktis._proto import gcs_pb2


class ResourceReporter:
    """Belongs to the event loop.

    Args:
        view: the present state, without a version.
        send: takes a report.
        delay_s: how long changes are collected.
    """

    def __init__(
        self,
        view: Callable[[], gcs_pb2.ResourceUpdate],
        send: Callable[[gcs_pb2.ResourceUpdate], None],
        delay_s: float,
    ) -> None:
        self._view = view
        self._send = send
        self._delay_s = delay_s
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self._wanted = False
        self._reported = b""
        self._version = 0

    def performed(self) -> None:
        """Something was done, and may have changed what is free."""
        if self._wanted:
            self._report()
        elif self._later is None:
            self._later = self._loop.call_later(self._delay_s, self._report)

    def wanted(self) -> None:
        """The GCS waits for it: report as soon as what is at hand is done."""
        self._wanted = True
        self._reported = b""  # also when nothing has changed since the last report

    def registered(self) -> None:
        """Report at once: what the registration said must not be taken back by an older view in the queue."""
        self._reported = b""
        self._report()

    def stop(self) -> None:
        """Report nothing more."""
        if self._later is not None:
            self._later.cancel()

    def _report(self) -> None:
        self.stop()
        self._later, self._wanted = None, False
        update = self._view()
        encoded = update.SerializeToString(deterministic=True)
        if encoded != self._reported:
            self._reported = encoded
            self._version += 1
            update.version = self._version
            self._send(update)
