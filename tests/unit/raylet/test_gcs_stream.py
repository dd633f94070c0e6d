"""In which order what a raylet tells the GCS goes out."""

import asyncio
from typing import Any, cast

import pytest
from aktis._proto import common_pb2, gcs_pb2
from aktisd.raylet import gcs_stream
from aktisd.raylet.gcs_stream import GcsStream, StreamOwner, StreamState

TIMEOUT_S = 30.0


class SlowStream:
    """Writes one message each time that it is told to."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.begun, self.go_on = asyncio.Event(), asyncio.Semaphore(0)

    async def write(self, message: gcs_pb2.NodeUp) -> None:
        self.begun.set()
        await self.go_on.acquire()
        items = message.batch.items if message.HasField("batch") else (message,)
        self.written.append(" ".join(str(item.WhichOneof("body")) for item in items))


def events(name: str) -> common_pb2.TaskEventBatch:
    return common_pb2.TaskEventBatch(events=[common_pb2.TaskEvent(name=name)])


def test_events_go_before_what_is_queued_after_them_also_while_others_are_written() -> None:
    async def body() -> list[str]:
        sender, stream = GcsStream("unused", "", cast(StreamOwner, None), 1.0), SlowStream()
        sender.add_task_events(events("of one worker"))
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
            writing = group.create_task(cast(Any, sender)._write(stream))
            await stream.begun.wait()
            sender.add_task_events(events("of another"))
            sender.send(gcs_pb2.NodeUp(leaving=gcs_pb2.NodeLeaving()))
            for _ in range(3):
                stream.go_on.release()
            await sender._drained.wait()
            writing.cancel()
        return stream.written

    assert asyncio.run(body()) == ["task_events", "task_events", "leaving"]


def test_more_dropped_events_than_a_field_can_say_do_not_end_the_stream() -> None:
    async def body() -> int:
        sender, stream = GcsStream("unused", "", cast(StreamOwner, None), 1.0), SlowStream()
        for _ in range(3):
            sender.add_task_events(common_pb2.TaskEventBatch(dropped=2**63))
        stream.go_on.release()
        async with asyncio.timeout(TIMEOUT_S):
            await cast(Any, sender)._write_events(stream)
        return cast(int, cast(Any, sender)._events_dropped)

    assert asyncio.run(body()) == 0


def test_what_is_free_goes_with_what_is_sent_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs_stream, "LINGER_S", TIMEOUT_S)

    async def body() -> list[str]:
        sender, stream = GcsStream("unused", "", cast(StreamOwner, None), 1.0), SlowStream()
        sender.state = StreamState.UP
        stream.go_on.release()
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
            writing = group.create_task(cast(Any, sender)._write(stream))
            await sender._drained.wait()  # it waits for something to write
            sender.send_resources(gcs_pb2.ResourceUpdate())
            sender._drained.clear()
            for _ in range(3):
                await asyncio.sleep(0)
            sender.send(gcs_pb2.NodeUp(leaving=gcs_pb2.NodeLeaving()))
            await sender._drained.wait()
            writing.cancel()
        return stream.written

    assert asyncio.run(body()) == ["resources leaving"]


def test_what_is_free_waits_only_a_moment() -> None:
    async def body() -> list[str]:
        sender, stream = GcsStream("unused", "", cast(StreamOwner, None), 1.0), SlowStream()
        sender.state = StreamState.UP
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
            writing = group.create_task(cast(Any, sender)._write(stream))
            await sender._drained.wait()
            sender.send_resources(gcs_pb2.ResourceUpdate())
            await stream.begun.wait()
            writing.cancel()
        return stream.written

    assert asyncio.run(body()) == []
