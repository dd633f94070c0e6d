"""Cancelling a task: queued, running, by force, because its time is up."""

from typing import TYPE_CHECKING, Any

from aktis import _core
from aktis._core import ObjectRef
from aktis._proto import raylet_pb2
from aktis._runtime.errors import encode_error
from aktis._runtime.ids import TaskID
from aktis.exceptions import TaskCancelledError, TaskTimeoutError

if TYPE_CHECKING:
    from aktis._runtime.session import Session


def cancel_task(session: "Session", ref: ObjectRef[Any], *, force: bool, recursive: bool) -> None:
    """See `aktis.cancel`. What another process has submitted is cancelled there, a moment later."""
    core = session.core
    task_id = core.task_of(ref)
    # A call of an actor has no lease: only the actor as a whole could be killed.
    if force and core.is_call(task_id) and not core.is_ready(ref):
        raise ValueError("cancel(force=True) is not for calls of actors: use kill() to end the actor")
    if not core.ask_to_cancel(ref.binary(), force, recursive):
        _cancel(session, task_id, force=force, recursive=recursive)


def cancel_asked(session: "Session", object_id: bytes, force: bool, recursive: bool) -> None:
    """A process that borrows an object of ours wants the task cancelled that makes it."""
    task_id = object_id[: TaskID.SIZE_BYTES]  # an object's id begins with its task's
    _cancel(session, task_id, force=force and not session.core.is_call(task_id), recursive=recursive)


def _cancel(session: "Session", task_id: bytes, *, force: bool, recursive: bool) -> None:
    error = encode_error(TaskCancelledError(task_id.hex()))
    outcome = session.core.cancel(task_id, recursive, error)
    if outcome == _core.CANCEL_SENT and force:
        _kill_workers_of(session, task_id, f"task {task_id.hex()} was cancelled by force")


def task_overdue(session: "Session", task_id: bytes, name: str, timeout_ms: int, again: bool) -> None:
    """A task has run for longer than its ``timeout_s``: it is cancelled, and later its worker killed.

    Args:
        again: It was told to end before, and the time that it got for that is over too.
    """
    timeout = f"timeout_s={timeout_ms / 1000:g}"
    if again:
        reason = f"task {task_id.hex()} ({name}) did not end when it was interrupted, {timeout} having passed"
        _kill_workers_of(session, task_id, reason)
        return
    text = (
        f"Task {task_id.hex()} ({name}) was cancelled because it ran for longer than {timeout}: "
        "give it more time with .options(timeout_s=...), or less to do"
    )
    if session.core.cancel(task_id, True, encode_error(TaskTimeoutError(task_id.hex(), text))):
        session.core.remind(task_id, session.node.timeout_grace_ms)


def run_called_off(
    session: "Session", task_id: bytes, worker_id: bytes, lease_id: int, lingers: bool
) -> None:
    """One of two runs of a task was told to end, because the other counts; if it does not, it is killed."""
    if lingers:
        reason = f"task {task_id.hex()} ended elsewhere, and this run of it did not when it was interrupted"
        _kill(session, worker_id, lease_id, reason)
    else:
        session.core.remind_of_called_off(task_id, session.node.timeout_grace_ms)


def _kill_workers_of(session: "Session", task_id: bytes, reason: str) -> None:
    for worker_id, lease_id in session.core.workers_of(task_id):
        _kill(session, worker_id, lease_id, reason)


def _kill(session: "Session", worker_id: bytes, lease_id: int, reason: str) -> None:
    session.control.notify(
        kill_worker=raylet_pb2.KillWorker(worker_id=worker_id, lease_id=lease_id, reason=reason)
    )
