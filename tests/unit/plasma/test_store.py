"""The object store and its client through the bindings."""

import ctypes
import os
import signal
import threading
from collections.abc import Callable

import numpy as np
import pytest
from aktis._core import (
    PlasmaClient,
    PlasmaDisconnectedError,
    PlasmaExistsError,
    PlasmaFullError,
    PlasmaStore,
)

from tests.unit.plasma.conftest import MIB, TOKEN, Connect, object_id

OWNER = b"o" * 16


def wait_until(store: PlasmaStore, condition: Callable[[dict[str, int]], bool], connect: Connect) -> None:
    """Return once the store's numbers are so; every step of it is driven by a round trip, not by time."""
    probe = connect()
    for _ in range(100_000):
        if condition(store.statistics()):
            return
        probe.sync()
    raise AssertionError(f"never so: {store.statistics()}")


def test_another_client_reads_what_was_put(connect: Connect) -> None:
    writer, reader = connect(), connect()
    writer.put(object_id(1), b"hello")
    view = reader.get(object_id(1))
    assert view is not None
    assert bytes(view) == b"hello"
    assert view.readonly


def test_an_empty_object_is_an_object(connect: Connect) -> None:
    connect().put(object_id(1), b"")
    view = connect().get(object_id(1))
    assert view is not None
    assert len(view) == 0


def test_get_waits_for_the_seal(connect: Connect, store: PlasmaStore) -> None:
    writer, reader = connect(), connect()
    found: list[memoryview | None] = []
    thread = threading.Thread(target=lambda: found.append(reader.get(object_id(1))))
    thread.start()
    wait_until(store, lambda now: now["waiting_gets"] == 1, connect)
    room = writer.create(object_id(1), 3 * MIB)
    room[:5] = b"later"
    writer.seal(object_id(1))
    thread.join()
    assert found[0] is not None
    assert bytes(found[0][:5]) == b"later"


def test_get_of_what_is_not_there_ends_at_its_timeout(connect: Connect, store: PlasmaStore) -> None:
    reader = connect()
    assert reader.get(object_id(1), timeout_s=0.01) is None
    wait_until(store, lambda now: now["waiting_gets"] == 0, connect)


def test_contains_tells_what_is_sealed(connect: Connect) -> None:
    writer, reader = connect(), connect()
    assert not reader.contains(object_id(1))
    writer.create(object_id(1), 2 * MIB)
    assert not reader.contains(object_id(1))
    writer.seal(object_id(1))
    assert writer.sync()
    assert reader.contains(object_id(1))


def test_same_id_twice(connect: Connect) -> None:
    client = connect()
    client.put(object_id(1), b"one")
    with pytest.raises(PlasmaExistsError, match="exists already"):
        client.put(object_id(1), b"two")


def test_larger_than_the_store(connect: Connect) -> None:
    with pytest.raises(ValueError, match="larger than the whole store"):
        connect().create(object_id(1), 17 * MIB, timeout_s=60)


def test_full_store_says_who_holds_what(connect: Connect) -> None:
    client = connect()
    views = [client.put(object_id(number), bytes(5 * MIB), owner=OWNER) for number in range(3)]
    with pytest.raises(PlasmaFullError) as caught:
        client.create(object_id(9), 5 * MIB, timeout_s=0.05)
    message = str(caught.value)
    assert "no room for 5.0 MiB" in message
    assert f"Owner {OWNER.hex()}: 15.0 MiB in 3 objects" in message
    assert f"Process {os.getpid()} reads 15.0 MiB" in message
    assert len(views) == 3


def test_creation_waits_until_there_is_room(connect: Connect, store: PlasmaStore) -> None:
    client, other = connect(), connect()
    for number in range(3):
        client.put(object_id(number), bytes(5 * MIB))
    thread = threading.Thread(target=lambda: other.put(object_id(9), b"x" * 5 * MIB))
    thread.start()
    wait_until(store, lambda now: now["waiting_creates"] == 1, connect)
    client.delete([object_id(0)])
    thread.join()
    assert other.contains(object_id(9))


def test_creations_are_served_in_order(connect: Connect, store: PlasmaStore) -> None:
    client = connect()
    views = [client.put(object_id(number), bytes(5 * MIB)) for number in range(3)]
    large, small = connect(), connect()
    order: list[str] = []

    def create(who: PlasmaClient, number: int, size_bytes: int, name: str) -> None:
        who.create(object_id(number), size_bytes)
        order.append(name)
        who.abort(object_id(number))

    first = threading.Thread(target=create, args=(large, 10, 6 * MIB, "large"))
    first.start()
    wait_until(store, lambda now: now["waiting_creates"] == 1, connect)
    second = threading.Thread(target=create, args=(small, 11, 2 * MIB, "small"))
    second.start()
    wait_until(store, lambda now: now["waiting_creates"] == 2, connect)
    assert order == []
    client.delete([object_id(0), object_id(1)])
    views.clear()
    first.join()
    second.join()
    assert sorted(order) == ["large", "small"]


def test_unreferenced_copies_are_evicted_for_room(connect: Connect, store: PlasmaStore) -> None:
    client = connect()
    for number in range(3):
        client.put(object_id(number), bytes(5 * MIB), primary=False)
    client.put(object_id(9), bytes(5 * MIB))
    assert store.statistics()["evictions_total"] >= 1
    assert not client.contains(object_id(0))
    assert client.contains(object_id(2))


def test_primary_and_pinned_objects_are_never_evicted(connect: Connect, store: PlasmaStore) -> None:
    client = connect()
    view = client.put(object_id(1), b"pinned copy", primary=False)
    client.put(object_id(2), b"primary")
    assert client.sync()
    assert store.evict(16 * MIB) == 0
    assert bytes(view) == b"pinned copy"
    assert client.contains(object_id(2))


def test_pin_keeps_the_data_after_delete(connect: Connect, store: PlasmaStore) -> None:
    writer, reader = connect(), connect()
    writer.put(object_id(1), b"k" * MIB)
    view = reader.get(object_id(1))
    assert view is not None
    writer.delete([object_id(1)])
    assert writer.sync()
    assert not connect().contains(object_id(1))
    wait_until(store, lambda now: now["deleted_objects"] == 1, connect)
    for number in range(10, 13):
        writer.put(object_id(number), b"z" * 4 * MIB)  # would overwrite it if its memory were free
    assert bytes(view) == b"k" * MIB
    view.release()
    wait_until(store, lambda now: now["deleted_objects"] == 0, connect)


def test_get_of_a_deleted_object_is_an_error(connect: Connect, store: PlasmaStore) -> None:
    owner, reader = connect(), connect()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            reader.get(object_id(1))
        except KeyError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    wait_until(store, lambda now: now["waiting_gets"] == 1, connect)
    owner.delete([object_id(1)])
    thread.join()
    assert "was deleted" in str(errors[0])


def test_delete_that_overtakes_the_seal_still_counts(connect: Connect, store: PlasmaStore) -> None:
    """The owner and the creator are different processes: their messages may arrive in any order."""
    owner, creator = connect(), connect()
    owner.delete([object_id(1)])
    assert owner.sync()
    creator.put(object_id(1), b"x")
    assert creator.sync()
    wait_until(store, lambda now: now["sealed_objects"] == 0 and now["deleted_objects"] == 0, connect)


def test_disconnect_releases_pins_and_aborts(connect: Connect, store: PlasmaStore) -> None:
    client = PlasmaClient(store.address, token=TOKEN)
    client.connect()
    client.put(object_id(1), b"stays")
    client.create(object_id(2), 4 * MIB)
    client.create(object_id(3), 100)
    client.close()
    wait_until(store, lambda now: now["clients"] == 1 and now["creating_objects"] == 0, connect)
    now = store.statistics()
    assert (now["sealed_objects"], now["pinned_objects"], now["slab_bytes"]) == (1, 0, 0)
    assert now["used_bytes"] == 64


def test_idle_slabs_are_given_back(connect: Connect, store: PlasmaStore) -> None:
    client = connect()
    client.put(object_id(1), b"a")
    client.put(object_id(2), b"b")
    wait_until(store, lambda now: now["slab_bytes"] == 0 and now["seals_total"] == 2, connect)
    client.put(object_id(3), b"c")
    assert client.contains(object_id(3))


def test_objects_of_a_dead_owner_are_dropped(connect: Connect, store: PlasmaStore) -> None:
    client = connect()
    client.put(object_id(1), b"a", owner=OWNER)
    client.put(object_id(2), b"b", owner=b"p" * 16)
    assert client.sync()
    assert store.free_owner(OWNER) == 1
    client.put(object_id(3), b"late", owner=OWNER)
    assert client.sync()
    wait_until(store, lambda now: now["sealed_objects"] == 1, connect)


def test_reader_cannot_write(connect: Connect) -> None:
    """Even code that ignores the flag of the view gets a fault, not a corrupted object."""
    view = connect().put(object_id(1), b"x" * 100)
    with pytest.raises(TypeError):
        view[0] = 1
    address = np.frombuffer(view, dtype=np.uint8).ctypes.data
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        ctypes.memset(address, 0, 1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert bytes(view) == b"x" * 100


def test_views_outlive_client_and_store(connect: Connect, store: PlasmaStore) -> None:
    client = PlasmaClient(store.address, token=TOKEN)
    client.connect()
    view = client.put(object_id(1), b"v" * MIB)
    client.close()
    del client
    store.stop()
    assert bytes(view) == b"v" * MIB


def test_a_stopped_store_is_an_error(connect: Connect, store: PlasmaStore) -> None:
    client = connect()
    store.stop()
    with pytest.raises(PlasmaDisconnectedError):
        client.get(object_id(1))
    with pytest.raises(PlasmaDisconnectedError, match="is gone"):
        client.put(object_id(1), b"x")


def test_wrong_token_is_refused(store: PlasmaStore) -> None:
    with pytest.raises(PlasmaDisconnectedError, match="token"):
        PlasmaClient(store.address, token="guess").connect()


def test_address_where_nothing_listens(socket_address: str) -> None:
    with pytest.raises(PlasmaDisconnectedError, match=socket_address):
        PlasmaClient(socket_address, token=TOKEN).connect()


def test_address_in_use(store: PlasmaStore) -> None:
    second = PlasmaStore(address=store.address, capacity_bytes=MIB)
    with pytest.raises(RuntimeError, match=store.address):
        second.start()


def test_statistics_and_list_agree(connect: Connect, store: PlasmaStore) -> None:
    client = connect()
    view = client.put(object_id(1), b"x" * 1000, owner=OWNER)
    assert client.sync()
    (entry,) = store.list_objects(10)
    assert entry["object_id"] == object_id(1)
    assert entry["owner"] == OWNER
    assert (entry["size_bytes"], entry["state"], entry["pins"], entry["primary"]) == (1000, "SEALED", 1, True)
    assert entry["creator_pid"] == os.getpid()
    assert store.statistics()["pinned_objects"] == 1
    assert len(view) == 1000


def test_a_store_resumes_from_its_descriptors(
    connect: Connect, store: PlasmaStore, socket_address: str
) -> None:
    client = connect()
    view = client.put(object_id(1), b"survives" * 1000, owner=OWNER)
    client.create(object_id(2), 2 * MIB)
    assert client.sync()
    arena_fd, table_fd = os.dup(store.arena_fd), os.dup(store.table_fd)
    store.stop()
    next_store = PlasmaStore(
        address=socket_address, capacity_bytes=1, token=TOKEN, arena_fd=arena_fd, table_fd=table_fd
    )
    next_store.start()
    try:
        now = next_store.statistics()
        assert (now["epoch"], now["resumed_objects"]) == (2, 1)
        reader = PlasmaClient(socket_address, token=TOKEN)
        reader.connect()
        found = reader.get(object_id(1))
        assert found is not None
        assert bytes(found) == b"survives" * 1000 == bytes(view)
        reader.put(object_id(2), b"free again")
        del found
        reader.close()
    finally:
        next_store.stop()
