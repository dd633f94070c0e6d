"""Follows the files that workers print to, by inotify, and rotates them by size. Belongs to the loop.

A carriage return begins a line anew, as on a terminal, and what it overwrites is not passed on. A line that
is rewritten without ever ending, a progress bar, is passed on as it is every ``REWRITTEN_S``.

Workers write to their own files, not to pipes of the raylet: a raylet that is slow or restarts never blocks
or kills them. One watch on the directory tells which files grew; after each round the watch rests for
``REST_S``, so that a worker that prints in a loop costs a bounded number of reads per second.
"""

import asyncio
import ctypes
import os
import shutil
import struct
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aktis._common.logging import get_logger

REST_S: Final = 0.02
READ_LIMIT_BYTES: Final = 256 * 1024
"""Of one file in one round; the rest comes in the next."""
REWRITTEN_S: Final = 1.0
MAX_PARTIAL_BYTES: Final = 64 * 1024
"""A line without an end is passed on in pieces of this size."""
_IN_MODIFY: Final = 0x2
_EVENT: Final = struct.Struct("iIII")
_IN_Q_OVERFLOW: Final = 0x4000

OnLines = Callable[[int, bool, list[str]], None]


@dataclass(slots=True, eq=False)
class _Followed:
    token: int
    is_stderr: bool
    path: Path
    fd: int
    offset: int = 0
    partial: bytes = b""
    shown: str = ""
    """What was passed on of the line that is being rewritten."""
    shown_at: float = float("-inf")


class LogTail:
    """Follows ``worker-<token>.out`` and ``.err`` in one directory; ``on_lines(token, is_stderr, lines)``."""

    def __init__(self, directory: Path, rotate_bytes: int, rotate_keep: int, on_lines: OnLines) -> None:
        self._directory = directory
        self._rotate_bytes = rotate_bytes
        self._rotate_keep = rotate_keep
        self._on_lines = on_lines
        self._loop = asyncio.get_running_loop()
        self._log = get_logger()
        self._files: dict[str, _Followed] = {}
        self._dirty: dict[str, None] = {}
        self._resting: asyncio.TimerHandle | None = None
        self._inotify = _inotify_open(directory)
        self._loop.add_reader(self._inotify, self._on_readable)

    def follow(self, token: int, stdout_path: str, stderr_path: str) -> None:
        """Start with the files of a new worker; what they hold already is passed on soon."""
        for path, is_stderr in ((Path(stdout_path), False), (Path(stderr_path), True)):
            if path.parent != self._directory or path.name in self._files:
                continue
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError as error:
                self._log.warning("worker_log_unreadable", path=str(path), error=str(error))
                continue
            self._files[path.name] = _Followed(token, is_stderr, path, fd)
            self._dirty[path.name] = None
        self._rest()

    def finish(self, stdout_path: str, stderr_path: str) -> None:
        """The worker is dead: pass on what is left, then stop following. Its last line may have no end."""
        for path in (stdout_path, stderr_path):
            followed = self._files.pop(Path(path).name, None)
            if followed is None:
                continue
            self._dirty.pop(followed.path.name, None)
            while self._read(followed):
                pass
            self._end_partial(followed)
            os.close(followed.fd)

    def read_now(self, tokens: Set[int]) -> None:
        """Pass on at once what some workers have written until now."""
        for followed in self._files.values():
            if followed.token in tokens:
                size_bytes = os.fstat(followed.fd).st_size
                while followed.offset < size_bytes and self._read(followed):
                    pass

    def catch_up(self, tokens: Set[int]) -> None:
        """The same, and lines without an end as they are."""
        self.read_now(tokens)
        for followed in self._files.values():
            if followed.token in tokens:
                self._end_partial(followed)

    def close(self) -> None:
        """Stop following everything."""
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._inotify)
        os.close(self._inotify)
        for followed in self._files.values():
            os.close(followed.fd)
        self._files.clear()

    def _on_readable(self) -> None:
        data = os.read(self._inotify, 65536)
        position = 0
        while position < len(data):
            _, mask, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size
            name = data[position : position + length].rstrip(b"\0").decode()
            position += length
            if mask & _IN_Q_OVERFLOW:  # events were lost: anything may have grown
                self._dirty.update(dict.fromkeys(self._files))
            if name in self._files:
                self._dirty[name] = None
        self._rest()

    def _rest(self) -> None:
        """Wait a moment for more, with the watch off: the kernel merges what happens meanwhile."""
        if self._resting is None:
            self._loop.remove_reader(self._inotify)
            self._resting = self._loop.call_later(REST_S, self._round)

    def _round(self) -> None:
        self._resting = None
        dirty, self._dirty = self._dirty, {}
        for name in dirty:
            followed = self._files.get(name)
            if followed is not None and self._read(followed):
                self._dirty[name] = None
        if self._dirty:
            self._rest()
        else:
            self._loop.add_reader(self._inotify, self._on_readable)

    def _read(self, followed: _Followed) -> bool:
        """Pass on the next part of a file; whether there may be more."""
        try:
            data = os.pread(followed.fd, READ_LIMIT_BYTES, followed.offset)
        except OSError as error:
            self._log.warning("worker_log_unreadable", path=str(followed.path), error=str(error))
            return False
        followed.offset += len(data)
        *lines, followed.partial = (followed.partial + data).split(b"\n")
        texts = [_visible(line) for line in lines]
        if texts:
            if followed.shown and followed.shown == texts[0]:
                del texts[0]
            followed.shown = ""
        self._look_at_partial(followed, texts)
        if texts:
            self._on_lines(followed.token, followed.is_stderr, texts)
        if len(data) == READ_LIMIT_BYTES:
            return True
        if followed.offset >= self._rotate_bytes:
            self._rotate(followed)
        return False

    def _look_at_partial(self, followed: _Followed, texts: list[str]) -> None:
        """Add to ``texts`` what is to be seen of a line that has no end yet."""
        before, rewritten, last = followed.partial.rpartition(b"\r")
        if rewritten and before and last:
            followed.partial = b"\r" + last  # what it has overwritten will not be seen any more
        if len(followed.partial) > MAX_PARTIAL_BYTES:
            texts.append(_visible(followed.partial))
            followed.partial = b""
        now = self._loop.time()
        if rewritten and followed.partial and now >= followed.shown_at + REWRITTEN_S:
            text = _visible(followed.partial)
            if text and text != followed.shown:
                texts.append(text)
                followed.shown, followed.shown_at = text, now

    def _end_partial(self, followed: _Followed) -> None:
        """Pass on a line without an end as if it had ended."""
        text = _visible(followed.partial)
        if text and text != followed.shown:
            self._on_lines(followed.token, followed.is_stderr, [text])
        followed.partial, followed.shown = b"", ""

    def _rotate(self, followed: _Followed) -> None:
        """Copy, then truncate: the worker keeps its descriptor, so the file cannot be renamed away.

        What it writes between the copy's end and the truncation is lost to the file; it is a few
        microseconds.
        """
        try:
            if self._rotate_keep:
                for number in range(self._rotate_keep - 1, 0, -1):
                    older = Path(f"{followed.path}.{number}")
                    if older.exists():
                        older.replace(f"{followed.path}.{number + 1}")
                shutil.copyfile(followed.path, f"{followed.path}.1")
            os.ftruncate(followed.fd, 0)
            followed.offset = 0
        except OSError as error:
            self._log.warning("worker_log_not_rotated", path=str(followed.path), error=str(error))


def _visible(line: bytes) -> str:
    """What a terminal shows of a line: what comes after its last carriage return."""
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")


def _inotify_open(directory: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1", str(directory))
    if libc.inotify_add_watch(fd, os.fsencode(directory), _IN_MODIFY) < 0:
        error = ctypes.get_errno()
        os.close(fd)
        raise OSError(error, "inotify_add_watch", str(directory))
    return fd
