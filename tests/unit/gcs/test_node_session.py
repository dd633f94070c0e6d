"""A node's stream without gRPC: who ends it, why, and what the gateway makes of it."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import grpc.aio
import pytest
from aktis._common.logging import get_logger
from aktis._proto import gcs_pb2
from aktisd.gcs import node_session
from aktisd.gcs.clock import SystemClock
from aktisd.gcs.cluster import Cluster, Image
from aktisd.gcs.effects import Effects
from aktisd.gcs.gateway import Gateway
from aktisd.gcs.limits import Limits
from aktisd.gcs.node_session import NodeSession
from aktisd.gcs.storage.memory import MemoryStorage
from aktisd.gcs.storage.writer import StorageWriter

from tests.support.gcs_parts import group_spec, node_id, process, registration

DEADLINE_S = 10.0
NodeRefused = gcs_pb2.NodeRefused


class Pipe:
    """The two directions of a stream, in memory. `reading` unset: the peer takes nothing."""

    def __init__(self) -> None:
        self.up: asyncio.Queue[Any] = asyncio.Queue()
        self.down: asyncio.Queue[gcs_pb2.NodeDown] = asyncio.Queue()
        self.reading = asyncio.Event()
        self.reading.set()
        self.broken: Exception | None = None
        self.taken = False

    async def read(self) -> Any:
        if self.taken:
            self.up.task_done()  # asking for the next one, the reader has handled the one before
        self.taken = True
        return await self.up.get()

    async def write(self, message: bytes) -> None:
        await self.reading.wait()
        if self.broken is not None:
            raise self.broken
        self.down.put_nowait(gcs_pb2.NodeDown.FromString(message))

    def send(self, **body: Any) -> None:
        self.up.put_nowait(gcs_pb2.NodeUp(**body).SerializeToString())

    async def receive(self) -> gcs_pb2.NodeDown:
        async with asyncio.timeout(DEADLINE_S):
            return await self.down.get()


@asynccontextmanager
async def gateway(limits: Limits | None = None) -> AsyncIterator[Gateway]:
    writer = StorageWriter(MemoryStorage())
    image = await writer.start(Image.load)
    clock = SystemClock()
    cluster = Cluster(image, clock, limits or Limits(), random.Random(1), Effects())
    made = Gateway(cluster, writer, clock, get_logger())
    try:
        yield made
    finally:
        made.close()
        await writer.stop()


@asynccontextmanager
async def session(made: Gateway) -> AsyncIterator[tuple[Pipe, "asyncio.Task[None]"]]:
    """A stream that is served in the background; its end is awaited."""
    pipe = Pipe()
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        task = group.create_task(NodeSession(made, pipe, get_logger()).run())
        yield pipe, task
        pipe.up.put_nowait(None)  # as gRPC puts an object of its own at the end


async def registered(pipe: Pipe, number: int = 1) -> None:
    pipe.send(register=registration(number))
    assert (await pipe.receive()).HasField("registered")


def test_registers_relays_and_leaves() -> None:
    async def scenario() -> None:
        async with gateway() as made:
            async with session(made) as (pipe, _):
                await registered(pipe)
                assert made.streams() == 1
                request = gcs_pb2.KvPutRequest(namespace="n", key=b"k", value=b"v").SerializeToString()
                pipe.send(relay=gcs_pb2.RelayRequest(request_id=7, method="KvPut", payload=request))
                answer = (await pipe.receive()).relay
                assert (answer.request_id, answer.status) == (7, 0)
                assert gcs_pb2.KvPutReply.FromString(answer.payload).added
            assert made.streams() == 0
            assert not made.cluster.nodes.all_connected()

    asyncio.run(scenario())


class Recorder:
    """A session that notes what it is told to send."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.has_orders = asyncio.Event()

    def send(self, message: gcs_pb2.NodeDown) -> None:
        self.kinds.append(str(message.WhichOneof("body")))
        if self.kinds[-1] == "bundle_orders":
            self.has_orders.set()

    def close(self, refusal: NodeRefused) -> None:
        """It goes on."""

    def wake(self) -> None:
        """Nothing is published to it."""


def test_nothing_is_sent_before_the_registration_is_stored_and_answered() -> None:
    async def scenario() -> None:
        async with gateway() as made, asyncio.timeout(DEADLINE_S):
            recorder = Recorder()
            made.register(recorder, registration(1))
            register = gcs_pb2.RegisterJobRequest(driver=process(1))
            create = gcs_pb2.CreatePlacementGroupsRequest(specs=[group_spec(1, "PACK", {"CPU": 1})])
            for name, request in (("RegisterJob", register), ("CreatePlacementGroups", create)):
                made.call(name, request.SerializeToString(), lambda answer: None)
            await recorder.has_orders.wait()
            assert recorder.kinds == ["registered", "bundle_orders"]

    asyncio.run(scenario())


def test_large_value_is_read_from_storage_behind_its_write() -> None:
    async def scenario() -> None:
        async with gateway(Limits(kv_cache_bytes=10)) as made, session(made) as (pipe, _):
            await registered(pipe)
            put = gcs_pb2.KvPutRequest(namespace="n", key=b"k", value=bytes(1_000)).SerializeToString()
            get = gcs_pb2.KvGetRequest(namespace="n", key=b"k").SerializeToString()
            relays = [
                gcs_pb2.RelayRequest(request_id=1, method="KvPut", payload=put),
                gcs_pb2.RelayRequest(request_id=2, method="KvGet", payload=get),
            ]
            items = [gcs_pb2.NodeUp(relay=relay) for relay in relays]
            pipe.send(batch=gcs_pb2.NodeUpBatch(items=items))
            found: dict[int, bytes] = {}
            while len(found) < 2:
                message = await pipe.receive()
                for item in message.batch.items if message.HasField("batch") else (message,):
                    found[item.relay.request_id] = item.relay.payload
            assert gcs_pb2.KvGetReply.FromString(found[2]).value == bytes(1_000)

    asyncio.run(scenario())


def test_stream_that_is_not_read_is_closed_and_its_queue_stays_bounded() -> None:
    async def scenario() -> None:
        async with gateway(Limits(session_items=10)) as made, session(made) as (pipe, task):
            await registered(pipe)
            pipe.reading.clear()
            for sequence in range(100):
                pipe.send(heartbeat=gcs_pb2.NodeHeartbeat(sequence=sequence))
            await pipe.up.join()
            pipe.reading.set()
            async with asyncio.timeout(DEADLINE_S):
                while not (message := await pipe.receive()).HasField("refused"):
                    pass
            assert message.refused.code == NodeRefused.OVERLOADED
            await task

    asyncio.run(scenario())


@pytest.mark.parametrize("broken", [grpc.aio.UsageError("done"), None])
def test_stream_whose_writes_fail_or_hang_is_given_up(broken: Exception | None) -> None:
    async def scenario() -> None:
        async with gateway() as made, session(made) as (pipe, task):
            await registered(pipe)
            if broken is None:
                pipe.reading.clear()
            pipe.broken = broken
            pipe.send(heartbeat=gcs_pb2.NodeHeartbeat(sequence=1))
            await task
            assert made.streams() == 0

    with mock.patch.object(node_session, "WRITE_TIMEOUT_S", 0.05):
        asyncio.run(scenario())


def test_peer_that_says_nothing_is_not_waited_for() -> None:
    async def scenario() -> None:
        async with gateway() as made, session(made) as (pipe, task):
            assert "no NodeRegister within" in (await pipe.receive()).refused.reason
            await task

    with mock.patch.object(node_session, "REGISTER_TIMEOUT_S", 0.01):
        asyncio.run(scenario())


def test_malformed_message_ends_a_registered_stream() -> None:
    async def scenario() -> None:
        async with gateway() as made, session(made) as (pipe, task):
            await registered(pipe)
            pipe.send(process_died=gcs_pb2.ProcessDied(worker_id=b"short"))
            refusal = (await pipe.receive()).refused
            assert refusal.code == NodeRefused.INVALID
            assert "worker_id" in refusal.reason
            await task
            assert made.bad_messages == 1

    asyncio.run(scenario())


def test_messages_of_a_replaced_stream_are_ignored() -> None:
    async def scenario() -> None:
        async with gateway() as made, session(made) as (old, old_task):
            await registered(old)
            async with session(made) as (new, _):
                await registered(new)
                assert (await old.receive()).refused.code == NodeRefused.REPLACED
                await old_task
                assert made.streams() == 1
                assert made.cluster.view.get(node_id(1)) is not None

    asyncio.run(scenario())


def test_a_node_that_says_that_it_leaves_is_not_waited_for_in_a_snapshot() -> None:
    async def scenario() -> None:
        answers: asyncio.Queue[Any] = asyncio.Queue()
        async with gateway() as made, session(made) as (pipe, task):
            await registered(pipe)
            made.call("TakeSnapshot", b"", answers.put_nowait)
            assert (await pipe.receive()).HasField("take_snapshot")
            pipe.send(leaving=gcs_pb2.NodeLeaving(reason="test"))
            await task
            assert list((await answers.get()).silent) == [f"node {node_id(1).hex()} (disconnected)"]

    asyncio.run(scenario())


def test_subscription_follows_and_can_be_cancelled() -> None:
    async def scenario() -> None:
        async with gateway() as made, session(made) as (pipe, _):
            await registered(pipe)
            pipe.send(subscription=gcs_pb2.ChannelSubscription(channel="nodes"))
            assert (await pipe.receive()).publication.resynchronize
            async with session(made) as (other, _):
                await registered(other, 2)
                assert (await pipe.receive()).publication.node.node_id == node_id(2)
            pipe.send(subscription=gcs_pb2.ChannelSubscription(channel="nodes", cancel=True))
            async with session(made) as (other, _):
                await registered(other, 3)
            pipe.send(heartbeat=gcs_pb2.NodeHeartbeat(sequence=5))
            assert (await pipe.receive()).heartbeat_ack.sequence == 5

    asyncio.run(scenario())
