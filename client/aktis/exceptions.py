"""The exceptions of the public interface: one tree below AktisError.

Each says what happened, to which task, actor or object, and what to do next. All of them pickle.

Some are part of the interface so that programs can name them in ``except``, and nothing raises them yet:
AuthenticationError, NodeDiedError and OutOfDiskError.
"""

from typing import Any

__all__ = [
    "ActorAlreadyExistsError",
    "ActorDiedError",
    "ActorError",
    "ActorHandleNotFoundError",
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "ActorUnschedulableError",
    "AktisError",
    "AktisWarning",
    "AuthenticationError",
    "DeserializationError",
    "GetTimeoutError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectStoreFullError",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "RuntimeEnvSetupError",
    "SessionEndedError",
    "TaskCancelledError",
    "TaskError",
    "TaskPlacementGroupRemoved",
    "TaskTimeoutError",
    "TaskUnschedulableError",
    "WorkerCrashedError",
]


class AktisError(Exception):
    """Base of every error of the runtime."""


class SessionEndedError(ValueError, AktisError):
    """A reference of a session that has ended, by ``shutdown`` or with its cluster, was used."""


class AktisWarning(UserWarning):
    """Advice: what the program does works, but not well. Each is given once per session."""


# ---- tasks ----


class TaskError(AktisError):
    """A task or actor method raised an exception.

    What ``get`` raises is an instance of the user's own exception type too, so that ``except ValueError``
    works: see `aktis._runtime.errors`.

    Attributes:
        function_name: Name of the task or method.
        cause: The exception as it was raised; None when it could not be pickled.
        traceback_str: The traceback in the process that ran the task.
        pid: That process; 0 when unknown.
    """

    def __init__(
        self,
        function_name: str = "",
        traceback_str: str = "",
        cause: BaseException | None = None,
        pid: int = 0,
    ) -> None:
        """Describe a failure; user code rarely makes one itself."""
        # Not super().__init__(): next in line may be the user's type, whose arguments are anyone's guess.
        BaseException.__init__(self, *(cause.args if cause is not None else (traceback_str,)))
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = cause
        self.pid = pid
        self.__cause__ = cause

    def __str__(self) -> str:
        where = f" (process {self.pid})" if self.pid else ""
        return f"{self.function_name}{where} failed\n{self.traceback_str.rstrip()}"

    def __reduce__(self) -> tuple[Any, ...]:
        from aktis._runtime.errors import reduce_task_error

        return reduce_task_error(self)


class TaskCancelledError(AktisError):
    """The task was cancelled, or a task that it depends on."""

    def __init__(self, task_id: object = None, error_message: str | None = None) -> None:
        """Name the task by its hexadecimal id, if known."""
        self.task_id = task_id
        self.error_message = error_message
        super().__init__(task_id, error_message)

    def __str__(self) -> str:
        if self.error_message:
            return self.error_message
        task = f"Task {self.task_id}" if self.task_id else "This task or one that it depends on"
        return f"{task} was cancelled"


class TaskTimeoutError(TaskCancelledError):
    """The task ran for longer than its ``timeout_s`` and was cancelled, or its worker killed."""


class WorkerCrashedError(AktisError):
    """The process that ran the task died, and its retries are used up. The message has the cause."""


class NodeDiedError(AktisError):
    """The node on which the task ran died."""


class LocalRayletDiedError(AktisError):
    """The raylet of this process's node is gone: this process cannot go on. Call shutdown() and init()."""


class TaskUnschedulableError(AktisError):
    """No node can ever run the task as its options ask for it."""


class TaskPlacementGroupRemoved(AktisError):  # noqa: N818  the name is part of the API to be compatible with
    """The placement group of the task was removed."""


class RuntimeEnvSetupError(AktisError):
    """A runtime environment could not be set up; the message has the output of the tool that failed."""


# ---- actors ----


class ActorError(AktisError):
    """A call to an actor failed because of the actor, not of the method."""

    def __init__(
        self, message: str = "The actor failed before it finished the call", actor_id: str = ""
    ) -> None:
        """Name the actor by its hexadecimal id."""
        super().__init__(message, actor_id)
        self.message = message
        self.actor_id = actor_id

    def __str__(self) -> str:
        return self.message


class ActorDiedError(ActorError):
    """The actor is dead for good. The message has the cause."""


class ActorUnavailableError(ActorError):
    """The actor is not there at the moment, and may be back later; the call may or may not have run."""


class ActorUnschedulableError(AktisError):
    """No node can ever hold the actor as its options ask for it."""


class ActorPlacementGroupRemoved(ActorDiedError):  # noqa: N818
    """The actor is dead because its placement group was removed."""


class ActorAlreadyExistsError(ValueError, AktisError):
    """The name is taken by another actor of the namespace."""


class ActorHandleNotFoundError(ValueError, AktisError):
    """The handle belongs to a session that has ended, and its actor is not known in this one."""


class PendingCallsLimitExceeded(AktisError):  # noqa: N818
    """The actor has ``max_pending_calls`` calls waiting already; wait for some of them."""


# ---- objects ----


class DeserializationError(AktisError):
    """A value cannot be loaded in this process; the message says which class of which module is at fault.

    ``__cause__`` is what was raised. As the error of a task it is about the task's arguments or its function.
    """


class ObjectStoreFullError(AktisError):
    """The node's object store has no room for the object; the message says who holds what."""


class OutOfDiskError(AktisError):
    """The disk is full."""


class OutOfMemoryError(AktisError):
    """The node was about to run out of memory, so the task's process was ended."""


class ObjectLostError(AktisError):
    """The value of an object is gone."""

    def __init__(self, object_ref_hex: str = "", reason: str = "") -> None:
        """Name the object by its hexadecimal id."""
        super().__init__(object_ref_hex, reason)
        self.object_ref_hex = object_ref_hex
        self.reason = reason

    _what = "was lost"
    _hint = "It can only be made again by running what made it."

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"Object {self.object_ref_hex} {self._what}{reason}. {self._hint}"


class ObjectFetchTimedOutError(ObjectLostError):
    """A task's argument could not be fetched in time: ``core.fetch_timeout_ms``."""

    _what = "could not be fetched in time"
    _hint = (
        "The store may be busy, or have been restarted without it: see the log of aktis-plasma. "
        "core.fetch_timeout_ms is how long a task waits."
    )


class ObjectFreedError(ObjectLostError):
    """`aktis.free` has let the value go while references to the object were left."""

    _what = "was freed explicitly"
    _hint = "Free an object only when nobody needs it any more; put() it again to have another one."

    def __str__(self) -> str:
        return f"Object {self.object_ref_hex} {self._what} {self.reason}".rstrip() + f". {self._hint}"


class OwnerDiedError(ObjectLostError):
    """The process that owned the object, the caller of put() or .remote(), is dead."""

    _what = "cannot be had because its owner died"
    _hint = "Let a process that lives long enough create it."


class ObjectReconstructionFailedError(ObjectLostError):
    """The object is lost, and computing it again is not possible or did not work."""

    _what = "was lost and could not be computed again"
    _hint = "Only results of tasks with retries left can be; objects of put() cannot."


class GetTimeoutError(AktisError, TimeoutError):
    """``get`` did not have every value in time."""


class AuthenticationError(AktisError):
    """The cluster refused this process's token."""
