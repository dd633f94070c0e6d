"""Collecting the task events that the workers of a node still keep, so that a timeline lacks nothing. Pure.

Workers send their events about once a second. Who asks for a timeline right after its last task would miss
that second; so it first has the raylet ask every worker, and is answered when all have sent what they had,
have gone, or have let the deadline pass (a worker may be in a long C call that keeps the GIL).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

MAX_ROUNDS: Final = 256


@dataclass(slots=True, eq=False)
class _Round:
    waiting_for: set[bytes]
    on_done: Callable[[], None]


class EventCollection:
    """The rounds under way. Belongs to the loop."""

    def __init__(self) -> None:
        self._rounds: dict[int, _Round] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._rounds)

    def begin(self, workers: Iterable[bytes], on_done: Callable[[], None]) -> int | None:
        """Start a round over these workers; return its number, None when it is over already.

        ``on_done`` is called exactly once, maybe before this returns. Beyond `MAX_ROUNDS` nobody is asked.
        """
        waiting_for = set(workers)
        if not waiting_for or len(self._rounds) >= MAX_ROUNDS:
            on_done()
            return None
        self._last += 1
        self._rounds[self._last] = _Round(waiting_for, on_done)
        return self._last

    def answered(self, worker_id: bytes, number: int) -> None:
        """A worker has sent its events; late answers are ignored."""
        found = self._rounds.get(number)
        if found is None:
            return
        found.waiting_for.discard(worker_id)
        if not found.waiting_for:
            self.expire(number)

    def gone(self, worker_id: bytes) -> None:
        """A worker has left; no round waits for it any more."""
        for number in list(self._rounds):
            self.answered(worker_id, number)

    def expire(self, number: int) -> None:
        """End a round, whoever has not answered."""
        found = self._rounds.pop(number, None)
        if found is not None:
            found.on_done()
