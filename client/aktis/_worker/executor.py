"""Runs tasks in the main thread, one after the other.

Plain workers, and the steps that actors share with them.
"""

import os
from collections.abc import Callable
from typing import Any, Protocol

from aktis._core import Core, Task, collect_references
from aktis._runtime import current, tracing
from aktis._runtime.errors import encode_error, error_text, task_failure
from aktis._runtime.execution import captured_group
from aktis._runtime.pickling import NotPicklableError, unpicklable
from aktis._runtime.session import Session
from aktis._worker.exit import ActorExit, leave
from aktis._worker.interrupts import MainInterrupts
from aktis._worker.streams import run_generator
from aktis.exceptions import RuntimeEnvSetupError, TaskCancelledError

_WAIT_S = 3600.0
_EMPTY: tuple[Any, ...] = ()


class Interrupts(Protocol):
    """How a running task is interrupted; see `aktis._worker.interrupts`."""

    def begin(self, task_id: bytes) -> None: ...
    def end(self) -> None: ...
    def interrupt(self, task_id: bytes) -> None: ...


def split_returns(task: Task, result: Any) -> tuple[Any, ...]:
    """Return the values of a task with another number of returns than one.

    Raises:
        ValueError: the function returned another number of values.
        TypeError: it returned something that cannot be split.
    """
    wanted = task.num_returns
    if wanted == 0:
        return _EMPTY
    try:
        values = tuple(result)
    except TypeError:
        raise TypeError(f"{task.name} must return {wanted} values, got one {type(result).__name__}") from None
    if len(values) != wanted:
        raise ValueError(f"{task.name} must return {wanted} values (num_returns), got {len(values)}")
    return values


def fail(core: Core, task: Task, error: BaseException, *, cancelled: bool) -> None:
    """End a task with an exception that its function raised."""
    if isinstance(error, RuntimeEnvSetupError):
        core.fail(task, encode_error(error), False, error_text(error))
        return
    if cancelled or isinstance(error, TaskCancelledError):
        own = TaskCancelledError(task.task_id.hex())
        core.fail(task, encode_error(own), True)
        return
    failure = task_failure(task.name, error, os.getpid(), skip_frames=1)
    data, references = collect_references(lambda: encode_error(failure))
    core.fail(task, data, False, error_text(error), references)


class TaskRunner:
    """Executes one task at a time in the calling thread and ends it, whatever it raises."""

    def __init__(self, session: Session, interrupts: Interrupts) -> None:
        """Execute for ``session``."""
        self._session = session
        self._core = session.core
        self._interrupts = interrupts

    def run(self, task: Task, function: Callable[[Task], Callable[..., Any]]) -> None:
        """Find the function by ``function``, load the arguments, call, finish.

        Raises:
            ActorExit: user code called exit_actor(); the call gets no reply.
            SystemExit: user code ends the process.
        """
        core, interrupts = self._core, self._interrupts
        core.begin(task)
        task_id = task.task_id
        try:
            try:
                call = function(task)
                interrupts.begin(task_id)
                if task.cancelled:  # before it could be interrupted
                    raise KeyboardInterrupt
                args, kwargs = task.load_args()
                if tracing.tracer is not None:
                    call = tracing.traced(call, task)
                result = call(*args, **kwargs)
                del args, kwargs  # what it has not kept of them needs no registration with its owner
                if task.is_generator:
                    result = run_generator(core, task, result)
            finally:
                interrupts.end()
            try:
                core.finish(task, (result,) if task.num_returns == 1 else split_returns(task, result))
            except NotPicklableError as error:
                raise unpicklable(f"what {task.name} returned", error.value, error.reason) from None
        except (ActorExit, SystemExit):
            raise
        except BaseException as error:
            fail(core, task, error, cancelled=isinstance(error, KeyboardInterrupt))


class PlainExecutor:
    """The main loop of a worker that runs tasks. Owned by the main thread; others call what says so."""

    def __init__(self, session: Session) -> None:
        """Execute for ``session``."""
        self._session = session
        self._core = session.core
        self.interrupts = MainInterrupts()
        self._runner = TaskRunner(session, self.interrupts)
        self._functions: dict[bytes, Callable[..., Any]] = {}
        self._calls_left: dict[bytes, int] = {}
        self.broken: RuntimeEnvSetupError | None = None
        """Why nothing can be run here."""
        self.leaving: Callable[[], None] | None = None
        """Set by another thread to be called between two tasks."""

    def run_forever(self) -> None:
        """Take tasks and run them until the process ends."""
        next_task, runner, functions = self._core.next_task, self._runner, self._functions
        find: Callable[[Task], Callable[..., Any]] = lambda task: (  # noqa: E731
            functions.get(task.function_id) or self._load(task)
        )
        placement = b""
        try:
            while True:
                task = next_task("", _WAIT_S)
                if task is not None:
                    if task.placement != placement:
                        placement = task.placement
                        current.captured = captured_group(placement)
                    runner.run(task, find)
                    if self._calls_left:
                        self._count(task.function_id)
                if self.leaving is not None:
                    self.leaving()
        except SystemExit as end:
            leave(self._session, None, exit_code_of(end))

    def _load(self, task: Task) -> Callable[..., Any]:
        """Fetch a function that this worker has not run yet.

        The first one brings the job's settings along.
        """
        if self.broken is not None:
            raise self.broken
        session = self._session
        if session.job_id != task.job_id:
            session.set_job(task.job_id)
        session.require_job()
        exported = session.functions.load(task.function_id)
        function: Callable[..., Any] = exported.value
        if exported.max_calls:
            self._calls_left[task.function_id] = exported.max_calls
        self._functions[task.function_id] = function
        return function

    def _count(self, function_id: bytes) -> None:
        """``max_calls``: a worker that has run a function so often ends, and its memory with it."""
        left = self._calls_left.get(function_id)
        if left is None:
            return
        self._calls_left[function_id] = left - 1
        if left == 1:
            from aktis._proto import common_pb2

            message = "it has run a function with max_calls as often as that allows"
            leave(self._session, common_pb2.DeathCause(kind=common_pb2.DeathCause.INTENDED, message=message))


def exit_code_of(end: SystemExit) -> int:
    """The exit code that Python gives a process for a SystemExit."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    return 1
