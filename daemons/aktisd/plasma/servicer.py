"""Service Plasma on gRPC: a control service; object bytes never pass here.

The store's own thread answers, and is waited for off the event loop.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from aktis._common.ids import WORKER_ID_BYTES, check_length
from aktis._core import PlasmaStore
from aktis._proto import plasma_pb2

SERVICE: Final = "aktis.v1.Plasma"
DEFAULT_LISTED_OBJECTS: Final = 1_000
MAX_LISTED_OBJECTS: Final = 100_000
MAX_OWNERS_PER_CALL: Final = 10_000


class PlasmaServicer:
    """Belongs to the event loop."""

    def __init__(self, store: PlasmaStore) -> None:
        self._store = store

    def add_to(self, server: grpc.aio.Server) -> None:
        """Offer the service on a server that has not started."""
        handlers: dict[str, Any] = {
            "GetStatistics": _handler(self._get_statistics, plasma_pb2.PlasmaStatisticsRequest),
            "ListObjects": _handler(self._list_objects, plasma_pb2.ListObjectsRequest),
            "FreeOwners": _handler(self._free_owners, plasma_pb2.FreeOwnersRequest),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def _get_statistics(self, _request: object, _context: object) -> plasma_pb2.PlasmaStatistics:
        now = await asyncio.to_thread(self._store.statistics)
        return plasma_pb2.PlasmaStatistics(
            capacity_bytes=now["capacity_bytes"],
            used_bytes=now["used_bytes"],
            warm_bytes=now["warm_free_bytes"],
            pinned_bytes=now["pinned_bytes"],
            objects=now["sealed_objects"],
            clients=now["clients"],
            created_total=now["seals_total"],
            evicted_total=now["evictions_total"],
            deleted_total=now["deletes_total"],
            queued_creates=now["waiting_creates"],
            protocol_errors_total=now["protocol_errors_total"],
            epoch=now["epoch"],
        )

    async def _list_objects(
        self, request: plasma_pb2.ListObjectsRequest, _context: object
    ) -> plasma_pb2.ListObjectsReply:
        limit = min(request.limit or DEFAULT_LISTED_OBJECTS, MAX_LISTED_OBJECTS)
        objects = await asyncio.to_thread(self._store.list_objects, limit)
        return plasma_pb2.ListObjectsReply(
            objects=[
                plasma_pb2.PlasmaObject(
                    object_id=entry["object_id"],
                    size_bytes=entry["size_bytes"],
                    state=entry["state"],
                    owner_worker_id=entry["owner"],
                    pins=entry["pins"],
                    primary=entry["primary"],
                    create_time_unix_ms=entry["created_unix_ns"] // 1_000_000,
                )
                for entry in objects
            ]
        )

    async def _free_owners(
        self, request: plasma_pb2.FreeOwnersRequest, context: Any
    ) -> plasma_pb2.FreeOwnersReply:
        try:
            check_owners(request.worker_ids)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        freed = await asyncio.to_thread(self._free_all, list(request.worker_ids))
        return plasma_pb2.FreeOwnersReply(freed_objects=freed)

    def _free_all(self, owners: Iterable[bytes]) -> int:
        return sum(self._store.free_owner(owner) for owner in owners)


def check_owners(worker_ids: Sequence[bytes]) -> None:
    """Raise ValueError unless these are ids of workers, and not too many for one call."""
    if len(worker_ids) > MAX_OWNERS_PER_CALL:
        raise ValueError(f"at most {MAX_OWNERS_PER_CALL} workers in one call, got {len(worker_ids)}")
    for worker_id in worker_ids:
        check_length(worker_id, WORKER_ID_BYTES, "worker_id")


def _handler(behavior: Callable[..., Any], request_type: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        behavior,
        request_deserializer=request_type.FromString,
        response_serializer=lambda reply: reply.SerializeToString(),
    )
