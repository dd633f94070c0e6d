"""Key-value: exported functions, packages, small things with a name.

Values live in storage; in memory are the keys with their sizes, and a bounded cache of values. Functions are
read by every worker soon after they were written, so nearly every read is from the cache.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aktis._proto import gcs_pb2
from google.protobuf.message import Message

from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status, invalid
from aktisd.gcs.limits import Limits
from aktisd.gcs.storage.interface import Table
from aktisd.gcs.validate import check_text

CACHED_SHARE = 16
"""A value larger than this fraction of the cache is not cached: it would push out everything else."""


Watcher = Callable[[bytes, int | None], None]
"""Takes a key and the size of its value; None when it was deleted."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """An answer that needs a value from storage first."""

    table: Table
    key: bytes
    finish: Callable[[bytes | None], Message]


class KvManager:
    """Pure state machine, driven by the event loop's thread only."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sizes: dict[bytes, int] = {}
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._cache_bytes = 0
        self._puts = 0
        self._watchers: dict[bytes, Watcher] = {}
        self.total_bytes = 0
        self.hits = 0
        self.misses = 0

    def load(self, sizes: dict[bytes, int]) -> None:
        """Take over what an earlier process stored."""
        self._sizes = dict(sizes)
        self.total_bytes = sum(sizes.values()) + sum(map(len, sizes))

    def watch(self, namespace: str, watcher: "Watcher") -> None:
        """Tell ``watcher`` of every key of a namespace: what is there now, and whenever one is used."""
        scope = namespace.encode()
        self._watchers[scope] = watcher
        for key, size in self._sizes.items():
            if key.startswith(scope + b"\0"):
                watcher(key[len(scope) + 1 :], size)

    def __len__(self) -> int:
        return len(self._sizes)

    def put(self, request: gcs_pb2.KvPutRequest, out: Effects) -> gcs_pb2.KvPutReply:
        """Store a value; an existing one stays unless ``overwrite`` is set.

        Raises:
            RequestError: key or value are too large, or the store is full.
        """
        key = self.full_key(request.namespace, request.key)
        old = self._sizes.get(key)
        if old is not None and not request.overwrite:
            return gcs_pb2.KvPutReply(added=False)
        if len(request.value) > self._limits.kv_value_bytes:
            raise RequestError(
                Status.RESOURCE_EXHAUSTED,
                f"the value has {len(request.value)} bytes, the limit is {self._limits.kv_value_bytes}: "
                "keep large data in objects, not in the key-value store",
            )
        growth = len(request.value) - old if old is not None else len(request.value) + len(key)
        if self.total_bytes + growth > self._limits.kv_total_bytes:
            raise RequestError(
                Status.RESOURCE_EXHAUSTED,
                f"the key-value store is full ({self.total_bytes} of {self._limits.kv_total_bytes} bytes): "
                "delete keys that are no longer needed",
            )
        self._puts += 1
        self._sizes[key] = len(request.value)
        self.total_bytes += growth
        self._uncache(key)
        self._keep(key, request.value)
        out.write(Table.KV, key, request.value)
        self._tell(key, len(request.value))
        return gcs_pb2.KvPutReply(added=old is None)

    def get(self, request: gcs_pb2.KvGetRequest) -> gcs_pb2.KvGetReply | Lookup:
        """Return the value, or how to get it."""
        key = self.full_key(request.namespace, request.key)
        if key not in self._sizes:
            return gcs_pb2.KvGetReply(found=False)
        self._tell(key, self._sizes[key])
        value = self._cache.get(key)
        if value is not None:
            self._cache.move_to_end(key)
            self.hits += 1
            return gcs_pb2.KvGetReply(found=True, value=value)
        self.misses += 1
        puts = self._puts
        return Lookup(Table.KV, key, lambda stored: self._finish_get(key, stored, puts))

    def delete(self, request: gcs_pb2.KvDeleteRequest, out: Effects) -> gcs_pb2.KvDeleteReply:
        """Delete a key, if it is there."""
        key = self.full_key(request.namespace, request.key)
        size = self._sizes.pop(key, None)
        if size is None:
            return gcs_pb2.KvDeleteReply(deleted=False)
        self.total_bytes -= size + len(key)
        self._uncache(key)
        out.write(Table.KV, key, None)
        self._tell(key, None)
        return gcs_pb2.KvDeleteReply(deleted=True)

    def list(self, request: gcs_pb2.KvListRequest) -> gcs_pb2.KvListReply:
        """Return the keys of a namespace that begin with a prefix, in order."""
        scope = check_text(request.namespace, self._limits.name_characters, "namespace").encode() + b"\0"
        start = scope + request.prefix
        limit = min(request.limit or self._limits.kv_list, self._limits.kv_list)
        keys = sorted(key[len(scope) :] for key in self._sizes if key.startswith(start))
        return gcs_pb2.KvListReply(keys=keys[:limit])

    def full_key(self, namespace: str, key: bytes) -> bytes:
        """Return the key in storage: the namespace, a NUL, the key.

        Raises:
            RequestError: one of them is too long, or there is no key.
        """
        check_text(namespace, self._limits.name_characters, "namespace")
        if not key or len(key) > self._limits.kv_key_bytes:
            raise invalid(f"a key must have 1 to {self._limits.kv_key_bytes} bytes, got {len(key)}")
        return namespace.encode() + b"\0" + key

    def _tell(self, key: bytes, size: int | None) -> None:
        if not self._watchers:
            return
        namespace, _, own = key.partition(b"\0")
        watcher = self._watchers.get(namespace)
        if watcher is not None:
            watcher(own, size)

    def _finish_get(self, key: bytes, stored: bytes | None, puts: int) -> gcs_pb2.KvGetReply:
        if stored is None:  # deleted while the read waited
            return gcs_pb2.KvGetReply(found=False)
        # Only what is surely current may be cached: nothing was put or deleted while the read waited.
        if puts == self._puts and key in self._sizes and key not in self._cache:
            self._keep(key, stored)
        return gcs_pb2.KvGetReply(found=True, value=stored)

    def _keep(self, key: bytes, value: bytes) -> None:
        if len(value) * CACHED_SHARE > self._limits.kv_cache_bytes:
            return
        self._cache[key] = value
        self._cache_bytes += len(value)
        while self._cache_bytes > self._limits.kv_cache_bytes:
            _, oldest = self._cache.popitem(last=False)
            self._cache_bytes -= len(oldest)

    def _uncache(self, key: bytes) -> None:
        self._cache_bytes -= len(self._cache.pop(key, b""))
