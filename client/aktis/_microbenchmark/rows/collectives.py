"""Collective operations of two members on one node."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ..model import Api, Load, NotOfferedError, Row

MEMBERS = 2
LARGE_BYTES = 64 * 2**20
LARGE_PER_STEP = 3
SMALL_BYTES = 16
SMALL_PER_STEP = 1_000
LARGE = "allreduce of 64 MiB, GB/s"
SMALL = "allreduce of 16 bytes"


def _module(api: Api) -> Any:
    try:
        module = importlib.import_module(f"{api.__name__}.util.collective")
    except ImportError as error:
        raise NotOfferedError(f"{api.__name__} has no util.collective") from error
    if not module.gloo_available():
        raise NotOfferedError(f"{api.__name__}.util.collective needs packages that are not installed here")
    return module


def _allreduce(size_bytes: int, count: int) -> Callable[[Api, int], Load]:
    """Actors that reduce an array of float32 so many times per call, both at the same time."""

    def prepare(api: Api, clients: int) -> Load:
        module = _module(api)
        name = module.__name__

        class Member:
            def prepare(self) -> None:
                import importlib

                import numpy as np

                self.collective = importlib.import_module(name)
                self.array = np.ones(size_bytes // 4, dtype=np.float32)

            def run(self) -> None:
                for _ in range(count):
                    self.collective.allreduce(self.array)
                self.array.fill(0)  # else the sums would come to infinity

        actor = api.remote(num_cpus=0)(Member)
        members = [actor.remote() for _ in range(MEMBERS)]
        api.get([member.prepare.remote() for member in members])
        module.create_collective_group(members, MEMBERS, list(range(MEMBERS)), backend="gloo")

        def close() -> None:
            for member in members:
                api.kill(member)

        amount = count * size_bytes / 1e9 if size_bytes == LARGE_BYTES else count
        return Load(lambda: api.get([m.run.remote() for m in members]), amount=amount, close=close)

    return prepare


ROWS = (
    Row(LARGE, "GB/s", _allreduce(LARGE_BYTES, LARGE_PER_STEP)),
    Row(SMALL, "calls/s", _allreduce(SMALL_BYTES, SMALL_PER_STEP)),
)
