"""Whether a task that failed runs again, and when. Pure policy, on the service thread.

Two kinds of failure count against the same budget, which the core keeps: the system's (a worker died) and,
where ``retry_exceptions`` asks for it, the application's. The first retry comes at once, later ones after a
pause that doubles, so that a task that kills its worker does not keep the node busy with dying.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

FIRST_PAUSE_MS: Final = 50
MAX_PAUSE_MS: Final = 10_000
MAX_TRACKED: Final = 10_000
"""Tasks whose failures are remembered; forgetting one only makes its next pause shorter."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Run it again after ``delay_ms``."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail it; ``attempts`` counts how often it ran."""

    attempts: int


@dataclass
class RetryPolicy:
    """See the module."""

    _failures: "OrderedDict[bytes, int]" = field(default_factory=OrderedDict)

    def failed(self, task_id: bytes, retries_left: int) -> Retry | GiveUp:
        """A run of a task has failed in a way that may be retried; ``retries_left`` < 0: without limit."""
        failures = self._failures.pop(task_id, 0) + 1
        if retries_left == 0:
            return GiveUp(failures)
        self._failures[task_id] = failures
        while len(self._failures) > MAX_TRACKED:
            self._failures.popitem(last=False)
        return Retry(pause_ms(failures))


class RetryLists:
    """The lists of ``retry_exceptions`` by number: the event of a failed task names the list of its template.

    Any thread. Equal lists share a number, so there are as many as the program has different ones.
    """

    def __init__(self) -> None:
        """Know none; number 0 is for templates without a list."""
        self._lock = threading.Lock()
        self._numbers: dict[tuple[type[BaseException], ...], int] = {}
        self._lists: list[tuple[type[BaseException], ...] | None] = [None]

    def number(self, allowed: tuple[type[BaseException], ...]) -> int:
        """Return the number of a list."""
        with self._lock:
            number = self._numbers.setdefault(allowed, len(self._lists))
            if number == len(self._lists):
                self._lists.append(allowed)
            return number

    def allowed(self, number: int) -> tuple[type[BaseException], ...] | None:
        """Return the list; None where every exception may be retried."""
        return self._lists[number]


def pause_ms(failures: int) -> int:
    """How long to wait before the next run of a task that has failed so often."""
    if failures <= 1:
        return 0
    return int(min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** min(failures - 2, 32)))


def may_retry(error: BaseException, allowed: tuple[type[BaseException], ...]) -> bool:
    """Whether an application error is one of those that ``retry_exceptions`` lists."""
    return isinstance(error, allowed)
