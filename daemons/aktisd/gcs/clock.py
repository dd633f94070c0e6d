"""Time and randomness as the managers see them; tests inject a simulated clock and a seeded generator."""

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is, in the two senses that matter."""

    def monotonic_ms(self) -> float:
        """Return milliseconds that never jump, for deadlines."""

    def unix_ms(self) -> int:
        """Return milliseconds since 1970, for people and records."""


class SystemClock:
    """The machine's clocks."""

    def monotonic_ms(self) -> float:
        """Return the monotonic clock in milliseconds."""
        return time.monotonic() * 1000.0

    def unix_ms(self) -> int:
        """Return the wall clock in milliseconds."""
        return time.time_ns() // 1_000_000
