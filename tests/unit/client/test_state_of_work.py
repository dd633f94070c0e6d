"""What owners, executors and events say of a task becomes one record."""

import pytest
from aktis._proto import common_pb2, snapshot_pb2
from aktis.util.state.work import ObjectState, RuntimeEnvState, TaskState, WorkerState, merge_tasks

Seen = snapshot_pb2.TaskSnapshot
Event = common_pb2.TaskEvent
NODE = b"\x01" * 16
OWNER, EXECUTOR = b"\x02" * 16, b"\x03" * 16
TASK = b"\x04" * 16


def node(*processes: snapshot_pb2.ProcessSnapshot) -> snapshot_pb2.NodeSnapshot:
    return snapshot_pb2.NodeSnapshot(node_id=NODE, ip="1.2.3.4", processes=processes)


def owner(state: "Seen.State.ValueType", **fields: object) -> snapshot_pb2.ProcessSnapshot:
    known = {"name": "f", "class_key": 7, "submit_unix_ns": 5_000_000}
    task = Seen(task_id=TASK, state=state, **known, **fields)  # type: ignore[arg-type]
    needs = {7: common_pb2.Resources(amounts={"CPU": 5_000})}
    return snapshot_pb2.ProcessSnapshot(worker_id=OWNER, pid=1, tasks=[task], classes=needs)


def executor(state: "Seen.State.ValueType") -> snapshot_pb2.ProcessSnapshot:
    task = Seen(task_id=TASK, state=state, name="f", start_unix_ns=6_000_000)
    return snapshot_pb2.ProcessSnapshot(worker_id=EXECUTOR, pid=2, tasks=[task])


def event(state: "Event.State.ValueType", **fields: object) -> Event:
    known = {"name": "f", "start_unix_ns": 6_000_000, "end_unix_ns": 9_000_000}
    return Event(task_id=TASK, state=state, **known, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (Seen.WAITING, "PENDING_ARGS_AVAIL"),
        (Seen.QUEUED, "PENDING_NODE_ASSIGNMENT"),
        (Seen.PUSHED, "SUBMITTED_TO_WORKER"),
        (Seen.SUSPENDED, "PENDING_NODE_ASSIGNMENT"),
    ],
)
def test_what_only_the_owner_knows(state: "Seen.State.ValueType", words: str) -> None:
    (task,) = merge_tasks([node(owner(state))], [])
    assert (task.state, task.type, task.required_resources) == (words, "NORMAL_TASK", {"CPU": 0.5})
    assert (task.creation_time_ms, task.start_time_ms, task.node_id) == (5, None, None)


@pytest.mark.parametrize("owner_first", [True, False])
def test_the_executor_has_the_last_word(owner_first: bool) -> None:
    both = [owner(Seen.PUSHED, worker_id=b"\x09" * 16), executor(Seen.RUNNING)]
    (task,) = merge_tasks([node(*both if owner_first else reversed(both))], [])
    assert (task.state, task.worker_id, task.worker_pid) == ("RUNNING", EXECUTOR.hex(), 2)
    assert (task.required_resources, task.creation_time_ms, task.start_time_ms) == ({"CPU": 0.5}, 5, 6)


def test_an_end_ends_and_an_attempt_does_not_end_the_next() -> None:
    ended = event(Event.FAILED, worker_id=EXECUTOR, pid=2, node_id=NODE, error="ValueError: no")
    (task,) = merge_tasks([node(owner(Seen.PUSHED), executor(Seen.RUNNING))], [ended])
    assert (task.state, task.error_type) == ("FAILED", "TASK_EXECUTION_EXCEPTION")
    assert (task.error_message, task.end_time_ms) == ("ValueError: no", 9)
    again, before = merge_tasks([node(owner(Seen.QUEUED, attempt=1))], [ended])
    assert (again.attempt_number, again.state) == (1, "PENDING_NODE_ASSIGNMENT")
    assert (before.attempt_number, before.state) == (0, "FAILED")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("WorkerCrashedError: it died", "WORKER_DIED"),
        ("OutOfMemoryError: too much", "OUT_OF_MEMORY"),
        ("ActorDiedError: gone", "ACTOR_DIED"),
        ("TaskUnschedulableError: never", "TASK_UNSCHEDULABLE_ERROR"),
        ("", "TASK_EXECUTION_EXCEPTION"),
    ],
)
def test_an_owner_says_why_it_failed(error: str, kind: str) -> None:
    (task,) = merge_tasks([], [event(Event.FAILED, by_owner=True, worker_id=OWNER, pid=1, error=error)])
    assert (task.error_type, task.worker_id, task.worker_pid) == (kind, None, None)
    assert task.creation_time_ms == 6


def test_owner_and_executor_both_saw_the_end() -> None:
    seen = [
        event(Event.FAILED, worker_id=EXECUTOR, pid=2, error="ValueError: no"),
        event(Event.FAILED, by_owner=True, worker_id=OWNER, pid=1),
    ]
    for order in (seen, seen[::-1]):
        (task,) = merge_tasks([], order)
        assert (task.worker_pid, task.error_type) == (2, "TASK_EXECUTION_EXCEPTION")
        assert (task.error_message, task.creation_time_ms) == ("ValueError: no", 6)


def test_a_result_that_was_lost_with_its_worker() -> None:
    seen = [
        event(Event.FINISHED, worker_id=EXECUTOR, pid=2),
        event(Event.FAILED, by_owner=True, worker_id=OWNER, pid=1, error="WorkerCrashedError: no"),
    ]
    for order in (seen, seen[::-1]):
        (task,) = merge_tasks([], order)
        assert (task.state, task.error_type, task.worker_pid) == ("FAILED", "WORKER_DIED", 2)


def test_cancelled_and_constructed_and_spans() -> None:
    (task,) = merge_tasks([], [event(Event.CANCELLED, by_owner=True), event(Event.PROFILE)])
    assert (task.state, task.error_type) == ("FAILED", "TASK_CANCELLED")
    made = Event(task_id=TASK, state=Event.FINISHED, name="A.__init__", actor_id=NODE, is_creation=True)
    (task,) = merge_tasks([], [made])
    assert (task.type, task.func_or_class_name, task.error_type) == ("ACTOR_CREATION_TASK", "A", None)
    assert isinstance(task, TaskState)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"local": 1, "task_uses": 1, "is_actor": True}, "ACTOR_HANDLE"),
        ({"local": 1, "task_uses": 1, "containers": 1}, "USED_BY_PENDING_TASK"),
        ({"local": 1, "containers": 1}, "LOCAL_REFERENCE"),
        ({"containers": 1, "mapped": True}, "CAPTURED_IN_OBJECT"),
        ({"mapped": True}, "PINNED_IN_MEMORY"),
        ({"pinned": True}, "PINNED_IN_MEMORY"),
        ({}, "UNKNOWN_STATUS"),
    ],
)
def test_reference_types(fields: dict[str, int], kind: str) -> None:
    held = snapshot_pb2.ObjectSnapshot(object_id=b"o", exists=True, **fields)  # type: ignore[arg-type]
    process = snapshot_pb2.ProcessSnapshot(pid=3, is_driver=True)
    record = ObjectState.of(held, process, node())
    assert (record.reference_type, record.task_status, record.type) == (kind, "FINISHED", "DRIVER")
    assert (record.pid, record.ip) == (3, "1.2.3.4")


@pytest.mark.parametrize(
    ("kind", "exit_code", "said"),
    [
        ("EXITED", 0, "INTENDED_USER_EXIT"),
        ("EXITED", 1, "SYSTEM_ERROR"),
        ("SIGNALED", 0, "SYSTEM_ERROR"),
        ("OUT_OF_MEMORY", 0, "NODE_OUT_OF_MEMORY"),
        ("KILLED", 0, "INTENDED_SYSTEM_EXIT"),
        ("CREATION_FAILED", 0, "USER_ERROR"),
    ],
)
def test_exit_types(kind: str, exit_code: int, said: str) -> None:
    cause = common_pb2.DeathCause(kind=common_pb2.DeathCause.Kind.Value(kind), exit_code=exit_code)
    worker = snapshot_pb2.WorkerSnapshot(worker_id=b"w", pid=3, cause=cause)
    assert WorkerState.of(worker, node()).exit_type == said
    worker.is_alive = True
    alive = WorkerState.of(worker, node())
    assert alive.exit_type is alive.exit_detail is None


def test_environments() -> None:
    made = snapshot_pb2.EnvironmentSnapshot(
        hash="h", description='{"pip": 1}', ready=True, creation_time_ms=4
    )
    record = RuntimeEnvState.of(made, node())
    assert (record.runtime_env, record.success, record.creation_time_ms) == ({"pip": 1}, True, 4)
    pending = RuntimeEnvState.of(snapshot_pb2.EnvironmentSnapshot(hash="h"), node())
    assert (pending.runtime_env, pending.success, pending.creation_time_ms) == ({}, None, None)
    failed = RuntimeEnvState.of(snapshot_pb2.EnvironmentSnapshot(failed=True, error="no pip"), node())
    assert (failed.success, failed.error) == (False, "no pip")
