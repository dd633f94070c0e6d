"""A worker that has become an actor: plain, threaded or async.

* Plain: one call after the other, in the main thread.
* Threaded (``max_concurrency`` or groups): threads that each take calls from the core's queue, no executor
between.
* Async: one event loop in the main thread that watches the core's descriptor; a coroutine per call, sync
methods
  run on the loop. A group's limit holds back what comes beyond it, in order.
"""

import asyncio
import collections
import contextvars
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, cast

import uvloop

from aktis._core import Task, running_task
from aktis._proto import common_pb2, raylet_pb2
from aktis._runtime import current, execution, objects, tracing
from aktis._runtime.actor_shape import (
    CALL_NAMES,
    READY_NAMES,
    TERMINATE_NAMES,
    ActorShape,
    is_async_function,
)
from aktis._runtime.errors import encode_error, task_failure
from aktis._runtime.session import Session
from aktis._worker.coroutine_store import CoroutineStore
from aktis._worker.executor import TaskRunner, exit_code_of, fail, split_returns
from aktis._worker.exit import ActorExit, exit_actor, leave
from aktis._worker.interrupts import MainInterrupts, ThreadInterrupts
from aktis._worker.streams import run_async_generator

if TYPE_CHECKING:
    from aktis._worker.checkpoints import Saver

_WAIT_S: Final = 3600.0
_TAKE_AT_ONCE: Final = 256


def intended(message: str) -> common_pb2.DeathCause:
    """The cause of an end on purpose."""
    return common_pb2.DeathCause(kind=common_pb2.DeathCause.INTENDED, message=message, pid=os.getpid())


class ActorProcess:
    """The actor that this process is; made when RunActor arrives, lives as long as the process."""

    def __init__(self, session: Session, order: raylet_pb2.RunActor) -> None:
        """Become the actor of ``order``; nothing of the user's runs yet."""
        self._session = session
        self._core = session.core
        self._order = order
        self.shape = ActorShape.decode(order.spec.handle)
        group = order.spec.strategy.placement_group_id
        self._facts = execution.ActorFacts(order.spec.actor_id, order.incarnation, self.shape, group=group)
        self._loop: _AsyncCalls | _ThreadedCalls | _PlainCalls

    def run_forever(self) -> None:
        """Construct the instance, tell the raylet, serve calls until the process ends."""
        session, order = self._session, self._order
        execution.actor = self._facts
        if order.spec.strategy.capture_child_tasks:
            current.captured = self._facts.group
        self._core.set_actor(order.spec.actor_id)
        if self.shape.is_async:
            self._loop = _AsyncCalls(session, self._facts)
        elif self.shape.max_concurrency > 1 or self.shape.concurrency_groups:
            self._loop = _ThreadedCalls(session, self._facts)
        else:
            self._loop = _PlainCalls(session, self._facts)
        self._core.set_groups(["", *self.shape.concurrency_groups])
        try:
            self._loop.run(self._construct)
        except ActorExit:
            leave(session, intended("exit_actor() was called"))
        except SystemExit as end:
            leave(session, None, exit_code_of(end))

    def interrupt(self, task_id: bytes) -> None:
        """Cancel a call that is running. Any thread."""
        self._loop.interrupt(task_id)

    def leave_when_idle(self, cause: common_pb2.DeathCause) -> None:
        """Finish what was called, then end. Any thread."""
        self._loop.leave_when_idle(cause)

    def _saver(self) -> "Saver | None":
        if self.shape.checkpoint is None:
            return None
        from aktis._worker.checkpoints import Saver

        return Saver(self.shape.checkpoint, self._facts.actor_id, is_async=self.shape.is_async)

    def _construct(self) -> None:
        """Run the constructor; an actor whose constructor raises is dead before it lived."""
        session, order = self._session, self._order
        started = raylet_pb2.ActorStarted(actor_id=order.spec.actor_id, incarnation=order.incarnation)
        task = self._core.load_creation(order.spec.creation_task)
        self._core.begin(task)
        try:
            session.require_job()
            cls = session.functions.load(task.function_id).value
            args, kwargs = task.load_args()
            self._facts.saver = saver = self._saver()
            make = cls if tracing.tracer is None else tracing.traced(cls, task)
            self._facts.instance = make(*args, **kwargs)
            if saver is not None:
                saver.adopt(self._facts.instance)
        except (ActorExit, SystemExit):
            raise
        except BaseException as error:
            # It goes through the GCS, where nobody counts references, and this process ends.
            failure = encode_error(task_failure(task.name, error, os.getpid(), skip_frames=1))
            self._core.fail(task, failure)
            started.failed = True
            started.cause.kind = common_pb2.DeathCause.CREATION_FAILED
            started.cause.message = f"its constructor raised {type(error).__name__}: {error}"[:1024]
            started.cause.error = failure
            started.cause.pid = os.getpid()
            session.control.notify(actor_started=started)
            leave(session, started.cause, exit_code=1)
        running_task.set(None)  # an event loop goes on in this context
        self._core.finish(task, ())
        self._core.set_accepting(True)
        session.control.notify(actor_started=started)


class _Methods:
    """Finds what a call is to run."""

    def __init__(self, facts: execution.ActorFacts) -> None:
        self._facts = facts
        self._known: dict[str, Callable[..., Any]] = {}

    def find(self, task: Task) -> Callable[..., Any]:
        name = task.method
        method = self._known.get(name)
        if method is None:
            method = self._known[name] = self._look_up(name)
        return method

    def _look_up(self, name: str) -> Callable[..., Any]:
        instance = self._facts.instance
        if name in READY_NAMES:
            return lambda: True
        if name in TERMINATE_NAMES:
            return exit_actor
        method: Callable[..., Any]
        if name in CALL_NAMES:
            method = lambda function, *args, **kwargs: function(instance, *args, **kwargs)  # noqa: E731
        else:
            method = getattr(instance, name)
        return method if self._facts.saver is None else self._facts.saver.wrap(method)


class _PlainCalls:
    """One call at a time, in order, in the main thread."""

    def __init__(self, session: Session, facts: execution.ActorFacts) -> None:
        self._session = session
        self._core = session.core
        self._interrupts = MainInterrupts()
        self._runner = TaskRunner(session, self._interrupts)
        self._find = _Methods(facts).find
        self._cause: common_pb2.DeathCause | None = None
        self._idle = False

    def run(self, construct: Callable[[], None]) -> None:
        construct()
        next_task, run, find = self._core.next_task, self._runner.run, self._find
        while True:
            # Idle is said before the cause is looked at, and the cause set before idle is looked at: whoever
            # comes second sees the other.
            self._idle = True
            task = next_task("", _WAIT_S if self._cause is None else 0.0)
            self._idle = False
            if task is not None:
                run(task, find)
            elif self._cause is not None:
                leave(self._session, self._cause)

    def interrupt(self, task_id: bytes) -> None:
        self._interrupts.interrupt(task_id)

    def leave_when_idle(self, cause: common_pb2.DeathCause) -> None:
        self._cause = cause
        if self._idle and self._core.statistics()["running"] == 0:
            leave(self._session, cause)


class _ThreadedCalls:
    """As many threads per group as it has concurrency."""

    def __init__(self, session: Session, facts: execution.ActorFacts) -> None:
        self._session = session
        self._core = session.core
        self._interrupts = ThreadInterrupts()
        self._runner = TaskRunner(session, self._interrupts)
        self._find = _Methods(facts).find
        self._groups = {"": facts.shape.max_concurrency, **facts.shape.concurrency_groups}
        self._end = threading.Event()
        self._cause: common_pb2.DeathCause | None = None
        self._outcome: BaseException | None = None
        self._busy = 0
        self._lock = threading.Lock()

    def run(self, construct: Callable[[], None]) -> None:
        construct()
        for group, size in self._groups.items():
            for number in range(size):
                name = f"aktis-{group or 'call'}-{number}"
                threading.Thread(target=self._serve, args=(group,), name=name, daemon=True).start()
        self._end.wait()  # until the process is to end, for whatever reason
        if self._outcome is not None:
            raise self._outcome
        leave(self._session, self._cause)

    def _serve(self, group: str) -> None:
        next_task, run, find = self._core.next_task, self._runner.run, self._find
        try:
            while not self._end.is_set():
                task = next_task(group, _WAIT_S)
                if task is None:
                    continue
                with self._lock:
                    self._busy += 1
                run(task, find)
                with self._lock:
                    self._busy -= 1
                    if self._cause is not None and self._busy == 0:
                        self._end.set()
        except BaseException as error:
            self._outcome = error
            self._end.set()

    def interrupt(self, task_id: bytes) -> None:
        self._interrupts.interrupt(task_id)

    def leave_when_idle(self, cause: common_pb2.DeathCause) -> None:
        with self._lock:
            self._cause = cause
            # A thread may have a call in hand that it has not counted yet.
            if self._busy == 0 and self._core.statistics()["running"] == 0:
                self._end.set()


class _AsyncCalls:
    """A coroutine per call on one event loop, in the main thread."""

    def __init__(self, session: Session, facts: execution.ActorFacts) -> None:
        self._session = session
        self._core = session.core
        self._find = _Methods(facts).find
        self._free = {"": facts.shape.max_concurrency, **facts.shape.concurrency_groups}
        self._waiting: dict[str, collections.deque[Task]] = {
            group: collections.deque() for group in self._free
        }
        self._running: dict[bytes, asyncio.Task[None]] = {}
        self._spawn: Callable[..., asyncio.Task[None]]
        self._event_loop: asyncio.AbstractEventLoop
        self._context: contextvars.Context
        self._end: asyncio.Future[None]
        self._cause: common_pb2.DeathCause | None = None
        self._methods: dict[str, tuple[Callable[..., Any], bool]] = {}
        self._store = CoroutineStore(session, in_order=not facts.shape.out_of_order)

    def run(self, construct: Callable[[], None]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main(construct))

    async def _main(self, construct: Callable[[], None]) -> None:
        loop = self._event_loop = asyncio.get_running_loop()
        self._end = loop.create_future()
        async with asyncio.TaskGroup() as group:
            self._spawn = group.create_task
            try:
                construct()  # on the loop, so that a constructor can make futures and tasks of it
            except ActorExit as end:  # the group would wrap it
                self._stop(end)
            self._context = contextvars.copy_context()
            objects.event_loop_thread = threading.get_ident()
            loop.add_reader(self._core.task_fd(), self._on_readable)
            loop.call_soon(self._on_readable)  # what came before the reader was there
            await self._end
        leave(self._session, self._cause)

    def _on_readable(self) -> None:
        self._core.poll()
        while tasks := self._core.take_tasks(_TAKE_AT_ONCE):
            for task in tasks:
                group = task.concurrency_group
                if self._free[group] > 0:
                    self._start(task, group)
                else:
                    self._waiting[group].append(task)

    def _start(self, task: Task, group: str) -> None:
        self._free[group] -= 1
        # Each call has a context of its own: what one sets, another does not see, and neither does the one
        # that waited for the end of a first one and is started by it.
        self._running[task.task_id] = self._spawn(self._call(task, group), context=self._context.copy())

    async def _call(self, task: Task, group: str) -> None:
        core = self._core
        core.begin(task)
        try:
            if task.cancelled:  # before its first step
                raise asyncio.CancelledError
            method, is_async = self._methods.get(task.method) or self._classify(task)
            args, kwargs = await self._store.load_args(task, group)
            if tracing.tracer is not None:
                method = tracing.traced(method, task)
            result = method(*args, **kwargs)
            if task.is_generator:
                result = await run_async_generator(core, self._store, task, result)
            elif is_async:
                result = await result
            del args, kwargs  # as in TaskRunner
            values = (result,) if task.num_returns == 1 else split_returns(task, result)
            await self._store.finish(task, values)
        except (ActorExit, SystemExit, KeyboardInterrupt) as end:
            self._stop(end)
        except BaseException as error:
            fail(core, task, error, cancelled=isinstance(error, asyncio.CancelledError) and task.cancelled)
        finally:
            self._ended(task, group)

    def _classify(self, task: Task) -> tuple[Callable[..., Any], bool]:
        method = self._find(task)
        is_async = is_async_function(method)
        if task.method in CALL_NAMES:
            method, is_async = _awaited_if_needed(method), True
        self._methods[task.method] = (method, is_async)
        return method, is_async

    def _ended(self, task: Task, group: str) -> None:
        self._running.pop(task.task_id, None)
        self._free[group] += 1
        if self._waiting[group]:
            self._start(self._waiting[group].popleft(), group)
        elif self._cause is not None and not self._running and not self._end.done():
            self._end.set_result(None)

    def _stop(self, end: BaseException) -> None:
        """User code ends the process; other coroutines are not waited for."""
        if isinstance(end, ActorExit):
            leave(self._session, intended("exit_actor() was called"))
        leave(self._session, None, exit_code_of(end) if isinstance(end, SystemExit) else 1)

    def interrupt(self, task_id: bytes) -> None:
        self._event_loop.call_soon_threadsafe(self._cancel, task_id)

    def _cancel(self, task_id: bytes) -> None:
        running = self._running.get(task_id)
        if running is not None:
            coroutine = cast("Coroutine[Any, Any, None]", running.get_coro())
            # One that is cancelled before its first step never runs, and nobody would answer.
            if inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
                running.cancel()
            return
        for waiting in self._waiting.values():
            for task in [task for task in waiting if task.task_id == task_id]:
                waiting.remove(task)
                self._context.copy().run(self._core.begin, task)
                fail(self._core, task, asyncio.CancelledError(), cancelled=True)

    def leave_when_idle(self, cause: common_pb2.DeathCause) -> None:
        self._event_loop.call_soon_threadsafe(self._leave_when_idle, cause)

    def _leave_when_idle(self, cause: common_pb2.DeathCause) -> None:
        self._cause = cause
        if not self._running and not self._end.done():
            self._end.set_result(None)


def _awaited_if_needed(method: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        return await result if asyncio.iscoroutine(result) else result

    return run
