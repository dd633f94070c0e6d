"""From lines that workers print to what a driver is sent: equal lines counted, floods cut. Pure.

The first of several equal lines of a job is sent at once; those that follow within the window (usually many
workers saying the same) are only counted and sent as one line with ``repeats`` when the window ends.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from aktis._proto import raylet_pb2

MAX_LINE_CHARACTERS = 16_384
MAX_DISTINCT_LINES = 2_000
BURST_S = 1.0

LogLine = raylet_pb2.LogLine


@dataclass(frozen=True, slots=True)
class LineSource:
    """Who printed."""

    job_id: bytes
    worker_id: bytes
    pid: int
    label: str
    is_stderr: bool


@dataclass(slots=True, eq=False)
class _Repeated:
    line: LogLine
    until: float
    count: int = 0


@dataclass(slots=True, eq=False)
class _JobLines:
    tokens: float
    refilled_at: float
    ready: list[LogLine] = field(default_factory=list)
    dropped: int = 0
    recent: OrderedDict[tuple[str, bool], _Repeated] = field(default_factory=OrderedDict)


class LogLines:
    """Lines per job on their way to its driver."""

    def __init__(self, lines_per_s: int, repeat_window_s: float, wanted: Callable[[bytes], bool]) -> None:
        self._rate = lines_per_s
        self._window_s = repeat_window_s
        self._wanted = wanted
        self._jobs: dict[bytes, _JobLines] = {}
        self.forwarded_total = 0
        self.dropped_total = 0

    def add(self, source: LineSource, texts: list[str], now: float) -> None:
        """Lines of one worker, without their newlines."""
        if not source.job_id or not self._wanted(source.job_id):
            return
        job = self._jobs.get(source.job_id)
        if job is None:
            job = self._jobs[source.job_id] = _JobLines(self._rate * BURST_S, now)
        for text in texts:
            self._add_one(job, source, text[:MAX_LINE_CHARACTERS], now)

    def take(self, now: float) -> list[tuple[bytes, raylet_pb2.LogBatch]]:
        """What is to be sent now, per job."""
        batches = []
        for job_id, job in list(self._jobs.items()):
            self._end_windows(job, now)
            if job.ready or job.dropped:
                batches.append((job_id, raylet_pb2.LogBatch(lines=job.ready, dropped=job.dropped)))
                job.ready, job.dropped = [], 0
            elif not job.recent:
                del self._jobs[job_id]
        return batches

    def next_deadline(self, now: float) -> float | None:
        """When ``take`` has something: now, at the end of a window, or never."""
        if any(job.ready or job.dropped for job in self._jobs.values()):
            return now
        ends = [next(iter(job.recent.values())).until for job in self._jobs.values() if job.recent]
        return min(ends, default=None)

    def end_windows(self, job_id: bytes, now: float) -> None:
        """Repeats are not waited for any longer: what there were is said by the next ``take``."""
        job = self._jobs.get(job_id)
        if job is not None:
            for key in list(job.recent):
                self._end_window(job, key, now)

    def forget(self, job_id: bytes) -> None:
        """The job's driver is gone."""
        self._jobs.pop(job_id, None)

    def _add_one(self, job: _JobLines, source: LineSource, text: str, now: float) -> None:
        line = LogLine(
            text=text,
            is_stderr=source.is_stderr,
            pid=source.pid,
            worker_id=source.worker_id,
            label=source.label,
            repeats=1,
        )
        key = (text, source.is_stderr)
        repeated = job.recent.get(key)
        if repeated is not None and now < repeated.until:
            repeated.line = line  # the last one speaks for all
            repeated.count += 1
            return
        if repeated is not None:
            self._end_window(job, key, now)
        self._emit(job, line, now)
        if self._window_s > 0:
            job.recent[key] = _Repeated(line, now + self._window_s)
            if len(job.recent) > MAX_DISTINCT_LINES:
                self._end_window(job, next(iter(job.recent)), now)

    def _end_windows(self, job: _JobLines, now: float) -> None:
        while job.recent:
            key, repeated = next(iter(job.recent.items()))
            if repeated.until > now:
                return
            self._end_window(job, key, now)

    def _end_window(self, job: _JobLines, key: tuple[str, bool], now: float) -> None:
        repeated = job.recent.pop(key)
        if repeated.count:
            line = LogLine()
            line.CopyFrom(repeated.line)
            line.repeats = repeated.count
            self._emit(job, line, now)

    def _emit(self, job: _JobLines, line: LogLine, now: float) -> None:
        job.tokens = min(self._rate * BURST_S, job.tokens + (now - job.refilled_at) * self._rate)
        job.refilled_at = now
        if job.tokens >= 1.0:
            job.tokens -= 1.0
            job.ready.append(line)
            self.forwarded_total += 1
        else:
            job.dropped += line.repeats
            self.dropped_total += line.repeats
