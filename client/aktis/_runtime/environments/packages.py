"""Local files on their way into the cluster: listed, named by their content, packed, uploaded once.

A package is a zip file in chunks in the key-value store. Its name is the digest of the paths and contents, so
what is there already is neither packed nor sent again.
"""

import hashlib
import logging
import os
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from aktis._common.environments import (
    ARCHIVE_SCHEME,
    PACKAGE_CHUNK_BYTES,
    PACKAGE_LIMIT_BYTES,
    PACKAGE_SCHEME,
    PACKAGES_NAMESPACE,
)
from aktis._runtime.control import Control
from aktis._runtime.environments.gitignore import IgnoreRules

DEFAULT_EXCLUDES: Final = (".git/", ".venv/", "venv/", "__pycache__/")
LARGEST_SHOWN: Final = 10
READ_BYTES: Final = 1 << 20
UPLOAD_TIMEOUT_S: Final = 120.0
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)

_log = logging.getLogger("aktis")


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that goes into a package."""

    path: str
    """On this disk."""
    name: str
    """In the package, with ``/`` between parts."""
    size_bytes: int
    executable: bool


def list_files(
    root: Path,
    excludes: Sequence[str] = (),
    top: str = "",
    *,
    default_excludes: Sequence[str] = DEFAULT_EXCLUDES,
) -> list[PackedFile]:
    """List what a folder's package holds, in the order of the names.

    Args:
        excludes: Patterns as in .gitignore, relative to ``root``; files of that name are honoured, too.
        top: A folder in the package that everything goes into.
    """
    rules = [("", IgnoreRules([*default_excludes, *excludes]))]
    found = _walk(str(root), "", rules, frozenset({os.path.realpath(root)}))
    prefix = f"{top}/" if top else ""
    files = [PackedFile(f.path, prefix + f.name, f.size_bytes, f.executable) for f in found]
    return sorted(files, key=lambda file: file.name)


def _walk(
    folder: str, name: str, rules: list[tuple[str, IgnoreRules]], above: frozenset[str]
) -> Iterator[PackedFile]:
    ignore_file = os.path.join(folder, ".gitignore")
    if os.path.isfile(ignore_file):
        lines = Path(ignore_file).read_text("utf-8", "replace").splitlines()
        rules = [*rules, (name, IgnoreRules(lines))]
    for entry in os.scandir(folder):
        path = name + entry.name
        is_folder = entry.is_dir()
        if _is_left_out(path, is_folder, rules):
            continue
        if is_folder:
            real = os.path.realpath(entry.path)
            if real not in above:  # a link that leads back up would have no end
                yield from _walk(entry.path, path + "/", rules, above | {real})
        elif entry.is_file():
            status = entry.stat()
            yield PackedFile(entry.path, path, status.st_size, bool(status.st_mode & stat.S_IXUSR))


def _is_left_out(path: str, is_folder: bool, rules: list[tuple[str, IgnoreRules]]) -> bool:
    for base, patterns in reversed(rules):
        decision = patterns.decide(path.removeprefix(base), is_folder)
        if decision is not None:
            return decision
    return False


def check_size(files: Iterable[PackedFile], what: str, limit_bytes: int = PACKAGE_LIMIT_BYTES) -> None:
    """Raise ValueError, with the largest files, when a package would be too large."""
    files = list(files)
    total_bytes = sum(file.size_bytes for file in files)
    if total_bytes <= limit_bytes:
        return
    largest = sorted(files, key=lambda file: file.size_bytes, reverse=True)[:LARGEST_SHOWN]
    listed = "\n".join(f"  {file.size_bytes / 2**20:10.1f} MiB  {file.name}" for file in largest)
    raise ValueError(
        f"{what} has {total_bytes / 2**20:.1f} MiB, more than the {limit_bytes / 2**20:g} MiB that a package "
        f"may have. Its largest files:\n{listed}\nLeave out what workers do not need by "
        "runtime_env={'excludes': [...]} or a .gitignore file; put() large data instead, or read it from "
        "shared storage"
    )


def digest_of(files: Iterable[PackedFile]) -> str:
    """Return the name of the package of these files: a hash of names, modes and contents."""
    result = hashlib.blake2b(digest_size=16)
    for file in files:
        content = _file_digest(file.path)
        result.update(f"{file.name}\0{int(file.executable)}\0{content}\n".encode("utf-8", "surrogateescape"))
    return result.hexdigest()


def _file_digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def pack(files: Iterable[PackedFile], target: IO[bytes]) -> None:
    """Write the package of these files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in files:
            info = zipfile.ZipInfo(file.name, _EARLIEST)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o755 if file.executable else 0o644) << 16
            with open(file.path, "rb") as source, archive.open(info, "w") as packed:
                while data := source.read(READ_BYTES):
                    packed.write(data)


class Uploader:
    """Brings local files into the cluster. Any thread."""

    def __init__(self, control: Control) -> None:
        """Use the cluster's key-value store."""
        self._control = control

    def folder(self, root: Path, excludes: Sequence[str], *, as_module: bool) -> str:
        """Upload a folder and return its URI.

        Args:
            as_module: The folder itself is what is imported, not what is in it.

        Raises:
            ValueError: it is too large.
            OSError: a file cannot be read.
        """
        root = root.resolve()
        files = list_files(root, excludes, root.name if as_module else "")
        return self.files(files, str(root))

    def files(self, files: Sequence[PackedFile], what: str) -> str:
        """Upload a package of files and return its URI; raises as `folder` does."""
        check_size(files, what)
        digest = digest_of(files)
        if not self._is_present(digest):
            with tempfile.TemporaryFile() as packed:
                pack(files, packed)
                self._upload(digest, packed, what)
        return PACKAGE_SCHEME + digest

    def archive(self, path: Path) -> str:
        """Upload a zip file or wheel as it is and return its URI; raises as `folder` does."""
        size_bytes = path.stat().st_size
        check_size([PackedFile(str(path), path.name, size_bytes, False)], str(path))
        digest = _file_digest(str(path))
        if not self._is_present(digest):
            with path.open("rb") as file:
                self._upload(digest, file, str(path))
        return ARCHIVE_SCHEME + digest

    def _is_present(self, digest: str) -> bool:
        # Asked each time: what nobody uses is removed in the end, and being asked for keeps it for a while.
        return self._control.kv_get(PACKAGES_NAMESPACE, digest.encode()) is not None

    def _upload(self, digest: str, file: IO[bytes], what: str) -> None:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        _log.info("uploading %s (%.1f MiB) as package %s", what, size_bytes / 2**20, digest)
        for number in range(-(-size_bytes // PACKAGE_CHUNK_BYTES)):
            self._put(f"{digest}/{number}", file.read(PACKAGE_CHUNK_BYTES))
        self._put(digest, str(size_bytes).encode())  # last: who sees it finds the rest

    def _put(self, key: str, value: bytes) -> None:
        self._control.kv_put(
            PACKAGES_NAMESPACE, key.encode(), value, overwrite=True, timeout_s=UPLOAD_TIMEOUT_S
        )
