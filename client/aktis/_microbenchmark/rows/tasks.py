"""Tasks: one at a time, many in flight, from several callers."""

from __future__ import annotations

from typing import Any

from ..model import Api, Load, Row

CALLS_PER_STEP = 1_000
ITEMS_PER_STEP = 1_000
TREE_DEPTH, TREE_VALUE, TREE_TASKS = 8, 21, 67


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


def tree(api: Api, clients: int) -> Load:
    """Tasks that wait for their own tasks: each needs a worker while its parent keeps one."""

    @api.remote
    def fibonacci(n: int) -> int:
        if n < 2:
            return n
        return sum(api.get([fibonacci.remote(n - 1), fibonacci.remote(n - 2)]))

    def step() -> None:
        if api.get(fibonacci.remote(TREE_DEPTH)) != TREE_VALUE:
            raise AssertionError("a tree of tasks has a wrong result")

    return Load(step=step, amount=TREE_TASKS)


def generator(api: Api, clients: int) -> Load:
    """Items of one streaming generator, each fetched as it comes."""

    @api.remote
    def items() -> Any:
        for number in range(ITEMS_PER_STEP):  # noqa: UP028 ('yield from' fails with a peer)
            yield number

    def step() -> None:
        if sum(api.get(ref) for ref in items.remote()) != sum(range(ITEMS_PER_STEP)):
            raise AssertionError("a generator's items came back wrong")

    return Load(step=step, amount=ITEMS_PER_STEP)


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
    Row("tasks, a tree of waiting ones", "calls/s", tree),
    Row("generator items", "items/s", generator),
)
