"""Records of what nodes and their processes know: tasks, objects, workers, runtime environments."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

from aktis._common.resources import ResourceSet
from aktis._proto import common_pb2, snapshot_pb2
from aktis._runtime.causes import describe_death
from aktis.util.state.records import Record

_S: Final = snapshot_pb2.TaskSnapshot
_E: TypeAlias = common_pb2.TaskEvent
_D: Final = common_pb2.DeathCause
_NS_PER_MS: Final = 1_000_000

TASK_STATES: Final = {
    _S.WAITING: "PENDING_ARGS_AVAIL",
    _S.QUEUED: "PENDING_NODE_ASSIGNMENT",
    _S.PUSHED: "SUBMITTED_TO_WORKER",
    _S.SUSPENDED: "PENDING_NODE_ASSIGNMENT",
    _S.RECEIVED: "SUBMITTED_TO_WORKER",
    _S.RUNNING: "RUNNING",
}
# What an owner fails a task with, when no executor did.
ERROR_TYPES: Final = {
    "WorkerCrashedError": "WORKER_DIED",
    "OutOfMemoryError": "OUT_OF_MEMORY",
    "ActorDiedError": "ACTOR_DIED",
    "ActorUnavailableError": "ACTOR_UNAVAILABLE",
    "RuntimeEnvSetupError": "RUNTIME_ENV_SETUP_FAILED",
    "TaskUnschedulableError": "TASK_UNSCHEDULABLE_ERROR",
    "TaskPlacementGroupRemoved": "TASK_PLACEMENT_GROUP_REMOVED",
    "LocalRayletDiedError": "LOCAL_RAYLET_DIED",
    "DependencyError": "DEPENDENCY_RESOLUTION_FAILED",
}
_RAISED: Final = "TASK_EXECUTION_EXCEPTION"
EXIT_TYPES: Final = {
    _D.INTENDED: "INTENDED_USER_EXIT",
    _D.OUT_OF_MEMORY: "NODE_OUT_OF_MEMORY",
    _D.KILLED: "INTENDED_SYSTEM_EXIT",
    _D.OWNER_DIED: "INTENDED_SYSTEM_EXIT",
    _D.JOB_FINISHED: "INTENDED_SYSTEM_EXIT",
    _D.NODE_DIED: "INTENDED_SYSTEM_EXIT",
    _D.PLACEMENT_GROUP_REMOVED: "INTENDED_SYSTEM_EXIT",
    _D.CREATION_FAILED: "USER_ERROR",
}


@dataclass(frozen=True)
class TaskState(Record):
    """One attempt of a task, of a call of an actor, or of the construction of one."""

    task_id: str
    attempt_number: int
    name: str
    state: str
    """PENDING_ARGS_AVAIL, PENDING_NODE_ASSIGNMENT, SUBMITTED_TO_WORKER, RUNNING, FINISHED, FAILED."""
    job_id: str
    actor_id: str | None
    type: str
    """NORMAL_TASK, ACTOR_CREATION_TASK, ACTOR_TASK."""
    func_or_class_name: str
    parent_task_id: str | None
    node_id: str | None
    worker_id: str | None
    worker_pid: int | None
    error_type: str | None
    """TASK_EXECUTION_EXCEPTION, WORKER_DIED, TASK_CANCELLED, ...; None unless it has failed."""
    error_message: str | None
    required_resources: dict[str, float] | None
    """None for calls of actors, and when the task has ended or its owner has not answered."""
    creation_time_ms: int | None
    start_time_ms: int | None
    end_time_ms: int | None


def merge_tasks(nodes: Iterable[snapshot_pb2.NodeSnapshot], ended: Iterable[_E]) -> list[TaskState]:
    """Put together what owners, executors and task events say of each attempt.

    Returns:
        Those that have not ended, then the others, the last first.
    """
    facts: dict[tuple[bytes, int], dict[str, Any]] = {}
    unfinished = [
        (task, process, node) for node in nodes for process in node.processes for task in process.tasks
    ]
    # Whoever is nearer to the task has the last word: its owner, its executor, its end.
    for task, process, node in sorted(unfinished, key=lambda found: found[0].state):
        one = facts.setdefault((task.task_id, task.attempt), {})
        one.update(_common(task, task.attempt, task.is_creation), state=TASK_STATES.get(task.state, "NIL"))
        _learn(one, required_resources=_needs(task, process), creation_time_ms=_ms(task.submit_unix_ns))
        if task.state in (_S.RECEIVED, _S.RUNNING):
            _learn(one, node_id=node.node_id.hex(), worker_id=process.worker_id.hex(), worker_pid=process.pid)
        elif task.worker_id:
            _learn(one, worker_id=task.worker_id.hex())
        _learn(one, start_time_ms=_ms(task.start_unix_ns))
    events = [event for event in ended if event.state in (_E.FINISHED, _E.FAILED, _E.CANCELLED)]
    over = set()
    # What the owner says counts, because callers see that; but an exception is only a value to it.
    for event in sorted(events, key=lambda event: event.by_owner):
        key = event.task_id, event.attempt
        one = facts.setdefault(key, {})
        if key in over and not event.error and event.state == _E.FAILED:
            one["creation_time_ms"] = _ms(event.start_unix_ns)
        else:
            one.update(_common(event, event.attempt, event.is_creation), **_ended(event))
        over.add(key)
    records = {key: TaskState(**{**_NOTHING, **one}) for key, one in facts.items()}
    running = [record for key, record in records.items() if key not in over]
    finished = [record for key, record in records.items() if key in over]
    return running + sorted(finished, key=lambda record: record.end_time_ms or 0, reverse=True)


_NOTHING: Final[dict[str, Any]] = dict.fromkeys(TaskState.names())


def _common(task: Any, attempt: int, is_creation: bool) -> dict[str, Any]:
    kind = "ACTOR_CREATION_TASK" if is_creation else "ACTOR_TASK" if task.actor_id else "NORMAL_TASK"
    return {
        "task_id": task.task_id.hex(),
        "attempt_number": attempt,
        "name": task.name,
        "func_or_class_name": task.name.rpartition(".")[0] if is_creation else task.name,
        "job_id": task.job_id.hex(),
        "actor_id": task.actor_id.hex() or None,
        "type": kind,
        "parent_task_id": task.parent_task_id.hex() or None,
    }


def _ended(event: _E) -> dict[str, Any]:
    failed = event.state != _E.FINISHED
    told = {
        "state": "FAILED" if failed else "FINISHED",
        "error_type": _error_type(event) if failed else None,
        "error_message": event.error or None,
        "end_time_ms": _ms(event.end_unix_ns),
    }
    if event.by_owner:
        return {**told, "creation_time_ms": _ms(event.start_unix_ns)}
    return {
        **told,
        "node_id": event.node_id.hex(),
        "worker_id": event.worker_id.hex(),
        "worker_pid": event.pid,
        "start_time_ms": _ms(event.start_unix_ns),
    }


def _error_type(event: _E) -> str:
    if event.state == _E.CANCELLED:
        return "TASK_CANCELLED"
    name = event.error.partition(":")[0]
    known = event.by_owner or name == "RuntimeEnvSetupError"  # which the worker raises, not its user's code
    return ERROR_TYPES.get(name, _RAISED) if known else _RAISED


def _learn(one: dict[str, Any], **facts: Any) -> None:
    one.update((name, value) for name, value in facts.items() if value)


def _needs(task: snapshot_pb2.TaskSnapshot, process: snapshot_pb2.ProcessSnapshot) -> dict[str, float] | None:
    if task.class_key not in process.classes:
        return None
    return ResourceSet.from_proto(process.classes[task.class_key]).to_floats()


def _ms(unix_ns: int) -> int | None:
    return unix_ns // _NS_PER_MS or None


@dataclass(frozen=True)
class ObjectState(Record):
    """What one process holds of one object; there is a record for each that holds it."""

    object_id: str
    object_size: int
    """In bytes; 0 while it does not exist, and for other processes' objects that were not fetched."""
    task_status: str
    """FINISHED, or the state of the task that makes it as `TaskState.state`; NIL: not known here."""
    attempt_number: int
    reference_type: str
    """ACTOR_HANDLE, USED_BY_PENDING_TASK, LOCAL_REFERENCE, CAPTURED_IN_OBJECT, PINNED_IN_MEMORY or
    UNKNOWN_STATUS: the first of these that holds.
    """
    call_site: str
    """"disabled": call sites are not recorded."""
    type: str
    """WORKER or DRIVER: the process that holds it."""
    pid: int
    node_id: str
    ip: str

    @classmethod
    def of(
        cls,
        held: snapshot_pb2.ObjectSnapshot,
        process: snapshot_pb2.ProcessSnapshot,
        node: snapshot_pb2.NodeSnapshot,
    ) -> Self:
        """Describe what a process says."""
        return cls(
            object_id=held.object_id.hex(),
            object_size=held.size_bytes,
            task_status="FINISHED" if held.exists else TASK_STATES.get(held.task_state, "NIL"),
            attempt_number=held.attempt,
            reference_type=_reference_type(held),
            call_site="disabled",
            type="DRIVER" if process.is_driver else "WORKER",
            pid=process.pid,
            node_id=node.node_id.hex(),
            ip=node.ip,
        )


def _reference_type(held: snapshot_pb2.ObjectSnapshot) -> str:
    if held.is_actor:
        return "ACTOR_HANDLE"
    if held.task_uses:
        return "USED_BY_PENDING_TASK"
    if held.local:
        return "LOCAL_REFERENCE"
    if held.containers:
        return "CAPTURED_IN_OBJECT"
    return "PINNED_IN_MEMORY" if held.pinned or held.mapped or held.lent else "UNKNOWN_STATUS"


@dataclass(frozen=True)
class WorkerState(Record):
    """A driver or worker process; the dead of the last ones as well."""

    worker_id: str
    is_alive: bool
    worker_type: str
    """WORKER or DRIVER."""
    exit_type: str | None
    """SYSTEM_ERROR, USER_ERROR, INTENDED_USER_EXIT, INTENDED_SYSTEM_EXIT, NODE_OUT_OF_MEMORY."""
    exit_detail: str | None
    node_id: str
    ip: str
    pid: int
    actor_id: str | None
    start_time_ms: int | None
    end_time_ms: int | None
    stdout_file: str | None
    """In the node's log directory, as `get_log` takes it; None for drivers."""
    stderr_file: str | None

    @classmethod
    def of(cls, worker: snapshot_pb2.WorkerSnapshot, node: snapshot_pb2.NodeSnapshot) -> Self:
        """Describe what a node says."""
        dead = not worker.is_alive
        return cls(
            worker_id=worker.worker_id.hex(),
            is_alive=worker.is_alive,
            worker_type="DRIVER" if worker.is_driver else "WORKER",
            exit_type=_exit_type(worker) if dead else None,
            exit_detail=describe_death(worker.cause) if dead else None,
            node_id=node.node_id.hex(),
            ip=node.ip,
            pid=worker.pid,
            actor_id=worker.actor_id.hex() or None,
            start_time_ms=worker.start_time_unix_ms or None,
            end_time_ms=worker.end_time_unix_ms or None,
            stdout_file=worker.stdout_file or None,
            stderr_file=worker.stderr_file or None,
        )


def _exit_type(worker: snapshot_pb2.WorkerSnapshot) -> str:
    if worker.is_driver:
        return "INTENDED_USER_EXIT"
    if worker.cause.kind == _D.EXITED and worker.cause.exit_code == 0:
        return "INTENDED_USER_EXIT"
    return EXIT_TYPES.get(worker.cause.kind, "SYSTEM_ERROR")


@dataclass(frozen=True)
class RuntimeEnvState(Record):
    """A runtime environment that a node has or makes."""

    runtime_env: dict[str, Any]
    """As it was given; packages are named by their hashes. Empty while it is fetched."""
    runtime_env_hash: str
    success: bool | None
    """None while it is being set up."""
    creation_time_ms: int | None
    """How long its set-up took."""
    node_id: str
    job_ids: list[str]
    error: str | None

    @classmethod
    def of(cls, environment: snapshot_pb2.EnvironmentSnapshot, node: snapshot_pb2.NodeSnapshot) -> Self:
        """Describe what a node says."""
        ended = environment.ready or environment.failed
        return cls(
            runtime_env=json.loads(environment.description or "{}"),
            runtime_env_hash=environment.hash,
            success=environment.ready if ended else None,
            creation_time_ms=environment.creation_time_ms if ended else None,
            node_id=node.node_id.hex(),
            job_ids=[job_id.hex() for job_id in environment.job_ids],
            error=environment.error or None,
        )
