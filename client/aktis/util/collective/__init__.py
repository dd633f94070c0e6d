"""Collective operations between actors, tasks and drivers: arrays that all members reduce, gather or send.

Members on one node work in shared memory, members on several over TCP. Importing this is cheap.
"""

from aktis.util.collective.collective import (
    allgather,
    allreduce,
    barrier,
    broadcast,
    create_collective_group,
    destroy_collective_group,
    get_collective_group_size,
    get_group_handle,
    get_rank,
    gloo_available,
    init_collective_group,
    is_backend_available,
    is_group_initialized,
    nccl_available,
    recv,
    reduce,
    reducescatter,
    send,
)
from aktis.util.collective.errors import CollectiveError, CollectiveTimeoutError
from aktis.util.collective.types import Backend, ReduceOp

__all__ = [
    "Backend",
    "CollectiveError",
    "CollectiveTimeoutError",
    "ReduceOp",
    "allgather",
    "allreduce",
    "barrier",
    "broadcast",
    "create_collective_group",
    "destroy_collective_group",
    "get_collective_group_size",
    "get_group_handle",
    "get_rank",
    "gloo_available",
    "init_collective_group",
    "is_backend_available",
    "is_group_initialized",
    "nccl_available",
    "recv",
    "reduce",
    "reducescatter",
    "send",
]
