"""The one door to durable state.

A backend is synchronous and belongs to the writer thread (`aktisd.gcs.storage.writer`). It keeps a few flat
tables of bytes; each `commit` is one atomic and durable step. Opening it takes a new *term*: a number that
grows with every owner. A commit of an older term fails, so that a deposed GCS can never overwrite its
successor's state, however late it wakes up.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol


class Table(StrEnum):
    """The tables; their values are records of proto/aktis/v1 except where said."""

    META = "meta"
    """Plain bytes: cluster id, counters."""
    NODES = "nodes"
    JOBS = "jobs"
    ACTORS = "actors"
    CREATIONS = "creations"
    """The opaque parts of an actor's spec, written once and deleted at its death."""
    PLACEMENT_GROUPS = "placement_groups"
    KV = "kv"
    """Plain bytes, under the namespace, a NUL and the key."""


Writes = Mapping[tuple[Table, bytes], bytes | None]
"""New value per key, ``None`` deletes. Applying a batch twice is the same as once, so a retry is safe."""


class StorageError(Exception):
    """The backend could not do it (disk full, connection lost); the same step may be tried again."""


class FencedError(StorageError):
    """A newer GCS owns this storage: this one must stop, trying again is of no use."""


class Storage(Protocol):
    """A backend. Not thread safe: all calls come from one thread."""

    def open(self) -> int:
        """Connect, create what is missing and take ownership; return the new term, at least 1.

        Raises:
            StorageError: says where and what to do.
        """

    def commit(self, writes: Writes) -> None:
        """Apply all of ``writes`` or none, durably as configured.

        Raises:
            FencedError: the storage has a newer owner; nothing was written.
            StorageError: nothing is promised until the same batch was committed again.
        """

    def load(self, table: Table) -> dict[bytes, bytes]:
        """Return a whole table."""

    def sizes(self, table: Table) -> dict[bytes, int]:
        """Return the size in bytes of every value of a table, without reading the values."""

    def get(self, table: Table, key: bytes) -> bytes | None:
        """Return one value, ``None`` when it is not there."""

    def close(self) -> None:
        """Release everything; harmless when it is not open."""
