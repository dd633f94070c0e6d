"""The numbers that a release must reach, and whether a run reached them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from aktis._microbenchmark.rows import collectives

from benchmarks import catalogue
from benchmarks.results import Results


@dataclass(frozen=True, slots=True)
class Times:
    """At least so many times as good as another system, in the median of paired rounds.

    ``their_row``: what the other system does instead, where it has no such row; of the same unit.
    """

    system: str
    factor: float
    their_row: str | None = None

    def __str__(self) -> str:
        return f">= {self.factor:.3g} x {_named(self)}"


@dataclass(frozen=True, slots=True)
class Below:
    """The median is under this value, in the row's unit."""

    value: float

    def __str__(self) -> str:
        return f"< {self.value:g}"


Condition = Times | Below


def _named(condition: Times) -> str:
    return condition.system + (f" ({condition.their_row})" if condition.their_row else "")


@dataclass(frozen=True, slots=True)
class Floor:
    """A row and what it must reach; any one of several conditions is enough."""

    row: str
    any_of: tuple[Condition, ...]

    @property
    def rows(self) -> set[str]:
        """Every row that is looked at."""
        others = {c.their_row for c in self.any_of if isinstance(c, Times) and c.their_row}
        return {self.row} | others

    def __str__(self) -> str:
        return " or ".join(str(condition) for condition in self.any_of)


class Verdict(Enum):
    PASS = "pass"
    FAIL = "FAIL"
    NO_DATA = "no data"


@dataclass(frozen=True, slots=True)
class Finding:
    """A floor, what was measured for it, and the verdict."""

    floor: Floor
    measured: str
    verdict: Verdict


TEN_TIMES_RAY = (
    "get of a stored object",
    "put, small",
    "put, several clients",
    "1 000 tasks then get",
    "tasks, synchronous",
    "tasks, asynchronous",
    "tasks, several clients",
    "generator items",
    "wait on 1 000 references",
    "wait on 1 000 references, one by one",
    "actor calls, synchronous",
    "actor calls, asynchronous",
    "actor calls, concurrent (16 threads)",
    "actor calls, 1 to n",
    "actor calls, n to n",
    "actor calls with a stored argument, n to n",
    "async actor, synchronous",
    "async actor, asynchronous",
    "actors created per second",
)
PIPELINED = ("1 000 tasks then get", "tasks, asynchronous")
SYNCHRONOUS = ("tasks, synchronous", "actor calls, synchronous")

FLOORS: tuple[Floor, ...] = (
    *(Floor(row, (Times("ray", 10),)) for row in TEN_TIMES_RAY),
    Floor("queue put and get", (Times("ray", 5),)),
    Floor("placement group create and remove", (Times("ray", 5),)),
    Floor("put, GB/s", (Times("ray", 3),)),
    # With several clients a peer may be near what the memory can do; then nobody is three times faster.
    Floor("put, several clients, GB/s", (Times("ray", 3), Times("limit", 0.9))),
    *(
        Floor(row, (Times(pool, 1),))
        for row in PIPELINED
        for pool in ("multiprocessing", "futures", "joblib")
    ),
    # A pool has no actors, so its tasks stand in: one message there and one back per call in both cases. One
    # actor takes its calls one after the other, while all workers of a pool share them: that is to our cost.
    *(
        Floor("actor calls, asynchronous", (Times(pool, 1, their_row="tasks, asynchronous"),))
        for pool in ("multiprocessing", "joblib")
    ),
    *(Floor(row, (Times("limit", 1 / 3),)) for row in SYNCHRONOUS),
    Floor(collectives.LARGE, (Times("mpi", 1 / 2),)),
    Floor(collectives.SMALL, (Times("mpi", 1 / 10),)),
    Floor(catalogue.INIT, (Below(1.0),)),
    Floor(catalogue.CLUSTER_MEMORY, (Below(200),)),
    Floor(catalogue.ACTOR_MEMORY, (Below(10),)),
)


def check(results: Results, floors: Iterable[Floor] = FLOORS, ours: str = "aktis") -> list[Finding]:
    """The verdict on each floor whose rows were asked for in this run."""
    asked = {row.name for row in results.rows}
    return [_judge(results, floor, ours) for floor in floors if floor.rows <= asked]


def _judge(results: Results, floor: Floor, ours: str) -> Finding:
    verdicts: list[tuple[str, bool]] = []
    for condition in floor.any_of:
        found = _measure(results, floor.row, condition, ours)
        if found is not None:
            verdicts.append(found)
    if not verdicts:
        return Finding(floor, "-", Verdict.NO_DATA)
    reached = any(passed for _, passed in verdicts)
    return Finding(floor, "; ".join(text for text, _ in verdicts), Verdict.PASS if reached else Verdict.FAIL)


def _measure(results: Results, row_name: str, condition: Condition, ours: str) -> tuple[str, bool] | None:
    """The measured figure as text and whether it satisfies the condition; None when there is no figure."""
    if isinstance(condition, Below):
        summary = results.summary(row_name, ours)
        return None if summary is None else (f"{summary.median:.3g}", summary.median < condition.value)
    row = next(row for row in results.rows if row.name == row_name)
    ratio = results.ratio(row, ours, condition.system, condition.their_row)
    if ratio is None:
        return None
    return f"{ratio.median:.3g} x {_named(condition)}", ratio.median >= condition.factor
