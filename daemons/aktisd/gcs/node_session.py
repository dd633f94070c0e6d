"""One raylet's stream: reads what comes, writes what is due. The only I/O between a node and the gateway."""

import asyncio
from typing import Any, Protocol

import grpc
import grpc.aio
from aktis._common import ids
from aktis._common.logging import Logger
from aktis._proto import gcs_pb2
from google.protobuf.message import DecodeError

from aktisd.gcs.errors import RequestError, invalid
from aktisd.gcs.gateway import Gateway
from aktisd.gcs.nodes import RefusedError
from aktisd.gcs.sending import SendQueue

NodeDown = gcs_pb2.NodeDown
NodeRefused = gcs_pb2.NodeRefused
NodeUp = gcs_pb2.NodeUp

REGISTER_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 30.0
"""A peer whose flow control stands still for that long does not read; its stream is given up."""
CLOSE_TIMEOUT_S = 5.0
STREAM_ERRORS = (grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError)
"""What gRPC raises when the peer or the connection is gone."""


class ByteStream(Protocol):
    """The part of gRPC's servicer context that is used; messages are bytes, so that decoding is ours."""

    async def read(self) -> Any:
        """Return the next message, or gRPC's EOF."""

    async def write(self, message: bytes) -> None:
        """Send a message; waits while the peer does not read."""


class NodeSession:
    """From the first message to the end of the stream. Belongs to the event loop."""

    def __init__(self, gateway: Gateway, stream: ByteStream, log: Logger) -> None:
        self._gateway = gateway
        self._stream = stream
        self._log = log
        self._queue = SendQueue(gateway.cluster.limits)
        self._wake = asyncio.Event()
        self._refusal: NodeRefused | None = None
        self._node_id = b""

    async def run(self) -> None:
        """Serve the stream until either side ends it."""
        try:
            async with asyncio.timeout(REGISTER_TIMEOUT_S):
                first = await self._read()
            if first is None:
                return
            self._register(first)
            await self._serve()
        except TimeoutError:
            await self._refuse(NodeRefused.INVALID, f"no NodeRegister within {REGISTER_TIMEOUT_S:g} s")
        except RefusedError as error:
            await self._refuse(error.refusal.code, error.refusal.reason)
        except RequestError as error:
            self._gateway.bad_messages += 1
            await self._refuse(NodeRefused.INVALID, error.message)
        finally:
            if self._node_id:
                self._gateway.ended(self, self._node_id)

    # ---- called by the gateway ----

    def send(self, message: NodeDown) -> None:
        """Queue a message; a stream that is not read fast enough is closed."""
        self._queue.add(message)
        if self._queue.overflowed and self._refusal is None:
            reason = "the node does not read its stream fast enough: it reconnects and reconciles"
            self._refusal = NodeRefused(code=NodeRefused.OVERLOADED, reason=reason)
        self._wake.set()

    def close(self, refusal: NodeRefused) -> None:
        """Send what is queued, then the reason, then end."""
        self._refusal = self._refusal or refusal
        self._wake.set()

    def wake(self) -> None:
        """Something was published."""
        if self._queue.subscriptions:
            self._wake.set()

    # ---- steps ----

    def _register(self, first: NodeUp) -> None:
        if not first.HasField("register"):
            raise invalid(f"the first message must be NodeRegister, got {first.WhichOneof('body')}")
        for subscription in first.register.subscriptions:
            self._subscribe(subscription)
        self._gateway.register(self, first.register)
        self._node_id = first.register.node.node_id

    async def _serve(self) -> None:
        """Read and write at once; whichever ends first ends the other."""
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write_loop())
            reader = group.create_task(self._read_loop(writer))
            writer.add_done_callback(lambda _: reader.cancel())

    async def _read_loop(self, writer: asyncio.Task[None]) -> None:
        try:
            while (message := await self._read()) is not None:
                for item in message.batch.items if message.HasField("batch") else (message,):
                    self._handle(item)
        except RequestError as error:
            self._gateway.bad_messages += 1
            self.close(NodeRefused(code=NodeRefused.INVALID, reason=error.message))
            return  # the writer ends after it has said so
        except STREAM_ERRORS as error:
            self._log.info("node_stream_broken", node=ids.short(self._node_id), error=str(error))
        writer.cancel()

    def _handle(self, message: NodeUp) -> None:
        if message.HasField("subscription"):
            self._subscribe(message.subscription)
            self._wake.set()
        else:
            self._gateway.up(self, self._node_id, message)

    def _subscribe(self, request: gcs_pb2.ChannelSubscription) -> None:
        if request.cancel:
            self._queue.subscriptions.pop(request.channel, None)
        else:
            subscription = self._gateway.cluster.pubsub.subscribe(request.channel, request.after_sequence)
            self._queue.subscriptions[request.channel] = subscription

    async def _write_loop(self) -> None:
        try:
            while self._refusal is None:
                await self._wake.wait()  # as long as the stream lives; the reader's end cancels it
                self._wake.clear()
                while not self._queue.overflowed and (message := self._queue.next_message()) is not None:
                    async with asyncio.timeout(WRITE_TIMEOUT_S):
                        await self._stream.write(message.SerializeToString())
        except (TimeoutError, *STREAM_ERRORS) as error:
            self._log.info(
                "node_stream_broken", node=ids.short(self._node_id), error=str(error) or "not read"
            )
            return
        await self._refuse(self._refusal.code, self._refusal.reason)

    async def _read(self) -> NodeUp | None:
        raw = await self._stream.read()
        if not isinstance(raw, bytes):  # gRPC's EOF
            return None
        try:
            return NodeUp.FromString(raw)
        except DecodeError:
            raise invalid("the message is not a valid NodeUp") from None

    async def _refuse(self, code: "NodeRefused.Code.ValueType", reason: str) -> None:
        """Say why and end. A peer that does not even read this is not waited for."""
        node = ids.short(self._node_id) if self._node_id else "unregistered"
        self._log.warning("node_refused", node=node, code=NodeRefused.Code.Name(code), reason=reason)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                refusal = NodeRefused(code=code, reason=reason)
                await self._stream.write(NodeDown(refused=refusal).SerializeToString())
        except (TimeoutError, *STREAM_ERRORS):
            self._log.info("node_refusal_undelivered", node=node)
