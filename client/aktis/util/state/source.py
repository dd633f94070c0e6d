"""How the cluster is asked: through this process's session, or by gRPC without being a part of it."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from aktis._find import FoundCluster, find_cluster
from aktis._runtime import current
from aktis.exceptions import AktisError

Reply = TypeVar("Reply", bound=Message)


class Source(Protocol):
    """Calls a unary method of the GCS."""

    def __call__(self, method: str, request: Message, reply: type[Reply], timeout_s: float) -> Reply:
        """Return the answer.

        Raises:
            AktisError: the GCS refused, or did not answer in time.
        """
        ...


def source_of(address: str | None) -> Source:
    """Return how to ask the cluster at an address.

    Args:
        address: None or "auto": the cluster of this process's session, else as "auto" of `find_cluster`. Any
            other: as `find_cluster` takes it; no job is registered for that.

    Raises:
        ConnectionError: nothing listens there.
        ValueError: the address has another form.
    """
    if address in (None, "auto") and current.session is not None:
        return current.session.control.gcs
    cluster = find_cluster(address or "auto")
    assert cluster is not None, '"auto" finds one or raises'
    return direct(cluster)


def direct(cluster: FoundCluster) -> Source:
    """Return how to ask a cluster by gRPC; each call has a connection of its own."""

    def call(method: str, request: Message, reply: type[Reply], timeout_s: float) -> Reply:
        import grpc

        from aktis._common.rpc import MAX_MESSAGE_BYTES, call_metadata

        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(cluster.gcs_address, options=options) as channel:
            serializer: Callable[[Message], bytes] = type(request).SerializeToString
            ask = channel.unary_unary(f"/aktis.v1.Gcs/{method}", serializer, reply.FromString)
            try:
                answer: Reply = ask(request, timeout=timeout_s, metadata=call_metadata(cluster.token))
                return answer
            except grpc.RpcError as error:
                code, details = error.code().name, error.details()
                raise AktisError(
                    f"the GCS at {cluster.gcs_address} could not serve {method}: {code}: {details}"
                ) from None

    return call
