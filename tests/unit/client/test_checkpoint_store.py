"""Versions of a state in a directory, and the options of checkpoints."""

import fcntl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aktis.checkpoint import Checkpoint, CheckpointError, CheckpointStore
from aktis.checkpoint.store import LocalStorage, RemoteStorage


def test_versions_are_saved_loaded_and_forgotten(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path), "k", keep=2)
    assert store.load(default="none") == "none"
    versions = [store.save({"step": i}) for i in range(4)]
    assert store.versions() == versions[-2:]
    other = CheckpointStore(f"file://{tmp_path}", "k")
    assert other.load() == {"step": 3}
    assert other.load(versions[-2]) == {"step": 2}
    with pytest.raises(CheckpointError, match=r"could not be read \(version 00000001-000000000001\)"):
        other.load(versions[0])
    other.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_successor_is_not_outdone_by_one_that_should_be_dead(tmp_path: Path) -> None:
    old = CheckpointStore(str(tmp_path), "k")
    old.save("old 1")
    new = CheckpointStore(str(tmp_path), "k")
    assert new.load() == "old 1"
    new.save("new 1")
    old.save("old 2")
    old.save("old 3")
    assert CheckpointStore(str(tmp_path), "k").load() == "new 1"


def test_a_successor_is_not_outdone_when_nothing_has_been_saved_yet(tmp_path: Path) -> None:
    old, new = CheckpointStore(str(tmp_path), "k"), CheckpointStore(str(tmp_path), "k")
    assert old.load() is None
    assert new.load() is None
    new.save("new 1")
    old.save("old 1")
    old.save("old 2")
    assert CheckpointStore(str(tmp_path), "k").load() == "new 1"


def test_those_who_load_at_the_same_time_have_epochs_of_their_own(tmp_path: Path) -> None:
    stores = [CheckpointStore(str(tmp_path), "k", keep=100) for _ in range(8)]
    together = threading.Barrier(len(stores))

    def load(store: CheckpointStore) -> str:
        together.wait(30)
        store.load()
        return store.save("state")

    with ThreadPoolExecutor(len(stores)) as threads:
        versions = list(threads.map(load, stores))
    assert len({version.partition("-")[0] for version in versions}) == len(stores)
    assert stores[0].versions() == sorted(versions)
    assert len(list((tmp_path / "k").glob("*.epoch"))) == 1


def test_a_marker_that_comes_too_late_begins_no_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, first, second = (CheckpointStore(str(tmp_path), "k") for _ in range(3))
    create = LocalStorage.create

    def create_late(storage: LocalStorage, name: str) -> None:
        monkeypatch.undo()
        first.load()
        second.load()  # and removes the first one's marker
        create(storage, name)

    monkeypatch.setattr(LocalStorage, "create", create_late)
    late.load()
    assert [store.save("state") for store in (first, second, late)] == [
        f"0000000{epoch}-000000000001" for epoch in (1, 2, 3)
    ]


def test_only_reading_a_version_writes_nothing(tmp_path: Path) -> None:
    version = CheckpointStore(str(tmp_path), "k").save(1)
    before = sorted((tmp_path / "k").iterdir())
    assert CheckpointStore(str(tmp_path), "k").load(version) == 1
    assert sorted((tmp_path / "k").iterdir()) == before


def test_one_that_saves_before_it_loads_goes_on_after_what_is_there(tmp_path: Path) -> None:
    CheckpointStore(str(tmp_path), "k").save("first")
    CheckpointStore(str(tmp_path), "k").save("second")
    assert CheckpointStore(str(tmp_path), "k").load() == "second"


@pytest.mark.parametrize("damage", [b"", b"short", b"AKTISCP1" + bytes(40)])
def test_a_damaged_version_is_passed_over_while_there_is_another(tmp_path: Path, damage: bytes) -> None:
    store = CheckpointStore(str(tmp_path), "k")
    first, second = store.save(1), store.save(2)
    (tmp_path / "k" / f"{second}.checkpoint").write_bytes(damage)
    assert store.load() == 1
    (tmp_path / "k" / f"{first}.checkpoint").write_bytes(damage)
    with pytest.raises(CheckpointError, match="is damaged"):
        store.load()


class Renamed:
    """A class that is not there any more when its instance is loaded."""


def test_no_older_version_is_loaded_because_the_storage_or_a_class_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(str(tmp_path), "k")
    store.save("older")
    newest = store.save(Renamed())
    read = LocalStorage.read

    def fail(storage: LocalStorage, name: str) -> bytes:
        if name.startswith(newest):
            raise error
        return read(storage, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "read", fail)
        error: OSError = OSError(5, "Input/output error")
        with pytest.raises(CheckpointError, match=r"could not be read .*Input/output error"):
            store.load()
        error = FileNotFoundError(2, "another process has forgotten it")
        assert store.load() == "older"
    monkeypatch.delattr(f"{__name__}.Renamed")
    with pytest.raises(CheckpointError, match=r"could not be unpickled .*Renamed"):
        store.load()


def test_what_dead_processes_have_begun_to_write_is_removed(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path), "k")
    folder = tmp_path / "k"
    folder.mkdir()
    parts = [folder / f"00000001-00000000000{i}.checkpoint.{i}.part" for i in range(2)]
    for part in parts:
        part.write_bytes(b"half")
    with parts[0].open("rb") as written:
        fcntl.flock(written, fcntl.LOCK_EX)  # as a living process does
        store.save(1)
        assert [part.exists() for part in parts] == [True, False]
    store.clear()
    assert not folder.exists()


def test_a_part_that_was_taken_for_a_dead_process_s_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(str(tmp_path), "k")
    store.load()

    def remove(*_: Any) -> None:
        monkeypatch.undo()
        for part in (tmp_path / "k").glob("*.part"):
            part.unlink()

    monkeypatch.setattr("fcntl.flock", remove)
    store.save(1)
    assert CheckpointStore(str(tmp_path), "k").load() == 1


@pytest.mark.parametrize(("key", "keep"), [("a/b", 1), ("..", 1), ("", 1), ("k", 0), ("k", True)])
def test_a_store_checks_its_arguments(tmp_path: Path, key: str, keep: int) -> None:
    with pytest.raises(ValueError, match="of a checkpoint must"):
        CheckpointStore(str(tmp_path), key, keep=keep)


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(str(tmp_path), "k")
    store.save(1)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(CheckpointError, match=r"could not be written: OSError.*No space left"):
            store.save(2)
    assert len(list((tmp_path / "k").glob("*-*"))) == 1
    assert store.load() == 1


def test_what_is_no_checkpoint_is_left_alone(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path), "k")
    store.save(1)
    (tmp_path / "k" / "notes.txt").write_text("mine")
    store.clear()
    assert [path.name for path in (tmp_path / "k").iterdir()] == ["notes.txt"]


def test_other_schemes_need_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(CheckpointError, match="need the package fsspec"):
        CheckpointStore("s3://bucket/prefix", "k")


class Fsspec:
    """As much of fsspec as is used, over a dictionary."""

    def __init__(self) -> None:
        self.core = self
        self.files: dict[str, bytes] = {}

    def url_to_fs(self, url: str) -> tuple[Any, str]:
        return self, url.partition("://")[2]

    def ls(self, path: str, *, detail: bool, refresh: bool) -> list[str]:
        if not any(name.startswith(path + "/") for name in self.files):
            raise FileNotFoundError(path)
        return [name for name in self.files if name.startswith(path + "/")]

    def makedirs(self, path: str, *, exist_ok: bool) -> None:
        assert exist_ok

    def cat_file(self, path: str) -> bytes:
        return self.files[path]

    def exists(self, path: str) -> bool:
        return path in self.files

    def pipe_file(self, path: str, data: bytes, mode: str = "overwrite") -> None:
        if mode == "create" and path in self.files:
            raise FileExistsError(path)
        self.files[path] = data

    def rm_file(self, path: str) -> None:
        del self.files[path]


class FsspecWithoutExclusiveWrites(Fsspec):
    """As some file systems are."""

    def pipe_file(self, path: str, data: bytes) -> None:  # type: ignore[override]
        self.files[path] = data


@pytest.mark.parametrize("kind", [Fsspec, FsspecWithoutExclusiveWrites])
def test_a_marker_of_an_object_store_is_created_once(
    kind: type[Fsspec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", kind())
    storage = RemoteStorage("s3://bucket/prefix")
    storage.create("marker")
    with pytest.raises(FileExistsError):
        storage.create("marker")


def test_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fsspec()
    monkeypatch.setitem(sys.modules, "fsspec", fake)
    store = CheckpointStore("s3://bucket/prefix/", "k")
    assert store.load() is None
    for i in range(3):
        store.save(i)
    versions = [f"00000001-00000000000{i}.checkpoint" for i in (2, 3)]
    assert sorted(fake.files) == [f"bucket/prefix/k/{name}" for name in (*versions, "00000001.epoch")]
    assert CheckpointStore("s3://bucket/prefix", "k").load() == 2
    store.clear()
    assert not fake.files


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "relative/path"}, "absolute path"),
        ({"url": ""}, "absolute path"),
        ({"every_calls": 0}, "every_calls"),
        ({"every_calls": True}, "every_calls"),
        ({"every_s": 0}, "every_s"),
        ({"keep": 0}, "keep"),
        ({"key": "a/b"}, "key"),
        ({"key": "../up"}, "key"),
    ],
)
def test_bad_options(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Checkpoint(**{"url": "/tmp", **fields})
