"""Where tasks wait without Aktis knowing of it: they look busy. Tests wait for them with a deadline."""

import os
import select
from pathlib import Path
from types import TracebackType
from typing import Final

ENTER_TIMEOUT_S: Final = 30.0


class Gate:
    """Two pipes with names. Made by the test, which alone opens and closes it; tasks get a copy by pickle."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        """Make the pipes in ``folder``."""
        self._entered, self._go = folder / f"{name}.entered", folder / f"{name}.go"
        for path in (self._entered, self._go):
            os.mkfifo(path)
        # Both ways, so that neither opening nor writing ever waits for the other side.
        self._descriptors = {path: os.open(path, os.O_RDWR) for path in (self._entered, self._go)}

    def __getstate__(self) -> dict[str, Path]:
        return {"_entered": self._entered, "_go": self._go}

    # ---- in a task ----

    def enter(self) -> None:
        """Say that the task is here, and wait until it may go on."""
        self.arrive()
        with open(self._go, "rb", buffering=0) as go:
            go.read(1)

    def arrive(self) -> None:
        """Say that the task is here."""
        with open(self._entered, "wb", buffering=0) as entered:
            entered.write(b"x")

    # ---- in the test ----

    def wait_entered(self, tasks: int = 1) -> None:
        """Wait until so many more tasks are here."""
        descriptor = self._descriptors[self._entered]
        for _ in range(tasks):
            ready, _, _ = select.select([descriptor], [], [], ENTER_TIMEOUT_S)
            assert ready, f"no task came within {ENTER_TIMEOUT_S} s"
            os.read(descriptor, 1)

    def open(self, tasks: int = 1) -> None:
        """Let so many tasks go on, whether they are here already or not."""
        os.write(self._descriptors[self._go], b"x" * tasks)

    def __enter__(self) -> "Gate":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let everybody go who still waits."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
