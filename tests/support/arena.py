"""Where the shared memory of this process's store is mapped, and whether a value lies there."""

from pathlib import Path
from typing import Any

from tests.support.sandbox import ARENA


def read_only_arenas() -> list[range]:
    """Return the addresses of the mappings through which values are read."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, *_ = line.split()
        if ARENA in line and permissions.startswith("r-"):
            begin, _, end = addresses.partition("-")
            found.append(range(int(begin, 16), int(end, 16)))
    return found


def address_of(array: Any) -> int:
    """Return where an array's first byte is."""
    address: int = array.__array_interface__["data"][0]
    return address


def in_arena(address: int) -> bool:
    """Whether an address lies in shared memory, read-only."""
    return any(address in arena for arena in read_only_arenas())
