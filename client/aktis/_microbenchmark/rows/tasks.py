"""Tasks: one at a time, many in flight, from several callers."""

from __future__ import annotations

from typing import Any

from ..model import Api, Load, Row

CALLS_PER_STEP = 1_000


def _small_task(api: Api) -> Any:
    """A task that does nothing, defined here so that it travels to workers by value."""

    @api.remote
    def small() -> bytes:
        return b"ok"

    return small


def synchronous(api: Api, clients: int) -> Load:
    small = _small_task(api)
    return Load(step=lambda: api.get(small.remote()))


def asynchronous(api: Api, clients: int) -> Load:
    small = _small_task(api)
    return Load(
        step=lambda: api.get([small.remote() for _ in range(CALLS_PER_STEP)]),
        amount=CALLS_PER_STEP,
    )


def batch(api: Api, clients: int) -> Load:
    @api.remote
    def same(number: int) -> int:
        return number

    def step() -> None:
        answers = api.get([same.remote(number) for number in range(CALLS_PER_STEP)])
        if answers != list(range(CALLS_PER_STEP)):
            raise AssertionError("a batch of tasks came back with wrong or misplaced results")

    return Load(step=step)


def several_clients(api: Api, clients: int) -> Load:
    small = _small_task(api)

    class Client:
        def call(self, count: int) -> None:
            api.get([small.remote() for _ in range(count)])

    client = api.remote(num_cpus=0)(Client)
    actors = [client.remote() for _ in range(clients)]
    return Load(
        step=lambda: api.get([actor.call.remote(CALLS_PER_STEP) for actor in actors]),
        amount=CALLS_PER_STEP * clients,
        close=lambda: [api.kill(actor) for actor in actors],
    )


ROWS = (
    Row("1 000 tasks then get", "batches/s", batch),
    Row("tasks, synchronous", "calls/s", synchronous),
    Row("tasks, asynchronous", "calls/s", asynchronous),
    Row("tasks, several clients", "calls/s", several_clients),
)
