"""Redis: storage that several GCS processes can reach, for production.

Every table is a hash. A commit is one script: Redis runs it atomically, and its first act compares the term,
so a deposed GCS cannot write. How durable an acknowledged write is depends on the server's ``appendfsync``
setting.
"""

from itertools import islice
from typing import Any, cast

import redis

from aktisd.gcs.storage.interface import FencedError, StorageError, Table, Writes

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 30.0
PAGE = 1_000
"""Rows that one command reads, so that no reply is unbounded and the server serves others in between."""

# KEYS[1] the term; ARGV[1] this writer's term, then 'put' hash key value | 'del' hash key ...
_COMMIT = """
local owner = redis.call('GET', KEYS[1])
if owner ~= ARGV[1] then return owner end
local i = 2
while i <= #ARGV do
  if ARGV[i] == 'put' then
    redis.call('HSET', ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
    i = i + 4
  else
    redis.call('HDEL', ARGV[i + 1], ARGV[i + 2])
    i = i + 3
  end
end
return 'stored'
"""


class RedisStorage:
    """A connection to one Redis database.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` with everything that redis-py reads from it.
        prefix: of every key, so that several clusters can share a server.
    """

    def __init__(self, url: str, prefix: str = "aktis") -> None:
        self._client = redis.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=COMMAND_TIMEOUT_S,
            decode_responses=False,
        )
        self._prefix = prefix
        # The URL may hold a password: it never goes into a message.
        options = self._client.connection_pool.connection_kwargs
        self._place = options.get("path") or f"{options.get('host')}:{options.get('port')}"
        self._script = self._client.register_script(_COMMIT)
        self._term = 0

    def open(self) -> int:
        """Take ownership by raising the term."""
        try:
            self._term = int(self._client.incr(self._key("term")))
        except redis.RedisError as error:
            raise self._error("reach", error) from error
        return self._term

    def commit(self, writes: Writes) -> None:
        """Run the script."""
        arguments: list[bytes | str] = [str(self._term)]
        for (table, key), value in writes.items():
            if value is None:
                arguments += ["del", self._key(table.value), key]
            else:
                arguments += ["put", self._key(table.value), key, value]
        try:
            answer = self._script(keys=[self._key("term")], args=arguments)
        except redis.RedisError as error:
            raise self._error("write to", error) from error
        if answer != b"stored":
            raise FencedError(
                f"redis {self._place} belongs to a newer GCS (term {_text(answer)}, "
                f"this one has {self._term}): stop this process"
            )

    def load(self, table: Table) -> dict[bytes, bytes]:
        """Read the hash page by page."""
        try:
            return dict(self._client.hscan_iter(self._key(table.value), count=PAGE))
        except redis.RedisError as error:
            raise self._error("read", error) from error

    def sizes(self, table: Table) -> dict[bytes, int]:
        """Read the keys, then their sizes a page at a time."""
        name = self._key(table.value)
        sizes: dict[bytes, int] = {}
        try:
            keys = iter(cast("list[bytes]", self._client.hkeys(name)))
            while page := list(islice(keys, PAGE)):
                pipeline = self._client.pipeline(transaction=False)
                for key in page:
                    pipeline.hstrlen(name, cast(str, key))
                sizes.update(zip(page, cast("list[int]", pipeline.execute()), strict=True))
        except redis.RedisError as error:
            raise self._error("read", error) from error
        return sizes

    def get(self, table: Table, key: bytes) -> bytes | None:
        """Read one value."""
        try:
            return cast("bytes | None", self._client.hget(self._key(table.value), cast(str, key)))
        except redis.RedisError as error:
            raise self._error("read", error) from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    def _error(self, action: str, error: redis.RedisError) -> StorageError:
        return StorageError(
            f"cannot {action} redis at {self._place}: {error}; check gcs.storage and the server"
        )


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)
