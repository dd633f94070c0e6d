"""What the object store of a running cluster says about itself, for tests that wait for it."""

import time
from collections.abc import Callable
from typing import Final

from tests.support.metrics import scrape

TIMEOUT_S: Final = 20.0


class StoreGauges:
    """Reads the metrics of one store; picklable, so that tasks may wait too."""

    def __init__(self, session_dir: str) -> None:
        """Look at the store of the cluster whose files are there."""
        self._session_dir = session_dir

    def read(self, name: str) -> float:
        """Return one gauge, named without its prefix."""
        return scrape(self._session_dir, "plasma")[f"aktis_plasma_{name}"]

    def wait_until(self, name: str, condition: Callable[[float], bool]) -> None:
        """Ask until the gauge satisfies the condition; what processes tell the store is one-way."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition(value := self.read(name)):
            assert time.monotonic() < deadline_s, f"{name} stays {value}"

    def wait_for(self, name: str, value: float) -> None:
        """Wait until the gauge has this value."""
        self.wait_until(name, lambda now: now == value)
