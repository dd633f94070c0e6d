"""When the GCS is told what is free."""

import asyncio
from collections.abc import Awaitable, Callable

from aktis._proto import common_pb2, gcs_pb2
from aktisd.raylet.reporting import ResourceReporter


class Node:
    """What is free, and what was told of it."""

    def __init__(self, delay_s: float) -> None:
        self.free = 1
        self.told: list[tuple[int, int]] = []
        self.news = asyncio.Event()
        self.reporter = ResourceReporter(self._view, self._send, delay_s)

    def _view(self) -> gcs_pb2.ResourceUpdate:
        return gcs_pb2.ResourceUpdate(available=common_pb2.Resources(amounts={"CPU": self.free}))

    def _send(self, update: gcs_pb2.ResourceUpdate) -> None:
        self.told.append((update.version, update.available.amounts["CPU"]))
        self.news.set()


def run(test: Callable[[Node], Awaitable[None]], delay_s: float = 60.0) -> None:
    async def with_node() -> None:
        node = Node(delay_s)
        async with asyncio.timeout(10):
            await test(node)
        node.reporter.stop()

    asyncio.run(with_node())


def test_changes_are_collected_and_said_once() -> None:
    async def test(node: Node) -> None:
        for free in (3, 2, 5):
            node.free = free
            node.reporter.performed()
        assert node.told == []
        await node.news.wait()
        assert node.told == [(1, 5)]
        node.news.clear()
        node.reporter.performed()  # nothing has changed: nothing is said
        node.free = 4
        await node.news.wait()
        assert node.told == [(1, 5), (2, 4)]

    run(test, delay_s=0.01)


def test_what_the_gcs_waits_for_is_said_when_all_is_done_even_if_nothing_is_new() -> None:
    async def test(node: Node) -> None:
        for version in (1, 2):
            node.reporter.wanted()
            node.reporter.wanted()
            assert len(node.told) == version - 1
            node.reporter.performed()
            assert node.told[-1] == (version, 1)
        node.reporter.performed()
        assert len(node.told) == 2

    run(test)


def test_a_gcs_that_knows_nothing_is_told_at_once() -> None:
    """A view from before the registration may be queued: it must not take back what that has said."""

    async def test(node: Node) -> None:
        node.reporter.wanted()
        node.reporter.performed()
        node.reporter.registered()
        assert node.told == [(1, 1), (2, 1)]

    run(test)
