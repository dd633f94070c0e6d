"""ObjectRef in asynchronous code: ``await ref`` and ``ref.future()``.

The core reports readiness once per object; this module hands it to whoever waits, one wake-up per event loop
and batch rather than one per object.
"""

import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from types import GenericAlias
from typing import TYPE_CHECKING, Any

from aktis._core import Core, ObjectRef
from aktis._runtime import current
from aktis._runtime.ids import JobID, TaskID

if TYPE_CHECKING:
    import asyncio


_Key = tuple[bytes, bool]
"""An object, and whether its value must be here."""


class Watchers:
    """Who waits for which object without blocking a thread. Any thread."""

    def __init__(self, core: Core) -> None:
        """Watch objects of ``core``."""
        self._core = core
        self._lock = threading.Lock()
        self._waiting: dict[_Key, list[Callable[[], object] | _LoopWaiter]] = {}

    def add(
        self, ref: ObjectRef[Any], waiter: "Callable[[], object] | _LoopWaiter", *, value: bool = True
    ) -> bool:
        """Call ``waiter`` on the service thread when the object's value can be read in this process.

        True: it can be read now, no call comes. ``value=False``: it is enough that it exists somewhere.

        Raises:
            SessionEndedError: the reference is none of this session, or that has ended.
        """
        key = (ref.binary(), value)
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.append(waiter)
                return False
            self._waiting[key] = [waiter]
        nothing_comes = True
        try:
            nothing_comes = self._core.watch(ref, value)
        finally:
            if nothing_comes:
                with self._lock:
                    # Whoever joined in the meantime has been told to wait: it is up to us to wake it.
                    others = self._waiting.pop(key, [])
                _wake(other for other in others if other is not waiter)
        return nothing_comes

    def begin(self, refs: "Iterable[ObjectRef[Any]]", *, value: bool = True) -> "list[Pending]":
        """Start to wait on the running event loop; return those that are not there yet, for `end`."""
        import asyncio

        loop = asyncio.get_running_loop()
        waiting = [(ref, _LoopWaiter(loop, value=value)) for ref in refs]
        return [(ref, waiter) for ref, waiter in waiting if not self.add(ref, waiter, value=value)]

    async def end(self, pending: "Iterable[Pending]") -> None:
        """Wait for what `begin` returned; whatever ends the wait, nothing of it is left."""
        try:
            for _, waiter in pending:
                await waiter.future
        finally:
            for ref, waiter in pending:
                self.remove(ref, waiter)

    def remove(self, ref: ObjectRef[Any], waiter: "_LoopWaiter") -> None:
        """Whoever waits has given up, or was woken."""
        key = (ref.binary(), waiter.value)
        with self._lock:
            waiting = self._waiting.get(key)
            if waiting is not None and waiter in waiting:
                waiting.remove(waiter)
                if not waiting:
                    del self._waiting[key]

    def ready(self, objects: Sequence[_Key]) -> None:
        """Wake everybody who waits for these objects; where the value is not here, only who can do without.

        Called by the service thread.
        """
        with self._lock:
            lists = [self._waiting.pop((object_id, False), []) for object_id, _ in objects]
            lists += [self._waiting.pop((object_id, True), []) for object_id, value in objects if value]
        _wake(waiter for waiters in lists for waiter in waiters)

    def close(self) -> None:
        """Wake all: what they do next tells them that the session has ended."""
        with self._lock:
            object_ids = {object_id for object_id, _ in self._waiting}
        self.ready([(object_id, True) for object_id in object_ids])


class _LoopWaiter:
    """A future of an event loop that waits."""

    __slots__ = ("future", "loop", "value")

    def __init__(self, loop: "asyncio.AbstractEventLoop", *, value: bool = True) -> None:
        self.loop = loop
        self.value = value  # which must be here, or it is enough that the object exists
        self.future: asyncio.Future[None] = loop.create_future()


Pending = tuple[ObjectRef[Any], _LoopWaiter]


def _wake(waiters: Iterable[Callable[[], object] | _LoopWaiter]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for waiter in waiters:
        if isinstance(waiter, _LoopWaiter):
            by_loop.setdefault(waiter.loop, []).append(waiter.future)
        else:
            try:
                waiter()
            except Exception:  # the others must not wait for ever
                traceback.print_exc()
    for loop, futures in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, futures)
        except RuntimeError:  # the loop has been closed: nobody waits there any more
            continue


def _resolve(futures: "list[asyncio.Future[None]]") -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _await(self: ObjectRef[Any]) -> Generator[Any, None, Any]:
    """Wait for the object on the running event loop; returns its value or raises its error."""
    import asyncio

    session = current.require_for(self)
    waiter = _LoopWaiter(asyncio.get_running_loop())
    if not session.watchers.add(self, waiter):
        try:
            yield from waiter.future
        finally:
            session.watchers.remove(self, waiter)
    return _value(session.core, self)


def _future(self: ObjectRef[Any]) -> Future[Any]:
    """Return a concurrent.futures.Future that gets the object's value or error."""
    session = current.require_for(self)
    future: Future[Any] = Future()
    ref = self

    begun = threading.Lock()

    def complete() -> None:
        if not begun.acquire(blocking=False):
            return  # the watcher may be woken and told at once that nothing will come
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(_value(session.core, ref))
        except BaseException as error:
            future.set_exception(error)

    def complete_soon() -> None:
        # Whoever waits for a future must not wait for ever: the end of the session becomes its error.
        if not session.callbacks.run(complete):
            complete()

    if session.watchers.add(ref, complete_soon):
        complete()
    return future


def _as_future(self: ObjectRef[Any]) -> "asyncio.Future[Any]":
    """Return a future of the running event loop that gets the object's value or error."""
    import asyncio

    return asyncio.ensure_future(self)  # tidy: allow  it is the caller's


def _task_id(self: ObjectRef[Any]) -> TaskID:
    """Return the id of the task that makes the object; of ``put``, one that no task has."""
    return TaskID(self._task_bytes())


def _job_id(self: ObjectRef[Any]) -> JobID:
    """Return the id of the job that this process works for, of which the reference is."""
    return JobID(current.require_for(self).job_id)


def _value(core: Core, ref: ObjectRef[Any]) -> Any:
    """The value of an object that can be read."""
    values = core.get([ref], -1.0)
    assert values is not None, "get without a limit returns values or raises"
    return values[0]


ObjectRef.__await__ = _await  # type: ignore[method-assign]
ObjectRef.future = _future  # type: ignore[method-assign]
ObjectRef.as_future = _as_future  # type: ignore[method-assign]
ObjectRef.task_id = _task_id  # type: ignore[method-assign]
ObjectRef.job_id = _job_id  # type: ignore[method-assign]
if not hasattr(ObjectRef, "__class_getitem__"):
    ObjectRef.__class_getitem__ = classmethod(GenericAlias)  # type: ignore[attr-defined]
