"""``/metrics`` over HTTP on the daemon's own event loop.

prometheus_client's server runs in a thread; there, collectors would read the managers' tables while the loop
changes them. One request is one bounded read and one write here, so no thread and no lock is needed.
"""

import asyncio
import os
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from aktis._common.errors import StartError

_REQUEST_LIMIT_BYTES: Final = 16 * 1024
_REQUEST_TIMEOUT_S: Final = 5.0
_CONNECTION_LIMIT: Final = 32


class MetricsServer:
    """Serves one registry. Belongs to the event loop that starts it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self, address: str, setting: str) -> str:
        """Listen on ``host:port``; return the address with the real port.

        Raises:
            StartError: the address cannot be bound; ``setting`` names the key to change.
        """
        host, _, port = address.rpartition(":")
        try:
            self._server = await asyncio.start_server(
                self._serve, host.strip("[]"), int(port), limit=_REQUEST_LIMIT_BYTES
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StartError(
                f"{setting}: cannot listen on {address}: {reason}: choose another or stop what uses it"
            ) from None
        return f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Stop listening; connections in progress are dropped."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _CONNECTION_LIMIT:
                async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(request))
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # a broken scraper gets no answer; the next scrape is a new connection
        finally:
            self._open -= 1
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _response(405, b"only GET\n", method)
        if path == b"/metrics":
            return _response(200, generate_latest(self._registry), method, CONTENT_TYPE_LATEST)
        if path == b"/healthz":
            return _response(200, b"ok\n", method)
        return _response(404, b"see /metrics\n", method)


def _response(
    status: int, body: bytes, method: bytes, content_type: str = "text/plain; charset=utf-8"
) -> bytes:
    reason = {200: "OK", 404: "Not Found", 405: "Method Not Allowed"}[status]
    head = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == b"HEAD" else body)
