"""Task events as a trace."""

from aktis._proto import common_pb2
from aktis._runtime.state import chrome_trace

Event = common_pb2.TaskEvent


def test_an_event_with_both_ends_is_a_bar_in_its_process() -> None:
    event = Event(
        task_id=b"\x01" * 16,
        node_id=b"\x02" * 16,
        pid=7,
        name="f",
        state=Event.FINISHED,
        start_unix_ns=5_000,
        end_unix_ns=9_000,
    )
    (bar,) = chrome_trace(common_pb2.TaskEventBatch(events=[event]))
    assert (bar["ph"], bar["name"], bar["ts"], bar["dur"]) == ("X", "f", 5.0, 4.0)
    assert bar["pid"] == "node 02020202"
    assert bar["tid"] == "process 7"
    assert bar["args"]["state"] == "FINISHED"
    assert bar["cat"] == "task"


def test_spans_of_user_code_are_told_apart() -> None:
    event = Event(name="load", state=Event.PROFILE, start_unix_ns=1, end_unix_ns=2)
    assert chrome_trace(common_pb2.TaskEventBatch(events=[event]))[0]["cat"] == "profile"


def test_events_with_one_end_are_left_out() -> None:
    event = Event(name="f", state=Event.SUBMITTED, start_unix_ns=1)
    assert chrome_trace(common_pb2.TaskEventBatch(events=[event])) == []
