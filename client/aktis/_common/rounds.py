"""Questions to many at once: who has answered, until a deadline. Pure.

Workers keep task events for about a second, and only processes know what they hold; whoever asks a node or
the cluster for that starts a round. It is over when all have answered, have gone, or have let the deadline
pass (a worker may be in a long C call that keeps the GIL).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

MAX_ROUNDS: Final = 256
OnDone = Callable[[frozenset[bytes]], None]
"""Takes those who have not answered."""


@dataclass(slots=True, eq=False)
class _Round:
    waiting_for: set[bytes]
    on_done: OnDone


class Rounds:
    """The rounds under way. Belongs to the loop."""

    def __init__(self) -> None:
        self._rounds: dict[int, _Round] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._rounds)

    def begin(self, asked: Iterable[bytes], on_done: OnDone) -> int | None:
        """Start a round over these; return its number, None when it is over already.

        ``on_done`` is called exactly once, maybe before this returns. Beyond `MAX_ROUNDS` nobody is asked.
        """
        waiting_for = set(asked)
        if not waiting_for or len(self._rounds) >= MAX_ROUNDS:
            on_done(frozenset(waiting_for))
            return None
        self._last += 1
        self._rounds[self._last] = _Round(waiting_for, on_done)
        return self._last

    def answered(self, who: bytes, number: int) -> bool:
        """Somebody has answered; late answers and those of strangers are ignored, and return False."""
        found = self._rounds.get(number)
        if found is None or who not in found.waiting_for:
            return False
        found.waiting_for.discard(who)
        if not found.waiting_for:
            self.expire(number)
        return True

    def waits_for(self, who: bytes, number: int) -> bool:
        """Whether somebody's answer is still wanted."""
        found = self._rounds.get(number)
        return found is not None and who in found.waiting_for

    def waiting_for(self, who: bytes) -> list[int]:
        """The rounds that still want somebody's answer."""
        return [number for number, found in self._rounds.items() if who in found.waiting_for]

    def gone(self, who: bytes) -> None:
        """Somebody has left; no round waits for it any more."""
        for number in self.waiting_for(who):
            self.answered(who, number)

    def expire(self, number: int) -> None:
        """End a round, whoever has not answered."""
        found = self._rounds.pop(number, None)
        if found is not None:
            found.on_done(frozenset(found.waiting_for))
