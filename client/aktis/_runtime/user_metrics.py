"""What user code measures in this process, on its way to the raylet: added up here, sent once a second.

Only changes travel: what counters and histograms have grown by since the last batch, and gauges that were
set. So the sums of the raylet go on when this process ends. A thread sends them; it is started by the first
measurement.
"""

import bisect
import contextlib
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aktis._proto import raylet_pb2
from aktis._runtime import current

if TYPE_CHECKING:
    from aktis._runtime.session import Session

PERIOD_S: Final = 1.0
LAST_TIMEOUT_S: Final = 1.0
SERIES_LIMIT: Final = 10_000
"""How many series a batch may have; measurements of more are dropped and counted."""

Kind = raylet_pb2.MetricBatch.Kind
Tags = tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """What a metric is, without what was measured."""

    name: str
    kind: "Kind.ValueType"
    description: str
    tag_keys: Tags
    boundaries: tuple[float, ...] = ()


@dataclass(slots=True)
class _Cell:
    value: float = 0.0
    buckets: list[int] = field(default_factory=list)


class Recorder:
    """Measurements since the last batch. Any thread."""

    def __init__(self, limit: int = SERIES_LIMIT) -> None:
        """Keep at most ``limit`` series."""
        self._lock = threading.Lock()
        self._cells: dict[Family, dict[Tags, _Cell]] = {}
        self._count = 0
        self._limit = limit
        self._dropped = 0

    def add(self, family: Family, tags: Tags, amount: float) -> None:
        """Add to a counter."""
        with self._lock:
            cell = self._cell(family, tags)
            if cell is not None:
                cell.value += amount

    def set(self, family: Family, tags: Tags, value: float) -> None:
        """Set a gauge."""
        with self._lock:
            cell = self._cell(family, tags)
            if cell is not None:
                cell.value = value

    def observe(self, family: Family, tags: Tags, value: float) -> None:
        """Count a value in its bucket of a histogram."""
        with self._lock:
            cell = self._cell(family, tags)
            if cell is None:
                return
            if not cell.buckets:
                cell.buckets = [0] * (len(family.boundaries) + 1)
            cell.buckets[bisect.bisect_left(family.boundaries, value)] += 1
            cell.value += value

    def _cell(self, family: Family, tags: Tags) -> _Cell | None:
        series = self._cells.setdefault(family, {})
        cell = series.get(tags)
        if cell is None:
            if self._count >= self._limit:
                self._dropped += 1
                return None
            self._count += 1
            cell = series[tags] = _Cell()
        return cell

    def take(self) -> raylet_pb2.MetricBatch | None:
        """Return what was measured since the last time, None when nothing was."""
        with self._lock:
            cells, self._cells = self._cells, {}
            dropped, self._dropped = self._dropped, 0
            self._count = 0
        if not cells and not dropped:
            return None
        families = (_encoded(family, series.items()) for family, series in cells.items())
        return raylet_pb2.MetricBatch(families=families, dropped=dropped)


def _encoded(family: Family, series: Iterable[tuple[Tags, _Cell]]) -> raylet_pb2.MetricBatch.Family:
    return raylet_pb2.MetricBatch.Family(
        name=family.name,
        description=family.description,
        kind=family.kind,
        tag_keys=family.tag_keys,
        boundaries=family.boundaries,
        series=(
            raylet_pb2.MetricBatch.Series(tag_values=tags, value=cell.value, bucket_counts=cell.buckets)
            for tags, cell in series
        ),
    )


class _Sender:
    """The thread ``aktis-metrics``."""

    def __init__(self) -> None:
        self._measured = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aktis-metrics", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something to send within a second."""
        if not self._measured.is_set():
            self._measured.set()

    def _run(self) -> None:
        never = threading.Event()
        while True:
            self._measured.wait()
            never.wait(PERIOD_S)  # company for what has come
            self._send()

    def _send(self) -> None:
        # Not in the loop of the thread, where a variable would keep a session that is over.
        session = current.session
        if session is not None:  # else it is kept until there is one
            self._measured.clear()
            flush(session)


recorder = Recorder()
_sender: _Sender | None = None
_sender_lock = threading.Lock()


def announce() -> None:
    """Have what was measured sent soon."""
    global _sender
    sender = _sender
    if sender is None:
        with _sender_lock:
            sender = _sender = _sender or _Sender()
    sender.wake()


def flush(session: "Session") -> None:
    """Send what was measured now; a session that is over takes nothing any more."""
    batch = _taken_by(session)
    if batch is not None:
        with contextlib.suppress(Exception):
            session.control.notify(metric_batch=batch)


def flush_last(session: "Session") -> None:
    """Send what was measured and wait until it has arrived: the process is about to end.

    What is only on its way when a connection breaks can be lost, because the raylet may be writing to it.
    """
    batch = _taken_by(session)
    if batch is not None:
        with contextlib.suppress(Exception):
            session.control.call(raylet_pb2.ClientMessage(metric_batch=batch), LAST_TIMEOUT_S)


def _taken_by(session: "Session") -> raylet_pb2.MetricBatch | None:
    batch = recorder.take()
    if batch is not None:
        batch.job_id = session.job_id
    return batch


def _begin_anew() -> None:
    """In a forked child the thread is gone, and what was measured is the parent's to send."""
    global recorder, _sender, _sender_lock
    recorder = Recorder()
    _sender = None
    _sender_lock = threading.Lock()


os.register_at_fork(after_in_child=_begin_anew)
