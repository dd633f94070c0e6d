"""Service Gcs on gRPC: every unary method of the table, the nodes' streams, subscriptions.

Requests arrive as bytes and are decoded by ourselves, so that a malformed one gets INVALID_ARGUMENT with the
message's name rather than an internal error.
"""

import asyncio
from typing import Any

import grpc
import grpc.aio
from aktis._common.logging import Logger
from aktis._proto import gcs_pb2
from google.protobuf.message import DecodeError, Message

from aktisd.gcs.errors import RequestError
from aktisd.gcs.gateway import Gateway
from aktisd.gcs.methods import METHODS
from aktisd.gcs.node_session import WRITE_TIMEOUT_S, NodeSession

SERVICE = "aktis.v1.Gcs"
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Servicer:
    """Belongs to the event loop."""

    def __init__(self, gateway: Gateway, log: Logger) -> None:
        self._gateway = gateway
        self._log = log

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offer the service on a server that has not started."""
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(name)) for name in METHODS
        }
        handlers["NodeStream"] = grpc.stream_stream_rpc_method_handler(self._node_stream)
        handlers["Subscribe"] = grpc.unary_stream_rpc_method_handler(self._subscribe)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    def _unary(self, name: str) -> Any:
        async def serve(payload: bytes, context: Any) -> bytes:
            answered: asyncio.Future[Message | RequestError] = asyncio.get_running_loop().create_future()

            def answer(reply: Message | RequestError) -> None:
                if not answered.done():  # the caller may have given up
                    answered.set_result(reply)

            self._gateway.call(name, payload, answer)
            reply = await answered
            if isinstance(reply, RequestError):
                await context.abort(STATUS_CODES[reply.status], reply.message)
                raise AssertionError("abort returned")
            return reply.SerializeToString()

        return serve

    async def _node_stream(self, _requests: object, context: Any) -> None:
        await NodeSession(self._gateway, context, self._log).run()

    async def _subscribe(self, payload: bytes, context: Any) -> None:
        try:
            request = gcs_pb2.SubscribeRequest.FromString(payload)
            subscription = self._gateway.cluster.pubsub.subscribe(
                request.channel, request.after_sequence, request.key.encode()
            )
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a valid SubscribeRequest")
            return
        except RequestError as error:
            await context.abort(STATUS_CODES[error.status], error.message)
            return
        published = asyncio.Event()
        self._gateway.subscribe(published.set)
        try:
            while True:
                for publication in subscription.take(self._gateway.cluster.limits.batch_items):
                    async with asyncio.timeout(WRITE_TIMEOUT_S):
                        await context.write(publication.SerializeToString())
                if not subscription.behind:
                    published.clear()
                    await published.wait()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the subscriber does not read")
        finally:
            self._gateway.unsubscribe(published.set)
