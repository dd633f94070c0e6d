"""A cluster whose store loses objects: a second client of it, with the session's token, deletes them."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import aktis
import numpy as np
from aktis._core import PlasmaClient

from tests.support.clients import embedded

LARGE: Final = 200_000
"""Bytes of a value that lies in shared memory."""

_TIMEOUT_S: Final = 60.0


class Thief:
    """Makes the store lose objects, and knows how often tasks ran."""

    def __init__(self, session_dir: str, runs_dir: Path) -> None:
        session = Path(session_dir)
        self.runs_dir = runs_dir
        self.token = (session / "token").read_text().strip()
        self.client = PlasmaClient(f"unix:{session / 'plasma.sock'}", token=self.token)
        self.client.connect()

    def steal(self, *refs: Any) -> None:
        """Delete the objects, which must be there."""
        aktis.wait(list(refs), num_returns=len(refs), timeout=_TIMEOUT_S, fetch_local=False)
        ids: list[bytes] = [ref.binary() for ref in refs]
        for object_id in ids:
            assert self.client.get(object_id) is not None  # waits: the seal of a put() may be under way
        self.client.delete(ids)
        self.client.sync()
        assert not any(self.client.contains(object_id) for object_id in ids)

    def runs(self, name: str) -> int:
        """How often the tasks that note this name have run."""
        return len(list(self.runs_dir.glob(f"{name}-*")))


@contextmanager
def thieving(runs_dir: Path, **options: Any) -> Iterator[Thief]:
    """Run an embedded cluster that this process is the driver of, and the thief in it."""
    with embedded(**options) as context:
        thief = Thief(context["session_dir"], runs_dir)
        try:
            yield thief
        finally:
            thief.client.close()


def noting(thief: Thief, name: str) -> Callable[[], None]:
    """Return a function that notes a run of ``name`` when a task calls it."""
    directory = str(thief.runs_dir)

    def note() -> None:
        Path(directory, f"{name}-{uuid.uuid4()}").touch()

    return note


def maker(thief: Thief, name: str, **options: Any) -> Any:
    """Return a remote function whose large result is the argument, and that notes its runs."""
    note = noting(thief, name)

    def make(value: int) -> Any:
        note()
        return np.full(LARGE, value, np.uint8)

    return aktis.remote(make).options(**{"num_cpus": 1, **options})
