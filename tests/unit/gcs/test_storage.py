"""One conformance suite for every backend, then what is special to each."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aktisd.gcs.storage.interface import FencedError, Storage, StorageError, Table
from aktisd.gcs.storage.memory import MemoryImage, MemoryStorage
from aktisd.gcs.storage.redis import RedisStorage
from aktisd.gcs.storage.sqlite import SqliteStorage

Opener = Callable[[], Storage]


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A real redis-server on a Unix socket of its own."""
    directory = Path(tempfile.mkdtemp(prefix="ak-redis-", dir="/tmp"))
    path = directory / "redis.sock"
    options = [
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--dir",
        str(directory),
        "--save",
        "",
        "--daemonize",
        "no",
    ]
    server = subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if "ready to accept connections" in line.lower():
                break
        yield f"unix://{path}"
    finally:
        server.terminate()
        server.communicate(timeout=10)
        shutil.rmtree(directory)


@pytest.fixture(params=["memory", "sqlite-normal", "sqlite-full", "redis"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Makes backends on the same data, as one process after the other would."""
    made: list[Storage] = []
    image = MemoryImage()

    def make() -> Storage:
        storage: Storage
        if request.param == "memory":
            storage = MemoryStorage(image)
        elif request.param == "redis":
            storage = RedisStorage(request.getfixturevalue("redis_url"), prefix=f"test-{tmp_path.name}")
        else:
            storage = SqliteStorage(
                tmp_path / "state.sqlite", "full" if request.param == "sqlite-full" else "normal"
            )
        made.append(storage)
        return storage

    yield make
    for storage in made:
        storage.close()


def test_written_is_read_back_by_the_next_owner(opener: Opener) -> None:
    first = opener()
    assert first.open() == 1
    first.commit({(Table.KV, b"a"): b"1", (Table.KV, b"b\0\xff"): b"", (Table.JOBS, b"a"): b"job"})
    first.commit({(Table.KV, b"a"): b"2", (Table.JOBS, b"a"): None, (Table.JOBS, b"none"): None})
    first.close()
    second = opener()
    assert second.open() == 2
    assert second.load(Table.KV) == {b"a": b"2", b"b\0\xff": b""}
    assert second.load(Table.JOBS) == {}
    assert second.sizes(Table.KV) == {b"a": 1, b"b\0\xff": 0}
    assert second.get(Table.KV, b"a") == b"2"
    assert second.get(Table.KV, b"absent") is None


def test_deposed_owner_cannot_write(opener: Opener) -> None:
    old, new = opener(), opener()
    old.open()
    old.commit({(Table.META, b"who"): b"old"})
    new.open()
    new.commit({(Table.META, b"who"): b"new"})
    with pytest.raises(FencedError):
        old.commit({(Table.META, b"who"): b"old again", (Table.META, b"more"): b"x"})
    assert new.load(Table.META) == {b"who": b"new"}


def test_batch_of_many_rows_and_large_values(opener: Opener) -> None:
    storage = opener()
    storage.open()
    rows = {(Table.ACTORS, index.to_bytes(4, "big")): bytes(300) for index in range(5_000)}
    storage.commit({**rows, (Table.KV, b"large"): b"x" * 8_000_000})
    assert len(storage.load(Table.ACTORS)) == 5_000
    assert storage.sizes(Table.KV) == {b"large": 8_000_000}
    storage.commit(dict.fromkeys(rows, None))
    assert storage.load(Table.ACTORS) == {}


def test_same_batch_twice_is_as_once(opener: Opener) -> None:
    storage = opener()
    storage.open()
    storage.commit({(Table.KV, b"gone"): b"1"})
    batch: dict[tuple[Table, bytes], bytes | None] = {(Table.KV, b"a"): b"1", (Table.KV, b"gone"): None}
    storage.commit(batch)
    storage.commit(batch)
    assert storage.load(Table.KV) == {b"a": b"1"}


def test_empty_batch_checks_the_owner(opener: Opener) -> None:
    old = opener()
    old.open()
    old.commit({})
    opener().open()
    with pytest.raises(FencedError):
        old.commit({})


def test_memory_must_be_open() -> None:
    with pytest.raises(StorageError, match="not open"):
        MemoryStorage().commit({})


def test_sqlite_names_an_unusable_path(tmp_path: Path) -> None:
    missing = tmp_path / "absent" / "state.sqlite"
    with pytest.raises(StorageError, match=str(missing)):
        SqliteStorage(missing).open()


def test_sqlite_refuses_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StorageError, match="not a database"):
        SqliteStorage(path).open()


def test_sqlite_batch_is_all_or_nothing(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "state.sqlite")
    storage.open()
    wrong: dict[tuple[Table, bytes], bytes | None] = {
        (Table.META, b"a"): b"1",
        (Table.KV, b"b"): object(),  # type: ignore[dict-item]
    }
    with pytest.raises(StorageError):
        storage.commit(wrong)
    assert storage.load(Table.META) == {}
    storage.close()


def test_redis_that_is_not_there() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"redis://:secret@127.0.0.1:{held.getsockname()[1]}/0"
        with pytest.raises(StorageError, match=r"127\.0\.0\.1") as caught:
            RedisStorage(url).open()
        assert "secret" not in str(caught.value)
