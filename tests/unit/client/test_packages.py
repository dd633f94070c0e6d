"""Packing local files: what goes in, how it is named, that it is sent once, how large it may be."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from aktis._runtime.environments import packages
from aktis._runtime.environments.packages import Uploader, check_size, digest_of, list_files, pack


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def names(root: Path, *excludes: str, top: str = "") -> list[str]:
    return [file.name for file in list_files(root, excludes, top)]


class FakeControl:
    """The key-value store of a cluster."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.puts: list[bytes] = []

    def kv_get(self, namespace: str, key: bytes) -> bytes | None:
        return self.values.get(key)

    def kv_put(self, namespace: str, key: bytes, value: bytes, *, overwrite: bool, timeout_s: float) -> None:
        self.puts.append(key)
        self.values[key] = value


def uploader(control: FakeControl) -> Uploader:
    fake: Any = control
    return Uploader(fake)


def test_everything_below_the_folder_in_order(tmp_path: Path) -> None:
    make(tmp_path, "b.py", "a/c.py", "a/b/d.txt")
    assert names(tmp_path) == ["a/b/d.txt", "a/c.py", "b.py"]
    assert names(tmp_path, top="pkg") == ["pkg/a/b/d.txt", "pkg/a/c.py", "pkg/b.py"]


def test_excludes_ignore_files_and_what_nobody_wants(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "a.pyc", "data/big.bin", "data/small.txt", "sub/x.tmp", "sub/y", "sub/deep/x.tmp")
    make(tmp_path, ".git/config", "__pycache__/a.pyc", ".venv/bin/python", "x.tmp")
    (tmp_path / "sub" / ".gitignore").write_text("*.tmp\n!deep/x.tmp\n")
    found = names(tmp_path, "*.pyc", "/data/*", "!small.txt", "!/data/small.txt")
    assert found == ["a.py", "data/small.txt", "sub/.gitignore", "sub/deep/x.tmp", "sub/y", "x.tmp"]


def test_links_are_followed_but_not_for_ever(tmp_path: Path) -> None:
    make(tmp_path, "real/a.py")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == ["link/a.py", "real/a.py"]


def test_the_digest_is_of_names_modes_and_contents(tmp_path: Path) -> None:
    one, two = make(tmp_path / "1", "a", "b"), make(tmp_path / "2", "a", "b")
    assert digest_of(list_files(one)) == digest_of(list_files(two))
    seen = {digest_of(list_files(one))}
    (two / "a").chmod(0o755)
    seen.add(digest_of(list_files(two)))
    (two / "a").write_text("other")
    seen.add(digest_of(list_files(two)))
    (two / "a").rename(two / "c")
    seen.add(digest_of(list_files(two)))
    assert len(seen) == 4


def test_equal_files_make_equal_packages(tmp_path: Path) -> None:
    make(tmp_path, "a/x.py", "run.sh")
    (tmp_path / "run.sh").chmod(0o755)
    first, second = io.BytesIO(), io.BytesIO()
    pack(list_files(tmp_path), first)
    os.utime(tmp_path / "run.sh", (0, 0))
    pack(list_files(tmp_path), second)
    assert first.getvalue() == second.getvalue()
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == ["a/x.py", "run.sh"]
        assert archive.read("a/x.py") == b"a/x.py"
        modes = [info.external_attr >> 16 for info in archive.infolist()]
    assert modes == [0o644, 0o755]


def test_what_is_too_large_is_refused_with_its_largest_files(tmp_path: Path) -> None:
    make(tmp_path, "small")
    (tmp_path / "model.bin").write_bytes(bytes(3000))
    with pytest.raises(ValueError, match=r"(?s)more than the .* largest files:.*model\.bin.*small.*excludes"):
        check_size(list_files(tmp_path), "working_dir", limit_bytes=1000)


def test_a_package_is_sent_once_in_chunks_and_its_size_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "PACKAGE_CHUNK_BYTES", 1000)
    (tmp_path / "random").write_bytes(os.urandom(2500))
    control = FakeControl()
    uri = uploader(control).folder(tmp_path, (), as_module=False)
    digest = uri.removeprefix("package://").encode()
    assert control.puts == [digest + b"/0", digest + b"/1", digest + b"/2", digest]
    whole = b"".join(control.values[key] for key in control.puts[:-1])
    assert len(whole) == int(control.values[digest])
    assert uploader(control).folder(tmp_path, (), as_module=False) == uri
    assert len(control.puts) == 4, "another process of the cluster has sent it already"


def test_a_module_keeps_its_folder(tmp_path: Path) -> None:
    make(tmp_path, "mymodule/__init__.py")
    control = FakeControl()
    uploader(control).folder(tmp_path / "mymodule", (), as_module=True)
    with zipfile.ZipFile(io.BytesIO(control.values[control.puts[0]])) as archive:
        assert archive.namelist() == ["mymodule/__init__.py"]
