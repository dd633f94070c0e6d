"""What a daemon writes down about itself: its epoch counter and its record for tools."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from aktis._common.paths import write_atomically

State = Literal["starting", "running", "stopping"]


@dataclass(frozen=True)
class DaemonRecord:
    """The content of ``<run_dir>/<name>.json``, there from the start of a daemon to its clean end."""

    name: str
    pid: int
    start_ticks: int
    """Start time of the process in clock ticks since boot: with the pid it names a process for good."""
    epoch: int
    grpc_address: str
    metrics_address: str
    state: State

    def write(self, path: Path) -> None:
        """Write the record so that a reader never sees a part of it."""
        write_atomically(path, json.dumps(asdict(self)).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> "DaemonRecord | None":
        """Return the record in ``path``, None when there is none or it is not valid."""
        try:
            data: dict[str, Any] = json.loads(path.read_bytes())
            return cls(**data)
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None

    def is_alive(self) -> bool:
        """Say whether the process that wrote this record still runs; a reused pid does not count."""
        return start_ticks(self.pid) == self.start_ticks


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, or None when there is no such process.

    A zombie counts as gone: it holds nothing but its exit status.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold spaces and parentheses; fields count from the last one.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def own_record(name: str, epoch: int) -> DaemonRecord:
    """Return the record of the calling process at its start, before any address is known."""
    ticks = start_ticks(os.getpid())
    assert ticks is not None, "the calling process runs"
    return DaemonRecord(name, os.getpid(), ticks, epoch, "", "", "starting")


def next_epoch(state_dir: Path, name: str) -> int:
    """Count one more start of a daemon and return the number; 1 for the first.

    The counter is on the disk before the daemon acts under it. A counter that cannot be read is an error,
    never a silent new beginning: an epoch that repeats would defeat its purpose.

    Raises:
        OSError: the state directory cannot be written.
        ValueError: the file holds something else than a number.
    """
    path = state_dir / f"{name}.epoch"
    try:
        text = path.read_text()
    except FileNotFoundError:
        text = "0"
    if not text.strip().isdigit():
        raise ValueError(
            f"{path} must hold the number of the last start, got {text[:40]!r}: restore or remove it"
        )
    epoch = int(text) + 1
    write_atomically(path, f"{epoch}\n".encode(), durable=True)
    return epoch
