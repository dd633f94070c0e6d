"""How much memory this host, or the control group that this process lives in, still has."""

from collections.abc import Iterator
from pathlib import Path

import psutil


def available_bytes() -> int:
    """Return what could be allocated now."""
    return min([psutil.virtual_memory().available, *group_rooms(Path("/sys/fs/cgroup"), own_group())])


def own_group() -> str:
    """Return the path of this process's control group (version 2) below its mount, empty when unknown."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    return next((line[3:] for line in lines if line.startswith("0::")), "")


def group_rooms(mount: Path, group: str) -> Iterator[int]:
    """Yield the room below each limit on the way from the group up to the root."""
    directory = mount / group.lstrip("/")
    while directory.is_relative_to(mount):
        try:
            limit = (directory / "memory.max").read_text().strip()
            used = int((directory / "memory.current").read_text())
        except OSError:
            limit, used = "max", 0  # no such controller here
        if limit != "max":
            yield max(0, int(limit) - used)
        if directory == mount:
            return
        directory = directory.parent
