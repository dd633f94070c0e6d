"""Processes that own and borrow what tests of reference counting tell them to, and what these tests share."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import numpy as np

from tests.support.references import Freed, is_known

TIMEOUT_S = 30.0
STORE_BYTES = 64 << 20
SMALL, LARGE = 16, 30 << 20  # in its owner's process, in shared memory
NO_ROOM_BESIDE_LARGE = 40 << 20
Refs = list[Any]


def assert_room_in_store() -> None:
    """Wait until the store has room again; raises ObjectStoreFullError when it does not come."""
    aktis.put(np.zeros(NO_ROOM_BESIDE_LARGE, np.uint8))


def make(size: int) -> Any:
    """Return the value of an object of so many bytes."""
    return np.full(size, 7, np.uint8)


def check(ref: Any, size: int) -> None:
    """Get an object that `make` has made."""
    value = aktis.get(ref, timeout=TIMEOUT_S)
    assert (len(value), value[-1]) == (size, 7)


class CarriesReferencesError(Exception):
    """An exception that refers to objects."""

    def __init__(self, refs: Refs) -> None:
        super().__init__("carries references")
        self.refs = refs


@aktis.remote(num_cpus=0)
class Keeper:
    """A process that owns and borrows what it is told to."""

    def __init__(self) -> None:
        self.kept: Refs = []
        self.freed: list[Freed] = []

    def make(self, size: int) -> Refs:
        self.kept = [aktis.put(make(size))]
        self.freed.append(Freed(self.kept[0]))
        return self.kept

    def fail(self, refs: Refs, size: int) -> None:
        own = aktis.put(make(size))
        self.freed.append(Freed(own))
        raise CarriesReferencesError([own, *refs])

    def fail_after_an_item(self, size: int) -> Iterator[str]:
        yield "an item"
        self.fail([], size)

    def fail_first(self, times: int, size: int) -> int:
        if len(self.freed) < times:
            self.fail([], size)
        return len(self.freed)

    def were_freed(self, first: int | None = None) -> bool:
        return all(freed.wait() for freed in self.freed[:first])

    def keep(self, refs: Refs) -> None:
        self.kept.extend(refs)

    def let_go(self) -> None:
        self.kept.clear()

    def knows(self, object_id: bytes) -> bool:
        return is_known(object_id)

    def read(self, size: int) -> None:
        for ref in self.kept:
            check(ref, size)

    def read_inner(self, size: int) -> None:
        for outer in self.kept:
            check(aktis.get(outer)[0], size)

    def pass_on(self, other: Any) -> None:
        aktis.get(other.keep.remote(self.kept))

    def pickle_to(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(self.kept))

    def load_from(self, path: Path) -> None:
        self.kept = pickle.loads(path.read_bytes())


def call(method: Any, *arguments: Any) -> Any:
    """Call a keeper and wait."""
    return aktis.get(method.remote(*arguments), timeout=TIMEOUT_S)


@aktis.remote
def pass_back(refs: Refs) -> Refs:
    return refs
