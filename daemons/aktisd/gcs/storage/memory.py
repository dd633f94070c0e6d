"""Storage that forgets: for tests and throw-away clusters."""

from dataclasses import dataclass, field

from aktisd.gcs.storage.interface import FencedError, StorageError, Table, Writes


@dataclass
class MemoryImage:
    """What several `MemoryStorage` in turn share, as a file would be."""

    term: int = 0
    tables: dict[Table, dict[bytes, bytes]] = field(default_factory=lambda: {table: {} for table in Table})


class MemoryStorage:
    """Dictionaries with the behaviour of the real backends."""

    def __init__(self, image: MemoryImage | None = None) -> None:
        self._image = image or MemoryImage()
        self._term = 0

    def open(self) -> int:
        """Take ownership of the image."""
        self._image.term += 1
        self._term = self._image.term
        return self._term

    def commit(self, writes: Writes) -> None:
        """Apply the batch."""
        self._check_open()
        if self._term != self._image.term:
            raise FencedError(f"term {self._term} was succeeded by term {self._image.term}")
        for (table, key), value in writes.items():
            if value is None:
                self._image.tables[table].pop(key, None)
            else:
                self._image.tables[table][key] = value

    def load(self, table: Table) -> dict[bytes, bytes]:
        """Return a copy of the table."""
        self._check_open()
        return dict(self._image.tables[table])

    def sizes(self, table: Table) -> dict[bytes, int]:
        """Return the sizes of its values."""
        return {key: len(value) for key, value in self.load(table).items()}

    def get(self, table: Table, key: bytes) -> bytes | None:
        """Return one value."""
        self._check_open()
        return self._image.tables[table].get(key)

    def close(self) -> None:
        """Forget the term; the image stays with whoever holds it."""
        self._term = 0

    def _check_open(self) -> None:
        if not self._term:
            raise StorageError("the memory storage is not open")
