"""What the object store of a running cluster says about itself, for tests that wait for it."""

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

PREFIX: Final = "aktis_plasma_"
TIMEOUT_S: Final = 20.0


class StoreGauges:
    """Reads the metrics of one store; picklable, so that tasks may wait too."""

    def __init__(self, session_dir: str) -> None:
        """Look at the store of the cluster whose files are there."""
        record = json.loads(Path(session_dir, "run", "plasma.json").read_text())
        self._url = f"http://{record['metrics_address']}/metrics"

    def read(self, name: str) -> float:
        """Return one gauge, named without its prefix."""
        with urllib.request.urlopen(self._url, timeout=TIMEOUT_S) as reply:
            for line in reply.read().decode().splitlines():
                if line.startswith(f"{PREFIX}{name} "):
                    return float(line.split()[1])
        raise KeyError(name)

    def wait_until(self, name: str, condition: Callable[[float], bool]) -> None:
        """Ask until the gauge satisfies the condition; what processes tell the store is one-way."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition(value := self.read(name)):
            assert time.monotonic() < deadline_s, f"{name} stays {value}"

    def wait_for(self, name: str, value: float) -> None:
        """Wait until the gauge has this value."""
        self.wait_until(name, lambda now: now == value)
