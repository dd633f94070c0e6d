"""What the harness and the process of one system say to each other.

The harness writes one JSON request to the process's standard input; the process answers with JSON lines on
a descriptor of its own, so that whatever a system prints cannot be mistaken for a result.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TextIO

from aktis._microbenchmark.measure import rate
from aktis._microbenchmark.model import Load, NotOfferedError


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure. Rows that the system does not have are not answered."""

    system: str
    rows: tuple[str, ...]
    seconds: float
    warmup_s: float
    clients: int
    num_cpus: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "rows": tuple(fields["rows"])})


Kind = Literal["started", "value", "failed", "absent", "done"]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the answer. ``text`` is the reason of a failure or of an absence."""

    kind: Kind
    row: str = ""
    value: float = 0.0
    text: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Event:
        return cls(**json.loads(line))


class Reporter:
    """Runs measurements and writes what came of them. Belongs to the main thread of a system's process."""

    def __init__(self, request: Request, stream: TextIO) -> None:
        self.request = request
        self._stream = stream
        self._wanted = set(request.rows)

    def wants(self, row: str) -> bool:
        return row in self._wanted

    def emit(self, event: Event) -> None:
        self._stream.write(event.to_json() + "\n")
        self._stream.flush()

    def value(self, row: str, value: float) -> None:
        """Reports a value measured elsewhere, if the row is wanted."""
        if self.wants(row):
            self.emit(Event("value", row, value))

    def attempt(self, row: str, measure: Callable[[], float]) -> None:
        """Measures a row if it is wanted. An error becomes its result, so that the other rows go on."""
        if not self.wants(row):
            return
        self.emit(Event("started", row))
        try:
            self.emit(Event("value", row, measure()))
        except NotOfferedError as absence:
            self.emit(Event("absent", row, text=str(absence)))
        except Exception:
            self.emit(Event("failed", row, text=traceback.format_exc(limit=-4)))

    def attempt_load(self, row: str, prepare: Callable[[], Load]) -> None:
        """Measures the rate of a load (see ``attempt``)."""

        def measure() -> float:
            load = prepare()
            try:
                return rate(load, self.request.seconds, self.request.warmup_s).value
            finally:
                load.close()

        self.attempt(row, measure)


def timed_s(action: Callable[[], object]) -> float:
    """How long the action takes, in seconds."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
