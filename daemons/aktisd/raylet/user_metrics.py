"""What the user code of this node's processes measures, added up for /metrics. Pure; belongs to the loop.

A series is a metric, the values of its tags, and the job. Counters and histograms of all processes of a job
are added up, and go on when a process ends. Of a gauge the value that was set last is shown, by whichever
process; it goes with the process. A job's series go when its driver and the last of its processes that has
measured something are gone, so the labels hold no more jobs than there are.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from aktis._proto import raylet_pb2
from prometheus_client import Metric

Batch = raylet_pb2.MetricBatch

PREFIX: Final = "aktis_user_"
SERIES_LIMIT: Final = 10_000
"""Series of a node; more are dropped and counted."""
TEXT_LIMIT: Final = 1_024
TAGS_LIMIT: Final = 16
BOUNDARIES_LIMIT: Final = 256

_TYPES: Final = {Batch.COUNTER: "counter", Batch.GAUGE: "gauge", Batch.HISTOGRAM: "histogram"}
_SUFFIXES: Final = {
    Batch.COUNTER: ("_total",),
    Batch.GAUGE: ("",),
    Batch.HISTOGRAM: ("_bucket", "_count", "_sum"),
}
"""Of the names of samples."""
_RESERVED: Final = ("job_id", "le")

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Series:
    job_id: bytes
    value: float = 0.0
    buckets: list[int] = field(default_factory=list)
    set_by: dict[bytes, float] = field(default_factory=dict)
    """A gauge: what each process has set, the latest at the end."""


@dataclass(slots=True)
class _Family:
    kind: "Batch.Kind.ValueType"
    description: str
    boundaries: tuple[float, ...]
    series: dict[Labels, _Series] = field(default_factory=dict)


class UserMetrics:
    """See the module."""

    def __init__(self, has_driver: Callable[[bytes], bool], series_limit: int = SERIES_LIMIT) -> None:
        self._has_driver = has_driver
        self._limit = series_limit
        self._families: dict[str, _Family] = {}
        self._processes: dict[bytes, bytes] = {}
        self.series_count = 0
        self.dropped_total = 0
        """Measurements without room, or of a name that is another metric's."""

    def record(self, process: bytes, job_id: bytes, batch: Batch) -> None:
        """Add what a process has measured.

        Raises:
            ValueError: the batch is malformed; nothing of it has been added.
        """
        for family in batch.families:
            _check(family)
        self._processes[process] = job_id
        self.dropped_total += batch.dropped
        for family in batch.families:
            self._add_family(process, job_id, family)

    def process_gone(self, process: bytes, job_id: bytes) -> None:
        """A process has left, which may have been the driver of the job."""
        measured = process in self._processes
        job_id = self._processes.pop(process, job_id)
        if measured:
            self._drop(lambda series: series.set_by.pop(process, None) is not None and not series.set_by)
        if not self._has_driver(job_id) and job_id not in self._processes.values():
            self._drop(lambda series: series.job_id == job_id)

    def _drop(self, unwanted: Callable[[_Series], bool]) -> None:
        for name, family in list(self._families.items()):
            kept = {key: series for key, series in family.series.items() if not unwanted(series)}
            self.series_count -= len(family.series) - len(kept)
            family.series = kept
            if not kept:
                del self._families[name]

    def collect(self) -> Iterator[Metric]:
        """Yield every metric as Prometheus shows it."""
        for name, family in self._families.items():
            metric = Metric(PREFIX + name, family.description, _TYPES[family.kind])
            for labels, series in family.series.items():
                _add_samples(metric, dict(labels), family.boundaries, series)
            yield metric

    def _add_family(self, process: bytes, job_id: bytes, sent: Batch.Family) -> None:
        name = _exported_name(sent)
        boundaries = tuple(sent.boundaries)
        family = self._families.get(name) or _Family(sent.kind, sent.description, boundaries)
        if (family.kind, family.boundaries) != (sent.kind, boundaries) or self._is_taken(name, sent.kind):
            self.dropped_total += len(sent.series)
            return
        keys = [_exported_key(key) for key in sent.tag_keys]
        for one in sent.series:
            labels: Labels = (*zip(keys, one.tag_values, strict=True), ("job_id", job_id.hex()))
            series = family.series.get(labels)
            if series is None:
                if self.series_count >= self._limit:
                    self.dropped_total += 1
                    continue
                self.series_count += 1
                series = family.series[labels] = _Series(job_id)
            _merge(series, family.kind, process, one)
        if family.series:
            self._families[name] = family

    def _is_taken(self, name: str, kind: "Batch.Kind.ValueType") -> bool:
        """Whether samples of a new family would be called like those of another one."""
        if name in self._families:
            return False
        wanted = {name + suffix for suffix in _SUFFIXES[kind]}
        return any(
            other + suffix in wanted
            for other, family in self._families.items()
            for suffix in _SUFFIXES[family.kind]
        )


def _merge(
    series: _Series, kind: "Batch.Kind.ValueType", process: bytes, sent: raylet_pb2.MetricBatch.Series
) -> None:
    if kind == Batch.GAUGE:
        series.set_by.pop(process, None)
        series.set_by[process] = sent.value
        return
    series.value += sent.value
    if kind == Batch.HISTOGRAM:
        counts = series.buckets or [0] * len(sent.bucket_counts)
        series.buckets = [have + more for have, more in zip(counts, sent.bucket_counts, strict=True)]


def _add_samples(
    metric: Metric, labels: dict[str, str], boundaries: Sequence[float], series: _Series
) -> None:
    if metric.type == "gauge":
        metric.add_sample(metric.name, labels, next(reversed(series.set_by.values())))
        return
    if metric.type == "counter":
        metric.add_sample(f"{metric.name}_total", labels, series.value)
        return
    total = 0
    for bound, count in zip((*boundaries, math.inf), series.buckets, strict=True):
        total += count
        metric.add_sample(
            f"{metric.name}_bucket", {**labels, "le": "+Inf" if math.isinf(bound) else repr(bound)}, total
        )
    metric.add_sample(f"{metric.name}_count", labels, total)
    metric.add_sample(f"{metric.name}_sum", labels, series.value)


def _check(family: Batch.Family) -> None:
    """Raise ValueError for what no client of ours sends."""
    texts = (family.name, family.description, *family.tag_keys)
    if not family.name or any(len(text) > TEXT_LIMIT for text in texts):
        raise ValueError(
            f"a metric's name, description or tag key is empty or too long: {family.name[:80]!r}"
        )
    if family.kind not in _TYPES:
        raise ValueError(f"metric {family.name[:80]} is of an unknown kind")
    bounds = list(family.boundaries)
    if len(family.tag_keys) > TAGS_LIMIT or len(bounds) > BOUNDARIES_LIMIT or not _ascend(bounds):
        raise ValueError(f"metric {family.name[:80]} has bad tags or boundaries")
    if len({_exported_key(key) for key in family.tag_keys}) < len(family.tag_keys):
        raise ValueError(f"metric {family.name[:80]} has the same tag twice")
    buckets = len(bounds) + 1 if family.kind == Batch.HISTOGRAM else 0
    for series in family.series:
        if len(series.tag_values) != len(family.tag_keys) or len(series.bucket_counts) != buckets:
            raise ValueError(f"a series of metric {family.name[:80]} does not fit it")
        if any(len(value) > TEXT_LIMIT for value in series.tag_values):
            raise ValueError(f"a tag of metric {family.name[:80]} is too long")


def _ascend(bounds: Sequence[float]) -> bool:
    """Whether they are finite: what is above the last has a bucket of its own, and one name is +Inf."""
    return all(map(math.isfinite, bounds)) and list(bounds) == sorted(set(bounds))


def _exported_name(family: Batch.Family) -> str:
    name = re.sub(r"[^a-zA-Z0-9_:]", "_", family.name)
    return name.removesuffix("_total") if family.kind == Batch.COUNTER else name


def _exported_key(key: str) -> str:
    name = re.sub(r"[^a-zA-Z0-9_]", "_", key)
    reserved = name in _RESERVED or name.startswith("__") or not re.match(r"[a-zA-Z_]", name)
    return f"tag_{name}" if reserved else name
