"""Remote functions and classes that several modules of tests use."""

import asyncio
from collections.abc import Callable
from typing import Any

import ray


@ray.remote(num_cpus=0)
class Gate:
    """What waits, waits until it is opened; what has begun can be waited for."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.arrived = asyncio.Semaphore(0)

    async def open(self) -> None:
        self.opened.set()

    async def wait(self, value: Any = None) -> Any:
        self.arrived.release()
        await self.opened.wait()
        return value

    async def arrival(self) -> None:
        await self.arrived.acquire()


@ray.remote(num_cpus=0)
def echo(value: Any) -> Any:
    return value


@ray.remote(num_cpus=0)
def fail(message: str = "on purpose") -> None:
    raise ValueError(message)


def until_it_fails(call: Callable[[], Any], deadline_s: float = 30) -> None:
    """Call again and again, until that raises what the caller expects."""
    while True:
        ray.get(call(), timeout=deadline_s)
