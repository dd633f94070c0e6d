"""Versions of a state in a directory, and the options of checkpoints."""

from pathlib import Path
from typing import Any

import pytest
from aktis.checkpoint import Checkpoint, CheckpointError, CheckpointStore


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


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(str(tmp_path), "k")
    store.save(1)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(CheckpointError, match=r"could not be written: OSError.*No space left"):
        store.save(2)
    assert len(list((tmp_path / "k").iterdir())) == 1
    assert store.load() == 1


def test_what_is_no_checkpoint_is_left_alone(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path), "k")
    store.save(1)
    (tmp_path / "k" / "notes.txt").write_text("mine")
    store.clear()
    assert [path.name for path in (tmp_path / "k").iterdir()] == ["notes.txt"]


def test_other_schemes_need_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
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

    def pipe_file(self, path: str, data: bytes) -> None:
        self.files[path] = data

    def rm_file(self, path: str) -> None:
        del self.files[path]


def test_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fsspec()
    monkeypatch.setitem(__import__("sys").modules, "fsspec", fake)
    store = CheckpointStore("s3://bucket/prefix/", "k")
    assert store.load() is None
    for i in range(3):
        store.save(i)
    assert sorted(fake.files) == [f"bucket/prefix/k/00000001-00000000000{i}.checkpoint" for i in (2, 3)]
    assert CheckpointStore("s3://bucket/prefix", "k").load() == 2


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
