"""The table of task events stays within its bounds and counts what it drops."""

from aktis._proto import common_pb2, gcs_pb2
from aktisd.gcs.limits import Limits
from aktisd.gcs.task_events import TaskEvents

TaskEvent = common_pb2.TaskEvent
JOB, OTHER = b"\0\0\0\1", b"\0\0\0\2"


def batch(*numbers: int, job: bytes = JOB, dropped: int = 0, name: str = "f") -> common_pb2.TaskEventBatch:
    events = [
        TaskEvent(task_id=bytes([n]) * 16, job_id=job, name=name, state=TaskEvent.RUNNING) for n in numbers
    ]
    return common_pb2.TaskEventBatch(events=events, dropped=dropped)


def listed(table: TaskEvents, **fields: object) -> list[int]:
    reply = table.list(gcs_pb2.ListTaskEventsRequest(**fields))  # type: ignore[arg-type]
    return [event.task_id[0] for event in reply.batch.events]


def test_kept_in_order_per_job() -> None:
    table = TaskEvents(Limits())
    table.add(batch(1, 2))
    table.add(batch(3, job=OTHER))
    mixed = batch(4)
    mixed.MergeFrom(batch(5, job=OTHER))
    table.add(mixed)
    assert listed(table, job_id=JOB) == [1, 2, 4]
    assert listed(table, job_id=OTHER) == [3, 5]
    assert sorted(listed(table)) == [1, 2, 3, 4, 5]
    assert listed(table, job_id=b"none") == []
    assert table.received == 5


def test_filters() -> None:
    table = TaskEvents(Limits())
    table.add(batch(1, 2))
    failed = batch(2)
    failed.events[0].state = TaskEvent.FAILED
    table.add(failed)
    assert listed(table, task_id=bytes([2]) * 16) == [2, 2]
    assert listed(table, state=TaskEvent.FAILED) == [2]


def test_limit_keeps_the_newest() -> None:
    table = TaskEvents(Limits(task_event_list=4))
    for number in range(0, 9, 3):
        table.add(batch(number, number + 1, number + 2))
    assert listed(table, job_id=JOB, limit=2) == [7, 8]
    assert listed(table, job_id=JOB, limit=1_000) == [5, 6, 7, 8]
    assert table.list(gcs_pb2.ListTaskEventsRequest(job_id=JOB, limit=1)).stored == 9


def test_answer_is_bounded_in_bytes() -> None:
    table = TaskEvents(Limits(task_event_list_bytes=2_500))
    for number in range(9):
        table.add(batch(number, name="x" * 1_000))
    assert listed(table, job_id=JOB) == [7, 8]


def test_table_is_bounded_in_bytes_per_job() -> None:
    table = TaskEvents(Limits(task_event_job_bytes=10_000))
    table.add(batch(0, job=OTHER))
    for number in range(100):
        table.add(batch(number, name="x" * 1_000, dropped=1))
    assert table.stored_bytes() <= 10_000 + 100
    reply = table.list(gcs_pb2.ListTaskEventsRequest(job_id=JOB))
    assert reply.stored == len(reply.batch.events)
    assert reply.stored + reply.dropped == 200
    assert table.dropped == reply.dropped
    assert listed(table, job_id=OTHER) == [0]


def test_quiet_jobs_make_room() -> None:
    table = TaskEvents(Limits(task_event_jobs=2))
    for number in (1, 2, 1, 3):
        table.add(batch(number, job=number.to_bytes(4, "big")))
    assert listed(table, job_id=b"\0\0\0\2") == []
    assert listed(table, job_id=b"\0\0\0\1") == [1, 1]
    assert table.dropped == 1


def test_event_without_job_is_dropped_and_the_others_of_its_node_are_kept() -> None:
    table = TaskEvents(Limits())
    mixed = batch(1)
    for wrong in (b"", b"too long an id", bytes(4)):
        mixed.MergeFrom(batch(2, job=wrong))
    table.add(mixed)
    assert listed(table) == [1]
    assert (table.received, table.dropped) == (4, 3)


def test_what_processes_say_they_have_dropped_may_be_more_than_a_field_can_say() -> None:
    table = TaskEvents(Limits())
    for number in range(3):
        table.add(batch(number, dropped=2**63))
    assert table.list(gcs_pb2.ListTaskEventsRequest()).dropped == 2**64 - 1
    assert table.list(gcs_pb2.ListTaskEventsRequest(job_id=JOB)).dropped == 2**64 - 1
