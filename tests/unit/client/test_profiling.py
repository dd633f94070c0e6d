"""Spans of user code: what they have with them."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aktis._proto import common_pb2
from aktis._runtime import current
from aktis._runtime.state import chrome_trace
from aktis.util.profiling import profile

Event = common_pb2.TaskEvent


def bar(extra_data: dict[str, Any]) -> dict[str, Any]:
    """Return how the timeline shows a span that has this with it."""
    event = Event(
        name="load", state=Event.PROFILE, start_unix_ns=1, end_unix_ns=2, extra_data=json.dumps(extra_data)
    )
    (shown,) = chrome_trace(common_pb2.TaskEventBatch(events=[event]))
    return shown


def test_what_a_span_has_with_it_is_in_its_args() -> None:
    shown = bar({"file": "a.csv", "rows": 3})
    assert (shown["args"]["file"], shown["args"]["rows"], shown["args"]["state"]) == ("a.csv", 3, "PROFILE")
    assert shown["name"] == "load"
    assert "cname" not in shown


def test_a_name_and_a_colour_are_what_the_viewer_shows() -> None:
    shown = bar({"name": "load a.csv", "cname": "good"})
    assert (shown["name"], shown["cname"]) == ("load a.csv", "good")


@pytest.mark.parametrize("extra_data", [["a"], "text", {1: "a"}, {"a": object()}, {"a": float("nan")}])
def test_what_json_cannot_say_is_refused_before_the_block(extra_data: Any) -> None:
    with pytest.raises(TypeError, match="profile: extra_data must be"):
        profile("load", extra_data=extra_data)


def test_the_size_is_bounded() -> None:
    profile("load", {"a": "x" * 1000})
    with pytest.raises(ValueError, match="at most 1024"):
        profile("load", {"a": "x" * 1024})


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What spans have with them, as they are recorded."""
    recorded: list[dict[str, Any]] = []

    def record_span(name: str, start_unix_ns: int, end_unix_ns: int, extra_data: str) -> None:
        recorded.append(bar(json.loads(extra_data or "{}"))["args"])

    session = SimpleNamespace(core=SimpleNamespace(record_span=record_span))
    monkeypatch.setattr(current, "require", lambda: session)
    return recorded


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "value"),
    [(ValueError("oh: no"), "oh: no"), (KeyboardInterrupt(), ""), (UnspeakableError(), "RuntimeError")],
    ids=lambda what: type(what).__name__,
)
def test_a_block_that_fails_has_the_exception_with_it(
    spans: list[dict[str, Any]], error: BaseException, value: str
) -> None:
    with pytest.raises(type(error)), profile("load", {"file": "a.csv", "value": 1}):
        raise error
    (args,) = spans
    assert args["file"] == "a.csv"
    assert type(error).__name__ in args["type"]
    assert value in args["value"]
    assert args["error"].startswith(f"{type(error).__name__}: ")
    assert "raise error" in args["traceback"]


def test_the_exception_goes_on_when_nothing_can_be_told_of_it(spans: list[dict[str, Any]]) -> None:
    broken = SyntaxError("no text")
    broken.text = cast(Any, 5)
    with pytest.raises(SyntaxError) as caught, profile("load"):
        raise broken
    assert caught.value is broken
    assert spans[0]["error"].startswith("SyntaxError: no text")
    assert spans[0]["traceback"] == "(its traceback cannot be had: AttributeError)"


def test_an_exceptions_story_is_bounded(spans: list[dict[str, Any]]) -> None:
    def fall(depth: int) -> None:
        if depth:
            fall(depth - 1)
        raise ValueError("x" * 100_000 + "\ud800")

    with pytest.raises(ValueError, match="xxx"), profile("load"):
        fall(100)
    assert len(json.dumps(spans)) < 8 * 1024


def test_a_block_that_succeeds_has_no_exception(spans: list[dict[str, Any]]) -> None:
    with profile("load"):
        pass
    assert "traceback" not in spans[0]
    assert spans[0]["error"] == ""
