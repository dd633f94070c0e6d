"""The metrics endpoint answers scrapers and survives everybody else."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from aktis._common.errors import StartError
from aktis._common.metrics_http import MetricsServer
from prometheus_client import CollectorRegistry, Counter


async def ask(address: str, request: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def serve(talk: Callable[[str], Awaitable[None]]) -> None:
    """Run a server with one counter and a conversation with it."""

    async def run() -> None:
        registry = CollectorRegistry()
        Counter("aktis_test_things", "Things.", registry=registry).inc(3)
        server = MetricsServer(registry)
        address = await server.start("127.0.0.1:0", "gcs.metrics_address")
        try:
            await asyncio.wait_for(talk(address), 20)
        finally:
            await server.stop()

    asyncio.run(run())


def test_metrics_are_served() -> None:
    async def talk(address: str) -> None:
        answer = await ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert b"aktis_test_things_total 3.0" in body
        assert f"Content-Length: {len(body)}".encode() in head
        head = await ask(address, b"HEAD /metrics?x=1 HTTP/1.1\r\n\r\n")
        assert head.endswith(b"\r\n\r\n")

    serve(talk)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /healthz", b"200 OK"),
        (b"GET /", b"404 Not Found"),
        (b"POST /metrics", b"405 Method Not Allowed"),
    ],
)
def test_other_requests(request_line: bytes, status: bytes) -> None:
    async def talk(address: str) -> None:
        assert (await ask(address, request_line + b" HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 " + status)

    serve(talk)


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 100, b"GET /metrics", b"x" * 100_000])
def test_garbage_is_dropped_and_the_next_scrape_works(garbage: bytes) -> None:
    async def talk(address: str) -> None:
        with suppress(ConnectionError):  # closed while we are still sending
            assert await ask(address, garbage) == b""
        assert b"200 OK" in await ask(address, b"GET /metrics HTTP/1.1\r\n\r\n")

    serve(talk)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = MetricsServer(CollectorRegistry())
        with pytest.raises(StartError, match=f"{address}: Address already in use"):
            asyncio.run(server.start(address, "gcs.metrics_address"))
