"""Actor calls of every kind, and how fast actors come to life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..model import Api, Load, Row

CALLS_PER_STEP = 1_000
THREADS = 16
ACTORS_PER_STEP = 10


def _plain_class(api: Api) -> Any:
    """An actor that does nothing, defined here so that it travels to workers by value."""

    class Plain:
        def small(self, argument: object = None) -> bytes:
            return b"ok"

    return api.remote(num_cpus=0)(Plain)


def _async_class(api: Api) -> Any:
    class Async:
        async def small(self) -> bytes:
            return b"ok"

    return api.remote(num_cpus=0)(Async)


def _kill_all(api: Api, actors: list[Any]) -> Callable[[], None]:
    def close() -> None:
        for actor in actors:
            api.kill(actor)

    return close


def _one_call(api: Api, actor: Any) -> Load:
    return Load(step=lambda: api.get(actor.small.remote()), close=_kill_all(api, [actor]))


def _many_calls(api: Api, actors: list[Any]) -> Load:
    """Calls in flight, dealt to the actors in turn."""
    each = CALLS_PER_STEP // len(actors)

    def step() -> None:
        api.get([actor.small.remote() for _ in range(each) for actor in actors])

    return Load(step=step, amount=each * len(actors), close=_kill_all(api, actors))


def synchronous(api: Api, clients: int) -> Load:
    return _one_call(api, _plain_class(api).remote())


def asynchronous(api: Api, clients: int) -> Load:
    return _many_calls(api, [_plain_class(api).remote()])


def concurrent(api: Api, clients: int) -> Load:
    return _many_calls(api, [_plain_class(api).options(max_concurrency=THREADS).remote()])


def one_to_many(api: Api, clients: int) -> Load:
    plain = _plain_class(api)
    return _many_calls(api, [plain.remote() for _ in range(clients)])


def _many_to_many(api: Api, clients: int, stored_argument: bool) -> Load:
    class Client:
        def __init__(self, servers: list[Any]) -> None:
            self.servers = servers

        def call(self, count: int) -> None:
            if stored_argument:
                argument = api.put(0)
                refs = [server.small.remote(argument) for _ in range(count) for server in self.servers]
            else:
                refs = [server.small.remote() for _ in range(count) for server in self.servers]
            api.get(refs)

    plain = _plain_class(api)
    servers = [plain.remote() for _ in range(clients)]
    client = api.remote(num_cpus=0)(Client)
    callers = [client.remote(servers) for _ in range(clients)]
    each = CALLS_PER_STEP // clients
    return Load(
        step=lambda: api.get([caller.call.remote(each) for caller in callers]),
        amount=each * clients * clients,
        close=_kill_all(api, callers + servers),
    )


def many_to_many(api: Api, clients: int) -> Load:
    return _many_to_many(api, clients, stored_argument=False)


def many_to_many_argument(api: Api, clients: int) -> Load:
    return _many_to_many(api, clients, stored_argument=True)


def async_synchronous(api: Api, clients: int) -> Load:
    return _one_call(api, _async_class(api).remote())


def async_asynchronous(api: Api, clients: int) -> Load:
    return _many_calls(api, [_async_class(api).remote()])


def creation(api: Api, clients: int) -> Load:
    """Created, and each has answered its first call; killed outside the measured time."""
    plain = _plain_class(api)
    alive: list[Any] = []

    def step() -> None:
        alive.extend(plain.remote() for _ in range(ACTORS_PER_STEP))
        api.get([actor.small.remote() for actor in alive])

    def reset() -> None:
        for actor in alive:
            api.kill(actor)
        alive.clear()

    return Load(step=step, amount=ACTORS_PER_STEP, reset=reset, close=reset)


ROWS = (
    Row("actor calls, synchronous", "calls/s", synchronous),
    Row("actor calls, asynchronous", "calls/s", asynchronous),
    Row("actor calls, concurrent (16 threads)", "calls/s", concurrent),
    Row("actor calls, 1 to n", "calls/s", one_to_many),
    Row("actor calls, n to n", "calls/s", many_to_many),
    Row("actor calls with a stored argument, n to n", "calls/s", many_to_many_argument),
    Row("async actor, synchronous", "calls/s", async_synchronous),
    Row("async actor, asynchronous", "calls/s", async_asynchronous),
    Row("actors created per second", "actors/s", creation),
)
