"""A small store in this process, and clients of it."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aktis._core import PlasmaClient, PlasmaStore

TOKEN = "secret"
MIB = 2**20

Connect = Callable[[], PlasmaClient]


@pytest.fixture
def socket_address() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ak-", dir="/tmp") as directory:
        yield f"unix:{directory}/plasma.sock"
        assert list(Path(directory).iterdir()) == []


@pytest.fixture
def store(socket_address: str) -> Iterator[PlasmaStore]:
    store = PlasmaStore(
        address=socket_address, capacity_bytes=16 * MIB, token=TOKEN, warm_reserve_bytes=MIB, slab_idle_s=0.05
    )
    store.start()
    yield store
    store.stop()


@pytest.fixture
def connect(store: PlasmaStore) -> Iterator[Connect]:
    clients: list[PlasmaClient] = []

    def connect() -> PlasmaClient:
        client = PlasmaClient(store.address, token=TOKEN)
        client.connect()
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.close()


def object_id(number: int) -> bytes:
    return b"\x07" + number.to_bytes(19, "big")
