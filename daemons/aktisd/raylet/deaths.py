"""Why processes of this node died, for those who ask later: a bounded table and a few who wait. Pure."""

from collections import OrderedDict
from collections.abc import Callable

from aktisd.raylet.causes import Cause

Answer = Callable[[Cause | None], None]
MAX_ERROR_BYTES = 64 * 1024
"""A constructor's exception that is larger is not kept here; the GCS has it."""
MAX_ASKERS = 10_000


class DeathTable:
    """Causes by worker id, the oldest forgotten first."""

    def __init__(self, max_deaths: int) -> None:
        self._max = max_deaths
        self._causes: OrderedDict[bytes, Cause] = OrderedDict()
        self._askers: dict[bytes, list[tuple[float, Answer]]] = {}
        self._waiting = 0

    def record(self, worker_id: bytes, cause: Cause) -> None:
        """A process is dead; those who wait for its cause are answered."""
        kept = Cause()
        kept.CopyFrom(cause)
        if len(kept.error) > MAX_ERROR_BYTES:
            kept.error = b""
        self._causes[worker_id] = kept
        if len(self._causes) > self._max:
            self._causes.popitem(last=False)
        for _, answer in self._askers.pop(worker_id, ()):
            self._waiting -= 1
            answer(kept)

    def ask(self, worker_id: bytes, answer: Answer, until: float | None) -> None:
        """Answer when the cause is known; with None at ``until``, or at once without one."""
        known = self._causes.get(worker_id)
        if known is not None or until is None or self._waiting >= MAX_ASKERS:
            answer(known)
            return
        self._waiting += 1
        self._askers.setdefault(worker_id, []).append((until, answer))

    def expire(self, now: float) -> None:
        """Answer those who have waited long enough."""
        for worker_id, askers in list(self._askers.items()):
            due = [answer for until, answer in askers if until <= now]
            left = [(until, answer) for until, answer in askers if until > now]
            if left:
                self._askers[worker_id] = left
            else:
                del self._askers[worker_id]
            self._waiting -= len(due)
            for answer in due:
                answer(None)

    def __len__(self) -> int:
        return len(self._causes)
