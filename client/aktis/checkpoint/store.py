"""Versions of one state in durable storage.

A version is written whole or not at all: locally to another name first, which is renamed when it is on the
disk; in object stores by their own rules. A digest in front of it tells a damaged one, and then an older
one is taken. No other failure makes an old state the newest one.

Versions are named EPOCH-NUMBER. Everybody who loads begins a new epoch, so that what a process writes that
should be dead by now (its machine was cut off) is never newer than what its successor writes. A marker, which
only one can create, makes an epoch known before anything is saved in it.
"""

import contextlib
import fcntl
import hashlib
import os
import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from aktis._runtime.pickling import dumps
from aktis.exceptions import AktisError

_MAGIC: Final = b"AKTISCP1"
_DIGEST_BYTES: Final = 32
_NAME: Final = re.compile(r"(\d{8})-(\d{12})\.checkpoint")
_PART: Final = re.compile(_NAME.pattern + r"\.\d+\.part")
_MARKER: Final = re.compile(r"(\d{8})\.epoch")
_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_EPOCH_ATTEMPTS: Final = 100


class CheckpointError(AktisError):
    """A checkpoint could not be written or read; the message says where and why."""


class _NotWholeError(CheckpointError):
    """A version is damaged, or has gone since it was listed: another one is as good as there is."""


def check_key_and_keep(key: str | None, keep: int) -> None:
    """Raise ValueError for a key that is no name of a directory, or a number that keeps nothing."""
    if type(keep) is not int or keep < 1:
        raise ValueError(f"keep of a checkpoint must be a positive int, got {keep!r}")
    if key is not None and not _KEY.fullmatch(key):
        raise ValueError(
            f"the key of a checkpoint must consist of letters, digits, '_', '.' and '-', got {key!r}"
        )


class Storage(Protocol):
    """A flat directory of files."""

    def names(self) -> list[str]: ...
    def read(self, name: str) -> bytes: ...
    def create(self, name: str) -> None: ...
    def write(self, name: str, data: bytes) -> None: ...
    def remove(self, name: str) -> None: ...
    def remove_leftovers(self) -> None: ...
    def remove_directory(self) -> None: ...


class LocalStorage:
    """A directory of this machine (or one that is mounted)."""

    def __init__(self, directory: Path) -> None:
        """Nothing is created before the first write."""
        self._directory = directory

    def names(self) -> list[str]:
        """The files there are; none when the directory is not there."""
        try:
            return os.listdir(self._directory)
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        """The content of one."""
        return (self._directory / name).read_bytes()

    def create(self, name: str) -> None:
        """Create an empty one; raise FileExistsError when it is there."""
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / name).touch(exist_ok=False)
        self._sync()

    def write(self, name: str, data: bytes) -> None:
        """Write one so that it is there whole, even if the machine loses its power now, or not at all."""
        self._directory.mkdir(parents=True, exist_ok=True)
        part = self._directory / f"{name}.{os.getpid()}.part"
        try:
            with _opened_and_locked(part) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                part.rename(self._directory / name)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._sync()

    def _sync(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def remove_leftovers(self) -> None:
        """Forget what processes have begun to write that died then. Who still writes holds a lock."""
        for name in filter(_PART.fullmatch, self.names()):
            path = self._directory / name
            # Another process may have removed it; where there are no locks nobody knows, and it stays.
            with contextlib.suppress(OSError), path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def remove(self, name: str) -> None:
        """Forget one."""
        (self._directory / name).unlink(missing_ok=True)

    def remove_directory(self) -> None:
        """Remove it if it is empty."""
        try:
            self._directory.rmdir()
        except OSError:
            return


def _opened_and_locked(path: Path) -> BinaryIO:
    while True:
        file = path.open("wb")
        with contextlib.suppress(OSError):  # there are file systems without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # before it was locked, somebody took it for a dead process's


class RemoteStorage:
    """Whatever fsspec reaches. Object stores show a file when it is complete."""

    def __init__(self, url: str) -> None:
        """Find the file system of a URL.

        Raises:
            CheckpointError: fsspec is not installed, or does not know the scheme.
        """
        try:
            import fsspec  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise CheckpointError(f"checkpoints at {url} need the package fsspec: install it") from None
        try:
            self._files, self._directory = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise CheckpointError(f"checkpoints cannot be kept at {url}: {error}") from error

    def names(self) -> list[str]:
        """The files there are."""
        try:
            found = self._files.ls(self._directory, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return [str(path).rsplit("/", 1)[-1] for path in found]

    def read(self, name: str) -> bytes:
        """The content of one."""
        data: bytes = self._files.cat_file(f"{self._directory}/{name}")
        return data

    def create(self, name: str) -> None:
        """Create an empty one; raise FileExistsError when it is there."""
        self._files.makedirs(self._directory, exist_ok=True)
        path = f"{self._directory}/{name}"
        try:
            self._files.pipe_file(path, b"", mode="create")
        except (TypeError, NotImplementedError):  # nothing there tells two apart that create it in one moment
            if self._files.exists(path):
                raise FileExistsError(path) from None
            self._files.pipe_file(path, b"")

    def write(self, name: str, data: bytes) -> None:
        """Write one."""
        self._files.makedirs(self._directory, exist_ok=True)
        self._files.pipe_file(f"{self._directory}/{name}", data)

    def remove(self, name: str) -> None:
        """Forget one."""
        self._files.rm_file(f"{self._directory}/{name}")

    def remove_leftovers(self) -> None:
        """Object stores have none."""

    def remove_directory(self) -> None:
        """Object stores have no empty directories."""


def storage_at(url: str, key: str) -> Storage:
    """Return the storage of one state.

    Raises:
        CheckpointError: there is none for such a URL.
    """
    scheme, separator, path = url.partition("://")
    if not separator:
        return LocalStorage(Path(url) / key)
    if scheme == "file":
        return LocalStorage(Path(path) / key)
    return RemoteStorage(f"{url.rstrip('/')}/{key}")


class CheckpointStore:
    """The versions of one state, also for programs that save and load by themselves. Not for several threads.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     version = CheckpointStore(folder, "my-state").save({"step": 3})
        ...     CheckpointStore(folder, "my-state").load()
        {'step': 3}
    """

    def __init__(self, url: str, key: str, *, keep: int = 2) -> None:
        """Use the versions of ``key`` below ``url``, of which the newest ``keep`` are kept.

        Raises:
            ValueError: ``key`` or ``keep`` makes no sense.
            CheckpointError: no such storage.
        """
        check_key_and_keep(key, keep)
        self._where = f"{url.rstrip('/')}/{key}"
        self._storage = storage_at(url, key)
        self._keep = keep
        self._epoch = 0
        self._number = 0

    def versions(self) -> list[str]:
        """Every version there is, oldest first.

        Raises:
            CheckpointError: the storage failed.
        """
        return sorted(name.removesuffix(".checkpoint") for name in self._names() if _NAME.fullmatch(name))

    def save(self, state: Any) -> str:
        """Store a new version and forget the oldest; return its name.

        Raises:
            CheckpointError: the state cannot be pickled, or the storage failed.
        """
        try:
            data = dumps(state)
        except Exception as error:
            raise self._failure("pickled", error) from error
        return self.save_pickled(data)

    def save_pickled(self, data: bytes) -> str:
        """The second half of `save`."""
        if self._epoch == 0:
            self._begin_epoch()
        if self._number == 0:
            self._remove_leftovers()
        version = f"{self._epoch:08d}-{self._number + 1:012d}"
        try:
            self._storage.write(f"{version}.checkpoint", _MAGIC + _digest(data) + data)
        except Exception as error:
            raise self._failure("written", error) from error
        self._number += 1
        for old in self.versions()[: -self._keep]:
            if old < version:
                self._remove(f"{old}.checkpoint")
        return version

    def load(self, version: str | None = None, default: Any = None) -> Any:
        """Return the state of a version, by default of the newest whole one; ``default`` if there is none.

        Without ``version`` this process goes on from there: what it saves is newer than whatever those save
        that have loaded before. With ``version`` nothing is written to the storage.

        Raises:
            CheckpointError: the storage failed, the state cannot be unpickled, or there are versions and none
                is whole.
        """
        if version is not None:
            return self._read(version)
        self._begin_epoch()
        problem: CheckpointError | None = None
        for candidate in reversed(self.versions()):
            try:
                return self._read(candidate)
            except _NotWholeError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return default

    def clear(self) -> None:
        """Forget every version.

        Raises:
            CheckpointError: the storage failed.
        """
        for name in self._names():
            if _NAME.fullmatch(name) or _MARKER.fullmatch(name):
                self._remove(name)
        self._remove_leftovers()
        self._storage.remove_directory()

    def _begin_epoch(self) -> None:
        for _ in range(_EPOCH_ATTEMPTS):
            epoch = max(self._epochs(), default=0) + 1
            try:
                self._storage.create(_marker(epoch))
            except FileExistsError:
                continue
            except Exception as error:
                raise self._failure("written", error) from error
            epochs = self._epochs()
            if all(other <= epoch for other in epochs):
                break
            self._remove(_marker(epoch))  # that of one who began it long ago, and was succeeded meanwhile
        else:
            raise CheckpointError(
                f"others load the checkpoint at {self._where} all the time, and only one may go on from it"
            )
        self._epoch, self._number = epoch, 0
        for name in self._names():
            if _MARKER.fullmatch(name) and name < _marker(epoch):
                self._remove(name)

    def _epochs(self) -> list[int]:
        found = [_NAME.fullmatch(name) or _MARKER.fullmatch(name) for name in self._names()]
        return [int(match[1]) for match in found if match]

    def _names(self) -> list[str]:
        try:
            return self._storage.names()
        except Exception as error:
            raise self._failure("listed", error) from error

    def _read(self, version: str) -> Any:
        try:
            data = self._storage.read(f"{version}.checkpoint")
        except FileNotFoundError as error:
            raise _NotWholeError(str(self._failure(f"read (version {version})", error))) from error
        except Exception as error:
            raise self._failure(f"read (version {version})", error) from error
        header = len(_MAGIC) + _DIGEST_BYTES
        if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : header] != _digest(data[header:]):
            raise _NotWholeError(f"version {version} of the checkpoint at {self._where} is damaged")
        try:
            return pickle.loads(memoryview(data)[header:])
        except Exception as error:
            raise self._failure(f"unpickled (version {version})", error) from error

    def _remove(self, name: str) -> None:
        try:
            self._storage.remove(name)
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._failure(f"removed (file {name})", error) from error

    def _remove_leftovers(self) -> None:
        try:
            self._storage.remove_leftovers()
        except Exception as error:
            raise self._failure("listed", error) from error

    def _failure(self, verb: str, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"the checkpoint at {self._where} could not be {verb}: {type(error).__name__}: {error}"
        )


def _marker(epoch: int) -> str:
    return f"{epoch:08d}.epoch"


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
