"""Identities as objects, for programs that want more than their hexadecimal form."""

import os
from typing import ClassVar, Self


class BaseID:
    """Raw bytes with the usual conversions; equal and hashed by value."""

    SIZE_BYTES: ClassVar[int] = 16
    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        """Wrap ``raw``.

        Raises:
            ValueError: it does not have the length of such an id.
        """
        if len(raw) != self.SIZE_BYTES:
            raise ValueError(f"a {type(self).__name__} has {self.SIZE_BYTES} bytes, got {len(raw)}")
        self._raw = bytes(raw)

    @classmethod
    def from_hex(cls, hex_id: str) -> Self:
        """Return the id that ``hex()`` gave."""
        return cls(bytes.fromhex(hex_id))

    @classmethod
    def from_binary(cls, id_bytes: bytes) -> Self:
        """Return the id that ``binary()`` gave."""
        return cls(id_bytes)

    @classmethod
    def size(cls) -> int:
        """Return the length of such an id in bytes."""
        return cls.SIZE_BYTES

    @classmethod
    def from_random(cls) -> Self:
        """Return a new id."""
        return cls(os.urandom(cls.SIZE_BYTES))

    @classmethod
    def nil(cls) -> Self:
        """Return the id of nothing."""
        return cls(bytes(cls.SIZE_BYTES))

    def is_nil(self) -> bool:
        """Whether it is the id of nothing."""
        return not any(self._raw)

    def binary(self) -> bytes:
        """Return the raw bytes."""
        return self._raw

    def hex(self) -> str:
        """Return it in hexadecimal."""
        return self._raw.hex()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._raw == other._raw

    def __hash__(self) -> int:
        return hash(self._raw)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"


class UniqueID(BaseID):
    """Anything."""

    __slots__ = ()


class ActorID(BaseID):
    """An actor."""

    __slots__ = ()


class JobID(BaseID):
    """A program that uses the cluster."""

    SIZE_BYTES = 4
    __slots__ = ()

    @classmethod
    def from_int(cls, value: int) -> Self:
        """Return the id with this number."""
        return cls(value.to_bytes(cls.SIZE_BYTES, "big"))

    def int(self) -> int:
        """Return it as a number."""
        return int.from_bytes(self._raw, "big")


class NodeID(UniqueID):
    """A node."""

    __slots__ = ()


class ObjectID(BaseID):
    """An object."""

    SIZE_BYTES = 20
    __slots__ = ()

    def task_id(self) -> "TaskID":
        """Return the id of the task that made it."""
        return TaskID(self._raw[: TaskID.SIZE_BYTES])

    def is_put(self) -> bool:
        """Whether `put` made it (or the runtime itself), not a task."""
        return bool(self._raw[-1] & 0x80)


class TaskID(BaseID):
    """A task."""

    __slots__ = ()


class WorkerID(UniqueID):
    """A process."""

    __slots__ = ()


class FunctionID(UniqueID):
    """A function or class, by its content."""

    __slots__ = ()


class PlacementGroupID(BaseID):
    """A placement group."""

    __slots__ = ()


class ActorClassID(UniqueID):
    """A class of actors, by its content."""

    __slots__ = ()


class ClusterID(BaseID):
    """A cluster."""

    __slots__ = ()
