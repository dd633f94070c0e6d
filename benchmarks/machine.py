"""What machine a result comes from."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def facts() -> dict[str, Any]:
    """Processor, memory, kernel, Python, time, and how busy the machine was when the run began."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _first_value(Path("/proc/cpuinfo"), "model name"),
        "processors": os.cpu_count(),
        "memory_mib": int(_first_value(Path("/proc/meminfo"), "MemTotal").split()[0]) // 1024,
        "shm_mib": _shm_mib(),
        "kernel": platform.release(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average_1min": os.getloadavg()[0],
        "revision": _revision(),
    }


def _first_value(path: Path, key: str) -> str:
    """The value of the first ``key: value`` line of a /proc file, or ``"0"`` when it has none."""
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "0"


def _shm_mib() -> int:
    status = os.statvfs("/dev/shm")
    return status.f_blocks * status.f_frsize // 2**20


def _revision() -> str:
    """The commit that was measured; empty outside a git checkout."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip()


def versions(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """The installed versions of packages in the environment of another interpreter."""
    program = (
        "import importlib.metadata as m, json, sys; "
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    run = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    installed: dict[str, str] = json.loads(run.stdout)
    return {name: installed[name] for name in packages if name in installed}


def own_version() -> str:
    """The version of Aktis here; ``"not installed"`` when it is not."""
    try:
        return importlib.metadata.version("aktis")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
