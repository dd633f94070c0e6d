"""The check that tests leave nothing behind sees shared memory, which has no name in any directory."""

import ctypes
import mmap
import os

from tests.support.sandbox import ARENA, own_arenas

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def test_an_arena_is_seen_by_its_descriptor_and_by_its_mapping() -> None:
    before = own_arenas()
    descriptor = os.memfd_create(ARENA.removeprefix("memfd:"))
    os.ftruncate(descriptor, mmap.PAGESIZE)
    (by_descriptor,) = own_arenas() - before
    # Not mmap.mmap(), which keeps a descriptor of its own.
    address = libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    os.close(descriptor)
    assert own_arenas() - before == {by_descriptor}
    assert libc.munmap(address, mmap.PAGESIZE) == 0
    assert own_arenas() == before
