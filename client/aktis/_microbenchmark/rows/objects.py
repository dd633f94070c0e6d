"""Objects: get, put, bandwidth, references inside objects."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model import Api, Load, Row

# Larger than any processor cache, small enough that a few fit into a store of a small machine.
ARRAY_BYTES = 100 * 1024 * 1024
PUTS_PER_STEP = 100
ARRAYS_PER_STEP = 4
NESTED_REFERENCES = 10_000


def get_stored(api: Api, clients: int) -> Load:
    ref = api.put(0)
    return Load(step=lambda: api.get(ref))


def put_small(api: Api, clients: int) -> Load:
    return Load(step=lambda: api.put(0))


def put_small_clients(api: Api, clients: int) -> Load:
    class Client:
        def put(self, count: int) -> None:
            for _ in range(count):
                api.put(0)

    client = api.remote(num_cpus=0)(Client)
    actors = [client.remote() for _ in range(clients)]
    return Load(
        step=lambda: api.get([actor.put.remote(PUTS_PER_STEP) for actor in actors]),
        amount=PUTS_PER_STEP * clients,
        close=lambda: [api.kill(actor) for actor in actors],
    )


def put_bandwidth(api: Api, clients: int) -> Load:
    # Ones, not zeros: untouched zero pages are all the same physical page, which would flatter the copy.
    array = np.ones(ARRAY_BYTES, dtype=np.uint8)
    return Load(step=lambda: api.put(array), amount=ARRAY_BYTES / 1e9)


def put_bandwidth_clients(api: Api, clients: int) -> Load:
    size_bytes = ARRAY_BYTES  # a local, because the class travels to its worker by value

    class Client:
        def __init__(self) -> None:
            import numpy

            self.array = numpy.ones(size_bytes, dtype=numpy.uint8)

        def put(self, count: int) -> None:
            for _ in range(count):
                api.put(self.array)

    client = api.remote(num_cpus=0)(Client)
    actors = [client.remote() for _ in range(clients)]
    return Load(
        step=lambda: api.get([actor.put.remote(ARRAYS_PER_STEP) for actor in actors]),
        amount=ARRAYS_PER_STEP * clients * ARRAY_BYTES / 1e9,
        close=lambda: [api.kill(actor) for actor in actors],
    )


def get_nested(api: Api, clients: int) -> Load:
    class Owner:
        """Owns the inner objects for as long as the row runs, so that no reaped worker takes them along."""

        def make(self, count: int) -> list[Any]:
            return [api.put(number) for number in range(count)]

    owner = api.remote(num_cpus=0)(Owner).remote()
    outer = owner.make.remote(NESTED_REFERENCES)
    return Load(step=lambda: api.get(outer), close=lambda: api.kill(owner))


ROWS = (
    Row("get of a stored object", "calls/s", get_stored),
    Row("put, small", "calls/s", put_small),
    Row("put, several clients", "calls/s", put_small_clients),
    Row("put, GB/s", "GB/s", put_bandwidth),
    Row("put, several clients, GB/s", "GB/s", put_bandwidth_clients),
    Row("get of an object with 10 000 references", "calls/s", get_nested),
)
