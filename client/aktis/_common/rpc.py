"""gRPC servers and channels as every part of Aktis uses them.

A server checks the token and the protocol version of each call before its handler runs. A channel adds both
to each call and refuses a call without a deadline, except on the streams that live as long as a node.
"""

import os
import socket
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from aktis._common.access import REQUIRED_ROLE, TokenAuthority
from aktis._common.errors import StartError
from aktis._common.paths import check_socket_path
from aktis._common.version import VERSION, protocol_text, refusal

TOKEN_KEY: Final = "aktis-token"
PROTOCOL_KEY: Final = "aktis-protocol"
VERSION_KEY: Final = "aktis-version"

MAX_MESSAGE_BYTES: Final = 80 * 2**20
"""Room for the largest value of the key-value store and what surrounds it."""

LONG_LIVED: Final = frozenset({"/aktis.v1.Gcs/NodeStream", "/aktis.v1.Gcs/Subscribe"})
"""Streams that have no deadline because they end with the node or the tool; keepalive finds dead peers."""

_COMMON_OPTIONS: Final[list[tuple[str, Any]]] = [
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
_SERVER_OPTIONS: Final[list[tuple[str, Any]]] = [
    *_COMMON_OPTIONS,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.so_reuseport", 0),  # a second daemon on the same port must fail, not share it
    ("grpc.max_metadata_size", 16 * 1024),
]
_CHANNEL_OPTIONS: Final[list[tuple[str, Any]]] = [
    *_COMMON_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),  # cluster traffic never goes through a proxy of the environment
    ("grpc.use_local_subchannel_pool", 1),
]


if TYPE_CHECKING:  # these types are generic in the stubs only
    _Handler = grpc.RpcMethodHandler[Any, Any]
    _ServerInterceptor = grpc.aio.ServerInterceptor[Any, Any]
else:
    _Handler = grpc.RpcMethodHandler
    _ServerInterceptor = grpc.aio.ServerInterceptor


class DeadlineMissingError(TypeError):
    """An RPC was called without ``timeout=``; every call must end in bounded time."""


# ---- server ----


class _Guard(_ServerInterceptor):
    """Refuses calls with a wrong token, without the method's role, or of another protocol version."""

    def __init__(self, authority: TokenAuthority, on_denied: Callable[[str, str], None] | None) -> None:
        self._authority = authority
        self._on_denied = on_denied

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        handler = await continuation(handler_call_details)
        metadata = dict(handler_call_details.invocation_metadata or ())
        denial = self._denial(handler_call_details.method, metadata)
        if denial is None or handler is None:
            return handler
        if self._on_denied is not None:
            self._on_denied(handler_call_details.method, denial[1])
        return _abort_handler(handler, *denial)

    def _denial(self, method: str, metadata: dict[str, str | bytes]) -> tuple[grpc.StatusCode, str] | None:
        token = metadata.get(TOKEN_KEY)
        roles = self._authority.roles(token if isinstance(token, str) else None)
        if not roles:
            what = "wrong" if token else "no"
            hint = "use the token file of this cluster's session directory"
            return grpc.StatusCode.UNAUTHENTICATED, f"{what} token: {hint}"
        reason = _version_refusal(metadata)
        if reason is not None:
            return grpc.StatusCode.FAILED_PRECONDITION, reason
        required = REQUIRED_ROLE.get(method)
        if required is None:
            return grpc.StatusCode.PERMISSION_DENIED, f"{method} has no role assigned, so nobody may call it"
        if required not in roles:
            return grpc.StatusCode.PERMISSION_DENIED, f"{method} needs the role {required.value!r}"
        return None


def _version_refusal(metadata: dict[str, str | bytes]) -> str | None:
    text = str(metadata.get(PROTOCOL_KEY, ""))
    major, _, minor = text.partition(".")
    if not (major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
        return f"metadata {PROTOCOL_KEY!r} must be MAJOR.MINOR, got {text[:32]!r}"
    return refusal(int(major[:6]), int(minor[:6]), str(metadata.get(VERSION_KEY, ""))[:32])


def _abort_handler(handler: _Handler, code: grpc.StatusCode, details: str) -> _Handler:
    """Make a handler of the same kind as ``handler`` that refuses."""

    async def abort(_request: object, context: Any) -> None:
        await context.abort(code, details)

    async def abort_stream(_request: object, context: Any) -> Any:
        await context.abort(code, details)
        yield  # a generator, as gRPC expects of a streaming method; never reached

    makers: dict[tuple[bool, bool], tuple[Callable[..., _Handler], Callable[..., object]]] = {
        (False, False): (grpc.unary_unary_rpc_method_handler, abort),
        (True, False): (grpc.stream_unary_rpc_method_handler, abort),
        (False, True): (grpc.unary_stream_rpc_method_handler, abort_stream),
        (True, True): (grpc.stream_stream_rpc_method_handler, abort_stream),
    }
    make, behavior = makers[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(behavior, handler.request_deserializer, handler.response_serializer)


def create_server(
    token: str, *, on_denied: Callable[[str, str], None] | None = None, max_concurrent_rpcs: int = 10_000
) -> grpc.aio.Server:
    """Return a server that serves holders of ``token``; add services, then `bind`, then ``start()``.

    Args:
        on_denied: called with method and reason of each refused call, for the log and a counter.
        max_concurrent_rpcs: calls beyond are refused at once with RESOURCE_EXHAUSTED.
    """
    return grpc.aio.server(
        interceptors=[_Guard(TokenAuthority(token), on_denied)],
        options=_SERVER_OPTIONS,
        maximum_concurrent_rpcs=max_concurrent_rpcs,
    )


def bind(server: grpc.aio.Server, addresses: Sequence[str], setting: str) -> tuple[str, ...]:
    """Bind a server that has not started; return the addresses with the real port numbers.

    A socket file that nobody listens on any more is replaced; a live one never is.

    Args:
        setting: the configuration key behind the addresses, for the message.

    Raises:
        StartError: an address is in use or cannot be bound.
    """
    bound = []
    for address in addresses:
        if address.startswith("unix:"):
            claim_socket(Path(address.removeprefix("unix:")), setting)
        try:
            port = server.add_insecure_port(address)
        except RuntimeError:
            raise StartError(_why_not(address, setting)) from None
        bound.append(address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}")
    return tuple(bound)


def claim_socket(path: Path, setting: str) -> None:
    """Make sure that ``path`` can be bound: remove a socket file that nobody listens on.

    Raises:
        StartError: somebody listens there, or the path is too long, not a socket or not writable.
    """
    try:
        check_socket_path(path)
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise StartError(f"{setting}: cannot use {path}: it is there and not a socket: remove it")
    except ValueError as error:
        raise StartError(f"{setting}: {error}") from None
    except FileNotFoundError:
        return
    except OSError as error:
        raise StartError(f"{setting}: cannot use {path}: {error.strerror}") from None
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(1.0)
        probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return
    except OSError as error:
        raise StartError(f"{setting}: cannot use {path}: {os.strerror(error.errno or 0)}") from None
    finally:
        probe.close()
    raise StartError(f"{setting}: {path} is in use by a running process: stop it or choose another address")


def _why_not(address: str, setting: str) -> str:
    """gRPC does not say why a bind failed; find out by binding once more."""
    try:
        if address.startswith("unix:"):
            directory = Path(address.removeprefix("unix:")).parent
            reason = "directory is not writable" if directory.is_dir() else "directory does not exist"
        else:
            host, _, port = address.rpartition(":")
            socket.create_server((host.strip("[]"), int(port)), reuse_port=False).close()
            reason = "gRPC refused it"
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return f"{setting}: cannot listen on {address}: {reason}: choose another address or stop what uses it"


# ---- client ----


def call_metadata(token: str) -> tuple[tuple[str, str], ...]:
    """Return what every call carries; `Channel` adds it itself."""
    return (TOKEN_KEY, token), (PROTOCOL_KEY, protocol_text()), (VERSION_KEY, VERSION)


class Channel(grpc.aio.Channel):
    """A channel whose calls carry token and version and must have a deadline.

    It wraps the multi-callables instead of installing interceptors, which would add a task per call and a
    queue per stream.
    """

    def __init__(self, inner: grpc.aio.Channel, token: str) -> None:
        self._inner = inner
        self._metadata = call_metadata(token)

    def _wrap(self, method: str, call: Callable[..., Any]) -> Any:
        long_lived = method in LONG_LIVED
        common = self._metadata

        def invoke(*args: Any, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
            if timeout is None and not long_lived:
                raise DeadlineMissingError(
                    f"{method} was called without timeout=; every RPC needs a deadline"
                )
            sent = grpc.aio.Metadata(*common, *(metadata or ()))
            return call(*args, timeout=timeout, metadata=sent, **more)

        return invoke

    def unary_unary(self, method: str, *args: Any, **more: Any) -> Any:
        """Return the callable of a method, see grpc.aio.Channel."""
        return self._wrap(method, self._inner.unary_unary(method, *args, **more))

    def unary_stream(self, method: str, *args: Any, **more: Any) -> Any:
        """Return the callable of a method, see grpc.aio.Channel."""
        return self._wrap(method, self._inner.unary_stream(method, *args, **more))

    def stream_unary(self, method: str, *args: Any, **more: Any) -> Any:
        """Return the callable of a method, see grpc.aio.Channel."""
        return self._wrap(method, self._inner.stream_unary(method, *args, **more))

    def stream_stream(self, method: str, *args: Any, **more: Any) -> Any:
        """Return the callable of a method, see grpc.aio.Channel."""
        return self._wrap(method, self._inner.stream_stream(method, *args, **more))

    async def __aenter__(self) -> "Channel":
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        await self._inner.__aexit__(*exc_info)

    async def close(self, grace: float | None = None) -> None:
        """Close the channel; calls in flight get ``grace`` seconds."""
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the connection, see grpc.aio.Channel."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the connection's state differs."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the connection is up; bound it with asyncio.timeout."""
        await self._inner.channel_ready()


def connect(address: str, token: str) -> Channel:
    """Return a channel to ``unix:/path`` or ``host:port``; it connects with the first call."""
    return Channel(grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS), token)
