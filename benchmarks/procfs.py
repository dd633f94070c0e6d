"""Processes and their memory, from /proc."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PROC = Path("/proc")


def parse_pss_kib(smaps_rollup: str) -> int:
    """The proportional set size in KiB named by the text of ``/proc/PID/smaps_rollup``."""
    for line in smaps_rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise ValueError("no 'Pss:' line in smaps_rollup")


def parse_parent(stat: str) -> int:
    """The parent's pid in the text of ``/proc/PID/stat``; the name before it may hold blanks and brackets."""
    return int(stat[stat.rindex(")") + 2 :].split()[1])


def descendants_of(root: int, parents: Mapping[int, int]) -> set[int]:
    """All pids below ``root`` in the tree that ``parents`` (pid to parent's pid) describes."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    frontier = [root]
    while frontier:
        for pid in children.get(frontier.pop(), ()):
            if pid not in found:
                found.add(pid)
                frontier.append(pid)
    return found


def _stats() -> Iterator[tuple[int, str]]:
    for entry in os.listdir(PROC):
        if entry.isdigit():
            try:
                yield int(entry), (PROC / entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # gone since the listing


def descendants(root: int) -> set[int]:
    """All living pids below ``root`` now; zombies are not alive."""
    parents = {
        pid: parse_parent(stat) for pid, stat in _stats() if stat[stat.rindex(")") + 2 :].split()[0] != "Z"
    }
    return descendants_of(root, parents)


def name_of(pid: int) -> str:
    """The short name of a process, or ``"?"`` when it has gone."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return "?"


def pss_mib(pids: Iterable[int]) -> float:
    """Proportional set size of these processes together, in MiB; those that have gone count nothing."""
    total_kib = 0
    for pid in pids:
        try:
            text = (PROC / str(pid) / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if text:
            total_kib += parse_pss_kib(text)
    return total_kib / 1024


def wait_gone(root: int, timeout_s: float) -> set[int]:
    """Waits until ``root`` has no living descendant; returns those that are left when the time is up."""
    deadline = time.monotonic() + timeout_s
    while left := descendants(root):
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            return left
        _wait_any_exit(left, remaining_s)
    return set()


def _wait_any_exit(pids: set[int], timeout_s: float) -> None:
    """Returns when one of the processes exits (or has exited already), or when the time is up."""
    poller = select.poll()
    descriptors: list[int] = []
    try:
        for pid in pids:
            try:
                descriptors.append(os.pidfd_open(pid))
            except ProcessLookupError:
                return
            poller.register(descriptors[-1], select.POLLIN)
        poller.poll(timeout_s * 1000)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
