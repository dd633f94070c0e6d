"""``wait`` over many references."""

from __future__ import annotations

from typing import Any

from ..model import Api, Load, Row

REFERENCES = 1_000


def wait_ready(api: Api, clients: int) -> Load:
    """One call that waits for all of 1 000 finished objects: what looking at a reference costs."""
    refs = [api.put(number) for number in range(REFERENCES)]
    return Load(step=lambda: api.wait(refs, num_returns=REFERENCES))


def wait_one_by_one(api: Api, clients: int) -> Load:
    """1 000 tasks taken as they finish, one per call: the loop users write, 1 000 waits per batch."""

    @api.remote
    def small() -> bytes:
        return b"ok"

    def step() -> None:
        pending: list[Any] = [small.remote() for _ in range(REFERENCES)]
        while pending:
            _, pending = api.wait(pending, num_returns=1)

    return Load(step=step)


ROWS = (
    Row("wait on 1 000 references", "calls/s", wait_ready),
    Row("wait on 1 000 references, one by one", "batches/s", wait_one_by_one),
)
