"""Clusters of this user: the one that ``aktis start`` left running, and dead ones to clear away."""

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from aktis._common.paths import SessionPaths, base_dir, current_cluster_file, write_atomically
from aktis._common.records import DaemonRecord, start_ticks

_NEW_SESSION_GRACE_S: Final = 60.0


@dataclass(frozen=True)
class CurrentCluster:
    """The content of ``<base>/current.json``."""

    session_dir: str
    supervisor_pid: int
    start_ticks: int

    def is_alive(self) -> bool:
        """Say whether its supervisor still runs; a reused pid does not count."""
        return start_ticks(self.supervisor_pid) == self.start_ticks

    @property
    def paths(self) -> SessionPaths:
        """Where its files lie."""
        return SessionPaths.in_session(Path(self.session_dir))

    def write(self, path: Path) -> None:
        """Write the record so that a reader never sees a part of it."""
        write_atomically(path, json.dumps(asdict(self)).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> "CurrentCluster | None":
        """Return the record, None when there is none or it is not valid."""
        try:
            return cls(**json.loads(path.read_bytes()))
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None


def current_cluster() -> CurrentCluster | None:
    """Return the cluster that ``aktis start`` left running for this user, if it still runs."""
    cluster = CurrentCluster.read(current_cluster_file())
    return cluster if cluster is not None and cluster.is_alive() else None


def sweep_stale(now_s: float | None = None) -> list[Path]:
    """Remove session directories whose supervisor has ended without removing them; return what was removed.

    That takes a kill of supervisor and driver at once, or a power failure: everything else cleans up itself.
    A directory without a record may belong to a supervisor that is just starting and is left alone at first.
    """
    removed = []
    for root in base_dir().glob("s-????????"):
        if _is_stale(root, time.time() if now_s is None else now_s):
            shutil.rmtree(root, ignore_errors=True)
            removed.append(root)
    return removed


def _is_stale(root: Path, now_s: float) -> bool:
    record = DaemonRecord.read(SessionPaths.in_session(root).daemon_record("supervisor"))
    if record is not None:
        return not record.is_alive()
    try:
        return now_s - root.stat().st_mtime > _NEW_SESSION_GRACE_S
    except FileNotFoundError:
        return False  # its owner has just removed it
