"""Actors, plain, named and async: ``python -m examples.counters``."""

from __future__ import annotations

import asyncio

import aktis


class Counter:
    """A number in a process of its own; its calls run one after the other."""

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value


class Gate:
    """An async actor: many calls wait in it at the same time."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def wait_open(self, visitor: str) -> str:
        await self.opened.wait()
        return f"{visitor} passed"

    async def open(self) -> None:
        self.opened.set()


# ``@aktis.remote`` above the class does the same; a name of its own keeps type checkers content, which take
# a decorated class for the class itself.
RemoteCounter = aktis.remote(Counter)
RemoteGate = aktis.remote(Gate)


@aktis.remote
def count_up(name: str, times: int) -> int:
    """Finds the counter by its name and adds to it from another process."""
    counter = aktis.get_actor(name)
    values: list[int] = aktis.get([counter.add.remote() for _ in range(times)])
    return max(values)


def main() -> None:
    with aktis.init():
        counter = RemoteCounter.options(name="visits").remote(start=100)
        print("in order:", aktis.get([counter.add.remote() for _ in range(5)]))

        aktis.get([count_up.remote("visits", 10) for _ in range(3)])
        print("after 30 more from three tasks:", aktis.get(counter.add.remote(0)))

        gate = RemoteGate.remote()
        visitors = [gate.wait_open.remote(name) for name in ("ada", "grace", "alan")]
        ready, waiting = aktis.wait(visitors, num_returns=3, timeout=0)
        print("before opening:", len(ready), "passed,", len(waiting), "wait")
        aktis.get(gate.open.remote())
        print("after opening:", aktis.get(visitors))


if __name__ == "__main__":
    main()
