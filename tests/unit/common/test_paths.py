"""Session directories are private, complete and short enough for sockets."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from aktis._common import paths


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # pytest's own directories have names too long for sockets.
    with tempfile.TemporaryDirectory(prefix="ak-", dir="/tmp") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield Path(directory)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_session_is_private_and_has_a_token(base: Path) -> None:
    session = paths.create_session()
    assert session.root.parent == base / "aktis"
    assert len(session.root.name) == len("s-") + 8
    assert all(mode(directory) == 0o700 for directory in session.directories())
    assert mode(session.token_file) == 0o600
    assert len(paths.read_token(session.token_file)) == 64
    assert paths.create_session().root != session.root


def test_every_path_lies_in_the_session() -> None:
    root = Path("/run/x/s-01234567")
    session = paths.SessionPaths.in_session(root)
    assert session.worker_socket(bytes(16)) == root / "sock" / ("00" * 16 + ".sock")
    assert session.daemon_record("gcs") == root / "run" / "gcs.json"
    assert session.plasma_grpc_socket == root / "plasma-grpc.sock"


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_created(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 100)
    with pytest.raises(ValueError, match="the system allows 107: choose a shorter"):
        paths.SessionPaths.in_session(root).create()
    assert not root.exists()


def test_the_longest_allowed_path_can_be_bound() -> None:
    paths.check_socket_path(Path("/" + "x" * 106))
    with pytest.raises(ValueError, match="has 108 bytes"):
        paths.check_socket_path(Path("/" + "x" * 107))


def test_without_a_runtime_directory_the_temporary_folder_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for value in ("", str(tmp_path / "absent")):
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        assert paths.base_dir() == tmp_path / f"aktis-{os.getuid()}"


def test_a_base_directory_that_others_can_write_is_refused(base: Path) -> None:
    (base / "aktis").mkdir()
    (base / "aktis").chmod(0o777)
    with pytest.raises(PermissionError, match="nobody else can write"):
        paths.create_session()


def test_a_link_in_place_of_the_base_directory_is_refused(base: Path, tmp_path: Path) -> None:
    (base / "aktis").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="must be a directory"):
        paths.create_session()


def test_a_session_that_cannot_be_completed_leaves_nothing(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, _token: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paths, "write_token", refuse)
    with pytest.raises(OSError, match="No space"):
        paths.create_session()
    assert list((base / "aktis").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "permissions", "error", "text"),
    [
        ("secret\n", 0o644, PermissionError, "chmod 600"),
        ("\n", 0o600, ValueError, "1 to 256 bytes, got 0"),
        ("x" * 257, 0o600, ValueError, "got 257"),
    ],
)
def test_a_token_file_is_checked(
    tmp_path: Path, content: str, permissions: int, error: type[Exception], text: str
) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(permissions)
    with pytest.raises(error, match=text):
        paths.read_token(path)


def test_a_token_is_never_replaced(tmp_path: Path) -> None:
    paths.write_token(tmp_path / "token", "first")
    with pytest.raises(FileExistsError):
        paths.write_token(tmp_path / "token", "second")
    assert paths.read_token(tmp_path / "token") == "first"


def test_write_atomically_replaces_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"two"):
        paths.write_atomically(path, content, durable=True)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    target = tmp_path / "directory"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        paths.write_atomically(target, b"x")
    assert sorted(tmp_path.iterdir()) == [target, path]


def test_remove_tree_removes_sockets_and_links_but_not_what_they_point_to(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    (root / "a" / "b").mkdir(parents=True)
    other.mkdir()
    (other / "kept").touch()
    (root / "a" / "link").symlink_to(other)
    os.mkfifo(root / "a" / "b" / "pipe")
    paths.remove_tree(root)
    assert not root.exists()
    assert (other / "kept").exists()
    paths.remove_tree(root)
