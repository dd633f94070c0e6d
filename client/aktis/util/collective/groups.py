"""The groups that this process is a member of, and how it becomes one."""

import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aktis import _core
from aktis._runtime import current
from aktis.util.collective.errors import CollectiveError, CollectiveTimeoutError
from aktis.util.collective.rendezvous import Rendezvous
from aktis.util.collective.transport import Transport
from aktis.util.collective.types import Backend

if TYPE_CHECKING:
    from aktis._runtime.session import Session

T = TypeVar("T")

_lock: Final = threading.Lock()
_groups: dict[str, "Group"] = {}
_joining: set[str] = set()


@dataclass(slots=True, weakref_slot=True)
class Group:
    """This process's membership in one group. Any thread; operations of one kind wait for each other."""

    name: str
    rank: int
    world_size: int
    backend: Backend
    timeout_s: float
    session: "weakref.ReferenceType[Session]"
    transport: Transport | None
    leave: Callable[[], object] = lambda: None
    collective: threading.Lock = field(default_factory=threading.Lock)
    sending: threading.Lock = field(default_factory=threading.Lock)
    receiving: threading.Lock = field(default_factory=threading.Lock)

    def run(self, lock: threading.Lock, call: Callable[[Transport, float], T]) -> T:
        """Do one operation, with what goes wrong as one of our errors."""
        with lock:
            transport = self.transport
            if transport is None:
                raise CollectiveError(f"this process has left collective group {self.name!r}")
            try:
                return call(transport, self.timeout_s)
            except TimeoutError as error:
                raise CollectiveTimeoutError(f"collective group {self.name!r}: {error}") from None
            except RuntimeError as error:
                raise CollectiveError(f"collective group {self.name!r}: {error}") from None
            except ValueError as error:
                raise ValueError(f"collective group {self.name!r}: {error}") from None

    def close(self) -> None:
        """Leave, as soon as what is under way in other threads is finished: it holds the transport."""
        self.transport = None

    def check_rank(self, name: str, rank: int) -> None:
        """Raise TypeError or ValueError when there is no such member."""
        check_integer(name, rank)
        if not 0 <= rank < self.world_size:
            raise ValueError(f"{name} must be 0 to {self.world_size - 1} in this group, got {rank}")


def check_integer(name: str, value: object) -> None:
    """Raise TypeError when a value is not an int."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {value!r}")


def find(name: str) -> Group | None:
    """Return the group of that name that this process is in."""
    with _lock:
        group = _groups.get(name)
        if group is not None and group.session() is not current.session:
            del _groups[name]  # of an earlier session
            group = None
        return group


def remove(name: str) -> bool:
    """Leave a group; False when this process is not in it."""
    group = find(name)
    if group is None:
        return False
    with _lock:
        _groups.pop(name, None)
    group.leave()
    return True


def join(name: str, world_size: int, rank: int, backend: Backend, timeout_s: float) -> Group:
    """Become a member; returns when all are.

    Raises:
        RuntimeError: this process is in a group of that name.
        CollectiveTimeoutError, CollectiveError: the group did not come to be.
    """
    session = current.require()
    present = find(name) is not None
    with _lock:
        if present or name in _joining:
            raise RuntimeError(
                f"this process is a member of collective group {name!r} already: call "
                "destroy_collective_group() first, or take another group_name"
            )
        _joining.add(name)
    try:
        transport = _connect(
            session, Rendezvous(name, world_size, rank, timeout_s), world_size, rank, backend
        )
        group = Group(name, rank, world_size, backend, timeout_s, weakref.ref(session), transport)
        group.run(group.collective, lambda transport, timeout_s: transport.barrier(timeout_s))
        with _lock:
            _groups[name] = group
    finally:
        with _lock:
            _joining.discard(name)
    finalizer = weakref.finalize(session, group.close)
    finalizer.atexit = False  # a process that ends has left
    group.leave = finalizer
    return group


def _connect(
    session: "Session", meeting: Rendezvous, world_size: int, rank: int, backend: Backend
) -> Transport:
    may_share = backend is not Backend.TCP
    if backend is Backend.SHM and world_size > _core.collective.MAX_MEMBERS:
        raise ValueError(f"a group in shared memory has at most {_core.collective.MAX_MEMBERS} members")
    may_share = may_share and world_size <= _core.collective.MAX_MEMBERS
    memory = _core.collective.create_memory(world_size) if may_share and rank == 0 else -1
    try:
        fact = {
            "backend": backend.value,
            "node": session.node.node_id.hex(),
            "ip": session.node.node_ip,
            "pid": os.getpid(),
            "memory": memory,
        }
        key, facts = meeting.exchange("", fact)
        _check_agreement(facts)
        one_node = len({other["node"] for other in facts}) == 1
        if may_share and one_node:
            descriptor = memory if rank == 0 else _open_memory(facts[0])
            memory = -1  # the group's now
            return _core.collective.SharedGroup(descriptor, rank, world_size)
    finally:
        if memory >= 0:
            os.close(memory)
    if backend is Backend.SHM:
        raise CollectiveError("backend 'shm' needs all members on one node: use backend='auto' or 'tcp'")
    from aktis.util.collective.tcp import connect_mesh

    own_ip = "127.0.0.1" if one_node else session.node.node_ip
    timeout_s = meeting.left_s()
    return connect_mesh(own_ip, rank, world_size, timeout_s, lambda address: meeting.exchange(key, address))


def _check_agreement(facts: list[dict[str, Any]]) -> None:
    if len({fact["backend"] for fact in facts}) > 1:
        chosen = ", ".join(f"rank {rank} {fact['backend']}" for rank, fact in enumerate(facts))
        raise CollectiveError(f"the members have chosen different backends: {chosen}")


def _open_memory(maker: dict[str, Any]) -> int:
    """Open the memory of the group through the process that has made it: it has no name to open it by."""
    try:
        return os.open(Path("/proc", str(maker["pid"]), "fd", str(maker["memory"])), os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise CollectiveError(
            f"the memory of the group, which process {maker['pid']} (rank 0) has made, cannot be opened "
            f"({error.strerror}): has that process died, or may processes here not look into each other? "
            "backend='tcp' does without"
        ) from error
