"""Whether the kernel killed something for want of memory since we last looked."""

import re
from pathlib import Path


class OomCounter:
    """Reads the cgroup's count of OOM kills where there is one, else the machine's."""

    def __init__(self) -> None:
        self._path = _counter_file()
        self._seen = self._read()

    def grew(self) -> bool:
        """True when the count is higher than at the last call."""
        before, self._seen = self._seen, self._read()
        return self._seen > before

    def _read(self) -> int:
        try:
            text = self._path.read_text()
        except OSError:
            return 0
        match = re.search(r"^oom_kill (\d+)", text, re.MULTILINE)
        return int(match[1]) if match else 0


def _counter_file() -> Path:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        path = Path("/sys/fs/cgroup" + line.removeprefix("0::")) / "memory.events"
        if line.startswith("0::") and path.exists():
            return path
    return Path("/proc/vmstat")
