"""Spans of user code: what they have with them."""

import json
from typing import Any

import pytest
from aktis._proto import common_pb2
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
