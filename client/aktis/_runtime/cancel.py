"""Cancelling a task: queued, running, by force."""

from typing import Any

from aktis import _core
from aktis._core import ObjectRef
from aktis._proto import raylet_pb2
from aktis._runtime.errors import encode_error
from aktis._runtime.session import Session
from aktis.exceptions import TaskCancelledError


def cancel_task(session: Session, ref: ObjectRef[Any], *, force: bool, recursive: bool) -> None:
    """See `aktis.cancel`."""
    core = session.core
    task_id = ref.task_id()
    holder = core.worker_of(task_id)
    # A call of an actor has no lease: only the actor as a whole could be killed.
    if force and holder is not None and holder[1] == 0:
        raise ValueError("cancel(force=True) is not for calls of actors: use kill() to end the actor")
    error = encode_error(TaskCancelledError(task_id.hex()))
    outcome = core.cancel(task_id, recursive, error)
    if outcome != _core.CANCEL_SENT or not force:
        return
    holder = core.worker_of(task_id)
    if holder is not None:
        worker_id, lease_id = holder
        reason = f"task {task_id.hex()} was cancelled by force"
        session.control.notify(
            kill_worker=raylet_pb2.KillWorker(worker_id=worker_id, lease_id=lease_id, reason=reason)
        )
