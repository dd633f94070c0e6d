"""Measuring in a process: what is refused, what a batch holds."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from aktis._proto import raylet_pb2
from aktis._runtime import user_metrics
from aktis._runtime.user_metrics import Recorder
from aktis.util.metrics import DEFAULT_BOUNDARIES, Counter, Gauge, Histogram


@pytest.fixture(autouse=True)
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(limit=3)
    monkeypatch.setattr(user_metrics, "recorder", recorder)
    monkeypatch.setattr(user_metrics, "announce", lambda: None)
    return recorder


def taken(recorder: Recorder) -> list[tuple[str, list[str], float, list[int]]]:
    batch = recorder.take() or raylet_pb2.MetricBatch()
    return [
        (family.name, list(series.tag_values), series.value, list(series.bucket_counts))
        for family in batch.families
        for series in family.series
    ]


def test_a_batch_has_what_changed_since_the_last_one(recorder: Recorder) -> None:
    counter, gauge = Counter("c", tag_keys=("a", "b")), Gauge("g")
    counter.set_default_tags({"a": "1"})
    counter.inc(tags={"b": "2"})
    counter.inc(2.5, tags={"b": "2"})
    counter.inc(tags={"b": "2", "a": "3"})
    gauge.set(1)
    gauge.set(7)
    gauge.set(None)
    assert taken(recorder) == [("c", ["1", "2"], 3.5, []), ("c", ["3", "2"], 1.0, []), ("g", [], 7.0, [])]
    assert recorder.take() is None
    counter.inc(tags={"b": "2"})
    assert taken(recorder) == [("c", ["1", "2"], 1.0, [])]


def test_a_value_on_a_boundary_belongs_below_it(recorder: Recorder) -> None:
    histogram = Histogram("h", boundaries=[1, 2])
    for value in (-1, 1, 1.5, 2, 3, 9):
        histogram.observe(value)
    assert taken(recorder) == [("h", [], 15.5, [2, 2, 2])]


def test_two_objects_of_one_name_measure_the_same(recorder: Recorder) -> None:
    Counter("c").inc()
    Counter("c").inc()
    assert taken(recorder) == [("c", [], 2.0, [])]


def test_what_has_no_room_is_counted(recorder: Recorder) -> None:
    counter = Counter("c", tag_keys=("k",))
    for key in "abcde":
        counter.inc(tags={"k": key})
    batch = recorder.take()
    assert batch is not None
    assert batch.dropped == 2
    assert len(batch.families[0].series) == 3
    counter.inc(tags={"k": "e"})
    assert taken(recorder) == [("c", ["e"], 1.0, [])]


REFUSED: list[tuple[Callable[[], Any], type[Exception]]] = [
    (lambda: Counter(""), ValueError),
    (lambda: Counter(3), TypeError),  # type: ignore[arg-type]
    (lambda: Counter("c", "x" * 2000), ValueError),
    (lambda: Counter("c", tag_keys="ab"), TypeError),  # type: ignore[arg-type]
    (lambda: Counter("c", tag_keys=["ab"]), TypeError),  # type: ignore[arg-type]
    (lambda: Counter("c", tag_keys=(1,)), TypeError),  # type: ignore[arg-type]
    (lambda: Counter("c", tag_keys=("a.b", "a-b")), ValueError),
    (lambda: Counter("c", tag_keys=tuple("abcdefghijklmnopqrs")), ValueError),
    (lambda: Counter("c").inc(0), ValueError),
    (lambda: Counter("c").inc(-1), ValueError),
    (lambda: Counter("c").inc(float("nan")), ValueError),
    (lambda: Counter("c").inc("1"), TypeError),  # type: ignore[arg-type]
    (lambda: Counter("c").inc(tags={"unknown": "x"}), ValueError),
    (lambda: Counter("c", tag_keys=("a", "b")).inc(tags={"a": "x"}), ValueError),
    (lambda: Counter("c", tag_keys=("a",)).inc(tags={"a": 1}), TypeError),  # type: ignore[dict-item]
    (lambda: Counter("c", tag_keys=("a",)).inc(tags={"a": "x" * 2000}), ValueError),
    (lambda: Counter("c", tag_keys=("a",)).inc(tags={"a": "\ud800"}), ValueError),
    (lambda: Counter("c").set_default_tags({"unknown": "x"}), ValueError),
    (lambda: Counter("c", tag_keys=("a",)).set_default_tags({"a": 1}), TypeError),  # type: ignore[dict-item]
    (lambda: Gauge("g").set("1"), TypeError),  # type: ignore[arg-type]
    (lambda: Histogram("h").observe("1"), TypeError),  # type: ignore[arg-type]
    (lambda: Histogram("h").observe(float("nan")), ValueError),
    (lambda: Histogram("h", boundaries=[0, 1]), ValueError),
    (lambda: Histogram("h", boundaries=[2, 1]), ValueError),
    (lambda: Histogram("h", boundaries=[1, 1]), ValueError),
    (lambda: Histogram("h", boundaries=[1, float("inf")]), ValueError),
    (lambda: Histogram("h", boundaries=["1"]), TypeError),  # type: ignore[list-item]
    (lambda: Histogram("h", boundaries=range(1, 1000)), ValueError),
]


@pytest.mark.parametrize(("call", "error"), REFUSED)
def test_wrong_values_are_refused(
    call: Callable[[], Any], error: type[Exception], recorder: Recorder
) -> None:
    with pytest.raises(error):
        call()
    assert recorder.take() is None


def test_a_histogram_without_boundaries_has_sensible_ones() -> None:
    assert Histogram("h").info["boundaries"] == list(DEFAULT_BOUNDARIES)
    assert list(DEFAULT_BOUNDARIES) == sorted(DEFAULT_BOUNDARIES)


@pytest.mark.parametrize(
    "metric",
    [
        Counter("c", "what", ("a",)).set_default_tags({"a": "1"}),
        Histogram("h", "what", [1.0], ("a",)).set_default_tags({"a": "1"}),
    ],
)
def test_metrics_pickle(metric: Counter | Histogram) -> None:
    copy = pickle.loads(pickle.dumps(metric))
    assert type(copy) is type(metric)
    assert copy.info == metric.info
    assert copy.info["default_tags"] == {"a": "1"}
