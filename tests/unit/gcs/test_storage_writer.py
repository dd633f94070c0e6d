"""The writer thread groups, keeps order, tries again, and gives up for good."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aktisd.gcs.storage.interface import FencedError, Storage, StorageError, Table, Writes
from aktisd.gcs.storage.memory import MemoryStorage
from aktisd.gcs.storage.writer import StorageWriter

KEY = (Table.KV, b"key")


class GatedStorage(MemoryStorage):
    """Commits wait for `gate`; the first ones fail as told."""

    def __init__(self, failures: list[Exception] | None = None) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[Writes] = []
        self._failures = failures or []

    def commit(self, writes: Writes) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        if self._failures:
            raise self._failures.pop(0)
        self.batches.append(dict(writes))
        super().commit(writes)


async def with_writer(
    storage: Storage, scenario: Callable[[StorageWriter], Awaitable[None]], retry_for_s: float = 10.0
) -> None:
    writer = StorageWriter(storage, retry_for_s=retry_for_s)
    assert await writer.start(lambda opened, term: term) == 1
    try:
        await scenario(writer)
    finally:
        await writer.stop()


def committed(writer: StorageWriter, value: bytes) -> "asyncio.Future[StorageError | None]":
    future: asyncio.Future[StorageError | None] = asyncio.get_running_loop().create_future()
    writer.commit({KEY: value}, future.set_result)
    return future


def read(writer: StorageWriter) -> "asyncio.Future[tuple[bytes | None, StorageError | None]]":
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    writer.read(*KEY, lambda value, error: future.set_result((value, error)))
    return future


def test_what_waits_is_committed_together() -> None:
    storage = GatedStorage()

    async def scenario(writer: StorageWriter) -> None:
        first = committed(writer, b"0")
        await asyncio.to_thread(storage.entered.wait, 10)
        rest = [committed(writer, str(index).encode()) for index in range(1, 100)]
        storage.gate.set()
        assert await asyncio.gather(first, *rest) == [None] * 100
        assert storage.batches == [{KEY: b"0"}, {KEY: b"99"}]
        assert (writer.statistics().commits, writer.statistics().batches) == (2, 100)

    asyncio.run(with_writer(storage, scenario))


def test_read_sees_the_writes_before_it_and_none_after() -> None:
    storage = GatedStorage()

    async def scenario(writer: StorageWriter) -> None:
        committed(writer, b"before")
        seen = read(writer)
        last = committed(writer, b"after")
        storage.gate.set()
        assert await seen == (b"before", None)
        await last
        assert await read(writer) == (b"after", None)

    asyncio.run(with_writer(storage, scenario))


def test_failing_step_is_tried_again() -> None:
    storage = GatedStorage([StorageError("disk full")])
    storage.gate.set()

    async def scenario(writer: StorageWriter) -> None:
        assert await committed(writer, b"1") is None
        assert writer.statistics().retries == 1

    asyncio.run(with_writer(storage, scenario))
    assert storage.batches == [{KEY: b"1"}]


@pytest.mark.parametrize("error", [StorageError("disk full"), FencedError("newer owner"), KeyError("a bug")])
def test_broken_for_good(error: Exception) -> None:
    storage = GatedStorage([error])
    storage.gate.set()

    async def scenario(writer: StorageWriter) -> None:
        failure = await committed(writer, b"1")
        assert isinstance(failure, StorageError)
        assert await committed(writer, b"2") is failure
        assert await read(writer) == (None, failure)

    asyncio.run(with_writer(storage, scenario, retry_for_s=0.0))
    assert storage.batches == []


def test_stop_finishes_what_was_submitted() -> None:
    storage = GatedStorage()

    async def scenario() -> None:
        writer = StorageWriter(storage)
        await writer.start(lambda opened, term: None)
        done = committed(writer, b"1")
        storage.gate.set()
        await writer.stop()
        assert await done is None

    asyncio.run(scenario())


def test_failed_open_is_raised() -> None:
    class Closed(MemoryStorage):
        def open(self) -> int:
            raise StorageError("no such place")

    async def scenario() -> None:
        writer = StorageWriter(Closed())
        with pytest.raises(StorageError, match="no such place"):
            await writer.start(lambda opened, term: None)
        await writer.stop()

    asyncio.run(scenario())


def test_stop_before_start() -> None:
    asyncio.run(StorageWriter(MemoryStorage()).stop())
