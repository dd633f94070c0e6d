"""The shared queue."""

from __future__ import annotations

import importlib

from ..model import Api, Load, NotOfferedError, Row

PAIRS_PER_STEP = 100


def put_and_get(api: Api, clients: int) -> Load:
    """One item put and taken out again, by the same process, one call after the other."""
    try:
        module = importlib.import_module(f"{api.__name__}.util.queue")
    except ModuleNotFoundError as error:
        raise NotOfferedError(f"{api.__name__} has no util.queue") from error
    queue = module.Queue()

    def step() -> None:
        for number in range(PAIRS_PER_STEP):
            queue.put(number)
            queue.get()

    return Load(step=step, amount=PAIRS_PER_STEP, close=lambda: queue.shutdown(force=True))


ROWS = (Row("queue put and get", "pairs/s", put_and_get),)
