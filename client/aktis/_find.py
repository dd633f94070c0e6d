"""Find a running cluster: from an address, the environment, or the record that ``aktis start`` left."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aktis._common.paths import SessionPaths, current_cluster_file, read_token
from aktis._common.sessions import current_cluster

ADDRESS_VARIABLE: Final = "AKTIS_ADDRESS"
TOKEN_FILE_VARIABLE: Final = "AKTIS_SECURITY_TOKEN_FILE"
_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True)
class FoundCluster:
    """How to talk to a running cluster through its raylet on this host."""

    raylet_address: str
    """The raylet's wire address, ``unix:/path``."""
    gcs_address: str
    """The GCS's gRPC address."""
    session_dir: Path
    """The cluster's session directory on this host."""
    token: str
    """The cluster's secret. Never log it."""


def find_cluster(address: str | None = None) -> FoundCluster | None:
    """Resolve an address as ``init`` takes it.

    Args:
        address: None: what AKTIS_ADDRESS says, else the user's current cluster, else nothing. "auto": the
            same, but there must be one. "unix:/path": a raylet's socket. "host:port": a GCS, whose raylet on
            this host is taken; its token comes from the file that AKTIS_SECURITY_TOKEN_FILE names, else from
            the current cluster.

    Returns:
        The cluster, or None only for address None when there is none.

    Raises:
        ConnectionError: nothing listens there; says where, and what to do.
        ValueError: the address has another form.
    """
    given = address if address not in (None, "auto") else os.environ.get(ADDRESS_VARIABLE) or None
    if given is None or given == "auto":
        return _current(required=address == "auto" or given == "auto")
    if given.startswith("unix:/"):
        return _by_socket(Path(given.removeprefix("unix:")))
    host, separator, port = given.rpartition(":")
    if not separator or not host or not port.isdigit():
        raise ValueError(
            f'address must be "local", "auto", "unix:/path/raylet.sock" or "host:port", got {given!r}'
        )
    return _by_gcs(given)


def _current(*, required: bool) -> FoundCluster | None:
    cluster = current_cluster()
    if cluster is not None:
        return _by_socket(cluster.paths.raylet_socket)
    if required:
        raise ConnectionError(
            f"no cluster of this user is running (no live record in {current_cluster_file()}): "
            "start one with `aktis start --head`, or call init() without an address for an embedded one"
        )
    return None


def _by_socket(raylet_socket: Path) -> FoundCluster:
    _check_listening(raylet_socket)
    session = SessionPaths.in_session(raylet_socket.parent)
    try:
        token = read_token(session.token_file)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"the token of the cluster at {raylet_socket} cannot be read: {error}"
        ) from None
    return FoundCluster(f"unix:{raylet_socket}", f"unix:{session.gcs_socket}", session.root, token)


def _check_listening(path: Path) -> None:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.settimeout(_TIMEOUT_S)
        probe.connect(str(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConnectionError(
            f"nothing listens at unix:{path} ({reason}): the cluster has ended or the path is wrong; "
            "see `aktis status`, or start one with `aktis start --head`"
        ) from None
    finally:
        probe.close()


def _by_gcs(address: str) -> FoundCluster:
    token = _token_for(address)
    sockets = [node.raylet_socket for node in _alive_nodes(address, token) if node.raylet_socket]
    for raylet_address in sockets:
        path = Path(raylet_address.removeprefix("unix:"))
        if path.exists():
            _check_listening(path)
            return FoundCluster(raylet_address, address, path.parent, token)
    raise ConnectionError(
        f"the cluster at {address} has {len(sockets)} live nodes, but none on this host: "
        "run the program on a node of the cluster"
    )


def _token_for(address: str) -> str:
    current = current_cluster()
    if named := os.environ.get(TOKEN_FILE_VARIABLE):
        path = Path(named)
    elif current is not None:
        path = current.paths.token_file
    else:
        raise ConnectionError(
            f"no token for the cluster at {address}: name its token file in {TOKEN_FILE_VARIABLE}"
        )
    try:
        return read_token(path)
    except (OSError, ValueError) as error:
        raise ConnectionError(f"the token for the cluster at {address} cannot be read: {error}") from None


def _alive_nodes(address: str, token: str) -> list[Any]:
    # Only this kind of address needs gRPC, which takes 100 ms to import.
    import grpc

    from aktis._common.rpc import call_metadata
    from aktis._proto import gcs_pb2

    with grpc.insecure_channel(address) as channel:
        list_nodes = channel.unary_unary(
            "/aktis.v1.Gcs/ListNodes",
            request_serializer=gcs_pb2.ListNodesRequest.SerializeToString,
            response_deserializer=gcs_pb2.ListNodesReply.FromString,
        )
        try:
            reply = list_nodes(gcs_pb2.ListNodesRequest(), timeout=_TIMEOUT_S, metadata=call_metadata(token))
        except grpc.RpcError as error:
            raise ConnectionError(_explain(address, error)) from None
    return [node for node in reply.nodes if node.state == gcs_pb2.Node.ALIVE]


def _explain(address: str, error: Any) -> str:
    code = error.code().name
    if code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        hint = "start a cluster with `aktis start --head`, or check host and port"
        return f"nothing listens at {address} ({code}): {hint}"
    return f"the GCS at {address} refuses: {code}: {error.details()}"
