"""The files of the log directory: those of dead workers, their names, the last lines of one."""

import os
from collections import deque
from pathlib import Path
from typing import Final

from aktis._common.logging import get_logger

LOG_FILES_KEPT: Final = 1_000
"""Files of dead workers that wrote something."""
MAX_FILES: Final = 10_000
MAX_TAIL_BYTES: Final = 4 << 20


class OldLogs:
    """Files of dead workers: empty ones go at once, others when there are too many."""

    def __init__(self) -> None:
        self._log = get_logger()
        self._paths: deque[str] = deque()

    def keep(self, *paths: str) -> None:
        """A worker is dead and has printed into these."""
        for path in paths:
            try:
                if Path(path).stat().st_size:
                    self._paths.append(path)
                else:
                    Path(path).unlink()
            except OSError as error:  # somebody tidies up there; the worker's death has to be acted on
                self._log.warning("worker_log_missing", path=path, error=str(error))
        while len(self._paths) > LOG_FILES_KEPT:
            oldest = Path(self._paths.popleft())
            for file in oldest.parent.glob(oldest.name + "*"):
                file.unlink(missing_ok=True)


def names(directory: Path) -> list[str]:
    """Return the files below a directory, relative to it, sorted; at most `MAX_FILES`."""
    # Not Path.rglob: it fails when somebody removes a directory meanwhile.
    found = (Path(root, name) for root, _, files in os.walk(directory) for name in files)
    return sorted(path.relative_to(directory).as_posix() for path in found if path.is_file())[:MAX_FILES]


def tail(directory: Path, name: str, lines: int) -> bytes | None:
    """Return the last lines of a file, at most `MAX_TAIL_BYTES`; None when there is no such file.

    Args:
        directory: Where ``name``, and what it may be a link to, must be.
        name: As `names` has it.
        lines: How many, 0: as many as fit.
    """
    try:
        path = (directory / name).resolve()
        if not path.is_relative_to(directory.resolve()) or not path.is_file():
            return None
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_TAIL_BYTES))
            data = file.read(MAX_TAIL_BYTES)
    except (OSError, ValueError):  # it was removed just now, or the name is not one
        return None
    if lines:
        return b"".join(data.splitlines(keepends=True)[-lines:])
    return data
