"""SQLite: the default for embedded clusters and single machines.

Write-ahead log, one connection, explicit transactions. ``full`` synchronizes the log before a commit returns
(an acknowledged write survives a power cut); ``normal`` leaves that to the checkpoint (it survives the death
of the process), which is right where the database dies with the machine anyway.
"""

import sqlite3
from pathlib import Path
from typing import Any, Literal

from aktisd.gcs.storage.interface import FencedError, StorageError, Table, Writes

BUSY_TIMEOUT_S = 5.0
"""How long to wait for another process that holds the database, such as a backup."""
CHECKPOINT_PAGES = 4_000
"""The log is folded into the database from this size on (16 MiB), so that it stays small."""

_TERM = "SELECT value FROM owner WHERE id = 0"


class SqliteStorage:
    """One table of SQL per `Table`, and the term of the owner."""

    def __init__(self, path: Path, synchronous: Literal["full", "normal"] = "full") -> None:
        self._path = path
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._term = 0

    def open(self) -> int:
        """Create or open the file and take ownership of it."""
        try:
            connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        except sqlite3.Error as error:
            raise self._error("open", error) from error
        try:
            self._term = self._prepare(connection)
        except sqlite3.Error as error:
            connection.close()
            raise self._error("open", error) from error
        self._connection = connection
        return self._term

    def commit(self, writes: Writes) -> None:
        """Apply the batch in one transaction, whose first statement checks the term."""
        connection = self._opened()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                owner = int(connection.execute(_TERM).fetchone()[0])
                if owner != self._term:
                    raise FencedError(
                        f"{self._path} belongs to a newer GCS (term {owner}, this one has {self._term}): "
                        "stop this process"
                    )
                self._apply(connection, writes)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._error("write to", error) from error

    def load(self, table: Table) -> dict[bytes, bytes]:
        """Read the whole table."""
        return dict(self._rows(f"SELECT key, value FROM {table.value}"))

    def sizes(self, table: Table) -> dict[bytes, int]:
        """Read the sizes; SQLite knows them without touching the values' pages."""
        return dict(self._rows(f"SELECT key, length(value) FROM {table.value}"))

    def get(self, table: Table, key: bytes) -> bytes | None:
        """Read one value."""
        rows = self._rows(f"SELECT value FROM {table.value} WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def close(self) -> None:
        """Close the file, which also folds the log into it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _prepare(self, connection: sqlite3.Connection) -> int:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS owner (id INTEGER PRIMARY KEY, value INTEGER NOT NULL)"
        )
        for table in Table:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {table.value} (key BLOB PRIMARY KEY, value BLOB NOT NULL)"
            )
        connection.execute("INSERT INTO owner VALUES (0, 1) ON CONFLICT (id) DO UPDATE SET value = value + 1")
        term = int(connection.execute(_TERM).fetchone()[0])
        connection.execute("COMMIT")
        return term

    @staticmethod
    def _apply(connection: sqlite3.Connection, writes: Writes) -> None:
        put: dict[Table, list[tuple[bytes, bytes]]] = {}
        gone: dict[Table, list[tuple[bytes]]] = {}
        for (table, key), value in writes.items():
            if value is not None:
                put.setdefault(table, []).append((key, value))
            else:
                gone.setdefault(table, []).append((key,))
        for table, rows in put.items():
            connection.executemany(
                f"INSERT INTO {table.value} VALUES (?, ?)"
                " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                rows,
            )
        for table, keys in gone.items():
            connection.executemany(f"DELETE FROM {table.value} WHERE key = ?", keys)

    def _rows(self, query: str, parameters: tuple[bytes, ...] = ()) -> list[Any]:
        try:
            return self._opened().execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._error("read", error) from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageError(f"{self._path} is not open")
        return self._connection

    def _error(self, action: str, error: sqlite3.Error) -> StorageError:
        return StorageError(
            f"cannot {action} {self._path}: {error}; check that the directory is writable by this user, "
            "that the disk is not full and that the file is a database of aktis"
        )
