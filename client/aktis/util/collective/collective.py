"""The functions that members of a group call, and how a group is made."""

from collections.abc import Sequence
from typing import Any, Final

import aktis
from aktis._runtime import current
from aktis.util.collective import arrays, groups
from aktis.util.collective.groups import Group
from aktis.util.collective.types import Backend, ReduceOp

DEFAULT_GROUP: Final = "default"
DEFAULT_TIMEOUT_MS: Final = 30_000


def is_backend_available(backend: str) -> bool:
    """Whether groups can have this backend."""
    try:
        Backend.parse(backend)
    except ValueError:
        return False
    return True


def nccl_available() -> bool:
    """False: arrays on GPUs are not moved here."""
    return is_backend_available("nccl")


def gloo_available() -> bool:
    """True: "gloo" is taken for "auto"."""
    return is_backend_available("gloo")


# ---- groups ----


def init_collective_group(
    world_size: int,
    rank: int,
    backend: str = Backend.AUTO,
    group_name: str = DEFAULT_GROUP,
    gloo_timeout: int = DEFAULT_TIMEOUT_MS,
) -> None:
    """Make this process a member of a group; returns when all members have called it.

    Args:
        world_size: How many members there are.
        rank: Which of them this is, 0 to ``world_size - 1``.
        backend: "auto" (or "gloo"): shared memory when all are on one node, else TCP; "shm"; "tcp".
        group_name: Distinguishes groups of one namespace.
        gloo_timeout: How long this and every operation waits for the other members, in milliseconds.

    Raises:
        TypeError, ValueError: an argument is not valid; "nccl" is none of the backends.
        RuntimeError: this process is in a group of that name already.
        CollectiveTimeoutError: not all members came in time; the message names the missing ones.
        CollectiveError: the members do not agree about the group.
    """
    found = _check_group(world_size, backend, group_name, gloo_timeout)
    groups.check_integer("rank", rank)
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be 0 to {world_size - 1}, got {rank}")
    groups.join(group_name, world_size, rank, found, gloo_timeout / 1000)


def create_collective_group(
    actors: Sequence[Any],
    world_size: int,
    ranks: Sequence[int],
    backend: str = Backend.AUTO,
    group_name: str = DEFAULT_GROUP,
    gloo_timeout: int = DEFAULT_TIMEOUT_MS,
) -> None:
    """Make actors the members of a group; returns when they are.

    The actors are told by a call, which waits for its turn like every call.

    Args:
        actors: Handles, one per member.
        world_size: How many members there are.
        ranks: The rank of each actor, in the order of ``actors``.
        backend, group_name, gloo_timeout: As for `init_collective_group`.

    Raises:
        TypeError, ValueError: an argument is not valid.
        CollectiveTimeoutError, CollectiveError, ActorDiedError: the group did not come to be.
    """
    _check_group(world_size, backend, group_name, gloo_timeout)
    if len(actors) != world_size or sorted(ranks) != list(range(world_size)):
        raise ValueError(
            f"a group of {world_size} needs {world_size} actors and their ranks 0 to {world_size - 1} in "
            f"some order, got {len(actors)} actors and the ranks {list(ranks)}"
        )
    calls = [
        actor.__aktis_call__.remote(_join, world_size, rank, str(backend), group_name, gloo_timeout)
        for actor, rank in zip(actors, ranks, strict=True)
    ]
    aktis.get(calls)


def _join(
    _actor: object, world_size: int, rank: int, backend: str, group_name: str, gloo_timeout: int
) -> None:
    init_collective_group(world_size, rank, backend, group_name, gloo_timeout)


def _check_group(world_size: int, backend: str, group_name: str, gloo_timeout: int) -> Backend:
    groups.check_integer("world_size", world_size)
    groups.check_integer("gloo_timeout", gloo_timeout)
    if world_size < 1:
        raise ValueError(f"world_size must be at least 1, got {world_size}")
    if gloo_timeout < 1:
        raise ValueError(f"gloo_timeout must be at least 1 millisecond, got {gloo_timeout}")
    if not isinstance(group_name, str):
        raise TypeError(f"group_name must be a str, got {type(group_name).__name__} {group_name!r}")
    if not group_name:
        raise ValueError("group_name must not be empty")
    return Backend.parse(backend)


def destroy_collective_group(group_name: str = DEFAULT_GROUP) -> None:
    """Leave a group. Does nothing when this process is not in it.

    Operations of members that stay fail from then on.
    """
    groups.remove(group_name)


def is_group_initialized(group_name: str = DEFAULT_GROUP) -> bool:
    """Whether this process is a member of that group."""
    return groups.find(group_name) is not None


def get_rank(group_name: str = DEFAULT_GROUP) -> int:
    """Return this process's rank in a group, -1 when it is not in it."""
    group = groups.find(group_name)
    return -1 if group is None else group.rank


def get_collective_group_size(group_name: str = DEFAULT_GROUP) -> int:
    """Return how many members a group has, -1 when this process is not in it."""
    group = groups.find(group_name)
    return -1 if group is None else group.world_size


def get_group_handle(group_name: str = DEFAULT_GROUP) -> Group:
    """Return this process's membership in a group.

    Raises:
        RuntimeError: it is not in it.
    """
    group = groups.find(group_name)
    if group is None:
        what = "this process" if current.session is not None else "this process, which has no session,"
        raise RuntimeError(
            f"{what} is not a member of collective group {group_name!r}: call init_collective_group() here, "
            "or create_collective_group() with this actor, first"
        )
    return group


# ---- operations ----


def allreduce(tensor: Any, group_name: str = DEFAULT_GROUP, op: ReduceOp = ReduceOp.SUM) -> None:
    """Reduce the arrays of all members, in place: all have the result, bit for bit the same.

    Args:
        tensor: A NumPy array or a CPU tensor of PyTorch, of the same size and type in all members.
        group_name: The group.
        op: ReduceOp.SUM, PRODUCT, MIN or MAX.

    Raises:
        TypeError, ValueError: an argument is not valid, or the members call different things.
        RuntimeError: this process is not in the group.
        CollectiveTimeoutError, CollectiveError: the group cannot go on.
    """
    group = get_group_handle(group_name)
    array, code = arrays.to_change(tensor), _number(op)
    group.run(group.collective, lambda t, timeout_s: t.all_reduce(array.data, array.code, code, timeout_s))
    array.write_back()


def reduce(
    tensor: Any, dst_rank: int = 0, group_name: str = DEFAULT_GROUP, op: ReduceOp = ReduceOp.SUM
) -> None:
    """Reduce the arrays of all members into that of one; the others' stay as they are.

    Args, Raises: as for `allreduce`.
    """
    group = get_group_handle(group_name)
    group.check_rank("dst_rank", dst_rank)
    code = _number(op)
    array = arrays.to_change(tensor) if group.rank == dst_rank else arrays.to_read(tensor)
    group.run(
        group.collective, lambda t, timeout_s: t.reduce(array.data, array.code, code, dst_rank, timeout_s)
    )
    array.write_back()


def broadcast(tensor: Any, src_rank: int = 0, group_name: str = DEFAULT_GROUP) -> None:
    """Copy the array of one member into those of all others.

    Args, Raises: as for `allreduce`.
    """
    group = get_group_handle(group_name)
    group.check_rank("src_rank", src_rank)
    sends = group.rank == src_rank
    array = arrays.to_read(tensor) if sends else arrays.to_change(tensor)
    group.run(group.collective, lambda t, timeout_s: t.broadcast(array.data, array.code, src_rank, timeout_s))
    array.write_back()


def allgather(tensor_list: Sequence[Any], tensor: Any, group_name: str = DEFAULT_GROUP) -> None:
    """Copy the arrays of all members into a list of arrays, in the order of the ranks.

    Args:
        tensor_list: One array per member, each of the size and type of ``tensor``.
        tensor: This member's array.
        group_name: The group.

    Raises: as for `allreduce`.
    """
    group = get_group_handle(group_name)
    array = arrays.to_read(tensor)
    outputs = [arrays.to_change(one, "tensor_list") for one in tensor_list]
    _check_list(group, array, outputs)
    targets = [output.data for output in outputs]
    group.run(group.collective, lambda t, timeout_s: t.all_gather(array.data, targets, array.code, timeout_s))
    for output in outputs:
        output.write_back()


def reducescatter(
    tensor: Any, tensor_list: Sequence[Any], group_name: str = DEFAULT_GROUP, op: ReduceOp = ReduceOp.SUM
) -> None:
    """Reduce lists of arrays; each member gets the array at its rank.

    Args:
        tensor: Where this member's result goes.
        tensor_list: One array per member, each of the size and type of ``tensor``.
        group_name: The group.
        op: ReduceOp.SUM, PRODUCT, MIN or MAX.

    Raises: as for `allreduce`.
    """
    group = get_group_handle(group_name)
    array, code = arrays.to_change(tensor), _number(op)
    inputs = [arrays.to_read(one, "tensor_list") for one in tensor_list]
    _check_list(group, array, inputs)
    sources = [one.data for one in inputs]
    group.run(
        group.collective,
        lambda t, timeout_s: t.reduce_scatter(sources, array.data, array.code, code, timeout_s),
    )
    array.write_back()


def send(tensor: Any, dst_rank: int, group_name: str = DEFAULT_GROUP) -> None:
    """Send an array to one member, which must call `recv`; may return before that.

    Raises: as for `allreduce`.
    """
    group = _other(group_name, "dst_rank", dst_rank)
    array = arrays.to_read(tensor)
    group.run(group.sending, lambda t, timeout_s: t.send(array.data, array.code, dst_rank, timeout_s))


def recv(tensor: Any, src_rank: int, group_name: str = DEFAULT_GROUP) -> None:
    """Receive an array from one member, which must call `send`, in place.

    Raises: as for `allreduce`; ValueError when the other has sent another size or type, which is then lost.
    """
    group = _other(group_name, "src_rank", src_rank)
    array = arrays.to_change(tensor)
    group.run(group.receiving, lambda t, timeout_s: t.receive(array.data, array.code, src_rank, timeout_s))
    array.write_back()


def barrier(group_name: str = DEFAULT_GROUP) -> None:
    """Wait until all members have called it.

    Raises: as for `allreduce`.
    """
    group = get_group_handle(group_name)
    group.run(group.collective, lambda t, timeout_s: t.barrier(timeout_s))


def _number(op: ReduceOp) -> int:
    if not isinstance(op, ReduceOp):
        raise TypeError(f"op must be a ReduceOp, got {type(op).__name__} {op!r}")
    return op.value


def _other(group_name: str, name: str, rank: int) -> Group:
    group = get_group_handle(group_name)
    group.check_rank(name, rank)
    if rank == group.rank:
        raise ValueError(f"{name} is this process itself (rank {rank})")
    return group


def _check_list(group: Group, array: arrays.Array, others: Sequence[arrays.Array]) -> None:
    if len(others) != group.world_size:
        raise ValueError(f"tensor_list needs {group.world_size} arrays, one per member, got {len(others)}")
    for index, other in enumerate(others):
        if (other.code, other.count) != (array.code, array.count):
            raise ValueError(
                f"tensor_list[{index}] has {other.count} {other.dtype_name}, tensor {array.count} "
                f"{array.dtype_name}: they must be the same"
            )
