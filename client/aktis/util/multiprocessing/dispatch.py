"""Who of a pool's workers does what: an event loop in a thread of its own.

An idle worker comes first, and a worker has one job at a time. So a job does not wait behind a slow one while
another worker is idle, and jobs that wait for one another get along as in the standard library's pool. Only
jobs of a function that has been quick are given out several at a time, as many as fit in two milliseconds:
for those the way there and back would take longer than the work.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aktis
from aktis._runtime import current
from aktis.exceptions import ActorDiedError, AktisError, SessionEndedError, TaskError
from aktis.util.multiprocessing.worker import PoolWorker

_AHEAD_S: Final = 0.002
_AHEAD_LIMIT: Final = 64
_DECAY: Final = 0.1


class Pace:
    """How long the jobs of one function take. Belongs to the dispatcher's thread."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._seconds: float | None = None

    def add(self, seconds: float) -> None:
        """A job has taken so long: slowness is believed at once, quickness only by and by."""
        if self._seconds is None or seconds > self._seconds:
            self._seconds = seconds
        else:
            self._seconds += (seconds - self._seconds) * _DECAY

    def jobs_at_once(self) -> int:
        """How many jobs a worker may have."""
        if self._seconds is None:
            return 1
        return max(1, min(_AHEAD_LIMIT, int(_AHEAD_S / max(self._seconds, 1e-9))))


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One call of a worker: ``method`` of `PoolWorker` with ``args``; one of the others is called at its end.

    Both are called on the dispatcher's thread.
    """

    method: str
    args: tuple[Any, ...]
    pace: Pace
    succeed: Callable[[Any], None]
    fail: Callable[[BaseException], None]


class RemoteTraceback(Exception):  # noqa: N818  it only carries a text
    """The traceback of an exception in the process where it was raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _Worker:
    """What the dispatcher knows of one worker."""

    __slots__ = ("actor", "jobs", "jobs_given", "limit", "retired")

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.jobs = 0
        self.limit = 0
        """How many jobs it may have, as its slowest one says."""
        self.jobs_given = 0
        self.retired = False


class _Loop(asyncio.SelectorEventLoop):
    """Nobody's but the dispatcher's: it may wait until there is room for arguments in the object store."""

    may_block = True


class Dispatcher:
    """Belongs to its thread; what comes before `_run` is for others.

    Running, then closed (ends when the last job is done that is there or that a source brings) or terminated
    (ends at once). A worker that has died, or that has had its share of jobs, is replaced; when that is not
    possible the dispatcher ends, and jobs fail with the reason as their cause.
    """

    def __init__(
        self,
        processes: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_jobs: int | None,
        options: Mapping[str, Any],
    ) -> None:
        """Start the workers and the thread.

        Raises:
            Exception: the workers cannot be made; for example ``initializer`` cannot be pickled.
        """
        self._max_jobs = max_jobs
        self._session = current.require()
        actor_class = aktis.remote(**{"num_cpus": 0, **options})(PoolWorker)
        self._new_actor: Callable[[], Any] = lambda: actor_class.remote(initializer, initargs)
        self._inbox: deque[Job] = deque()
        self._told = False  # of what is in the inbox
        self._idle: deque[_Worker] = deque(self._new_worker() for _ in range(processes))
        self._busy: set[_Worker] = set()
        self._under_way: dict[Job, asyncio.Task[None]] = {}
        self._waiting: deque[Job] = deque()
        self._sources = 0  # of more jobs, which may come after `close`
        self._closed = False
        self._failure: BaseException | None = None
        self._runner = asyncio.Runner(loop_factory=_Loop)
        self._loop = self._runner.get_loop()
        self._end: asyncio.Future[None] = self._loop.create_future()
        self._group: asyncio.TaskGroup
        self._thread = threading.Thread(target=self._run, name="aktis-pool", daemon=True)
        self._thread.start()

    def submit(self, jobs: Iterable[Job]) -> None:
        """Have jobs done; those that come too late fail."""
        self._inbox.extend(jobs)
        if self._told:
            return  # and not taken yet: it says so before it looks
        self._told = True
        try:
            self._loop.call_soon_threadsafe(self._take)
        except RuntimeError:  # the loop is closed
            self._fail_all(self._inbox)

    def source_begins(self) -> None:
        """Stay until `source_ends`, though the pool may be closed before: more jobs come."""
        self._tell(self._source_begins)

    def source_ends(self) -> None:
        """See `source_begins`."""
        self._tell(self._source_ends)

    @property
    def alive(self) -> bool:
        """Whether jobs may still be done."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End when those jobs are done that there are, and those of sources."""
        self._tell(self._close)

    def terminate(self) -> None:
        """Kill the workers and end. Jobs that are not done fail."""
        self._tell(self._terminate)

    def join(self) -> None:
        """Wait for the end; a callback, which runs on the thread, does not."""
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _tell(self, action: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(action)

    # ---- on the thread ----

    def _run(self) -> None:
        try:
            with self._runner:
                self._runner.run(self._main())
        finally:
            self._told = False  # whoever submits from now on finds the loop closed
            self._fail_all(self._inbox)

    async def _main(self) -> None:
        try:
            async with asyncio.TaskGroup() as self._group:
                await self._end
        finally:
            # The last handles: the workers end. A pool that is kept keeps nothing of the session.
            self._idle.clear()
            self._busy.clear()
            del self._new_actor, self._session
            self._waiting.extend(self._under_way)  # a callback has raised what ends threads
            self._fail_all(self._waiting)

    def _new_worker(self) -> _Worker:
        if current.session is not self._session:
            raise SessionEndedError("the session in which this pool was made has ended: make another pool")
        return _Worker(self._new_actor())

    def _take(self) -> None:
        self._told = False
        while self._inbox:
            self._waiting.append(self._inbox.popleft())
        if self._end.done():
            self._fail_all(self._waiting)
        else:
            self._dispatch()

    def _source_begins(self) -> None:
        self._sources += 1

    def _source_ends(self) -> None:
        self._sources -= 1
        self._end_if_over()

    def _close(self) -> None:
        self._closed = True
        self._end_if_over()

    def _terminate(self) -> None:
        if self._end.done():
            return
        self._end.set_result(None)
        while self._under_way:
            job, task = self._under_way.popitem()
            task.cancel()
            self._call(job.fail, self._too_late())
        for worker in (*self._idle, *self._busy):
            if aktis.is_initialized():  # else the actors have ended with the session
                with contextlib.suppress(AktisError):
                    aktis.kill(worker.actor)

    def _fail_all(self, jobs: deque[Job]) -> None:
        while jobs:
            self._call(jobs.popleft().fail, self._too_late())

    def _too_late(self) -> RuntimeError:
        if self._failure is None:
            return RuntimeError("the pool was terminated before this was done")
        error = RuntimeError(f"the pool has ended, because a process could not be replaced: {self._failure}")
        error.__cause__ = self._failure
        return error

    def _end_if_over(self) -> None:
        left = self._sources or self._waiting or self._inbox or self._busy
        if self._closed and not left and not self._end.done():
            self._end.set_result(None)

    def _dispatch(self, free: _Worker | None = None) -> None:
        """Give out what waits, also to a worker that has just become free."""
        try:
            if free is not None:
                self._idle.append(self._new_worker() if free.retired else free)
            while self._waiting:
                worker = self._worker_for(self._waiting[0])
                if worker is None:
                    return
                self._give(worker, self._waiting.popleft())
        except Exception as error:  # a worker could not be replaced
            self._failure = error
            self._terminate()

    def _worker_for(self, job: Job) -> _Worker | None:
        if self._idle:
            idle = self._idle.popleft()
            # One that has died without a job is no reason for this job to fail.
            return self._new_worker() if self._session.actors.is_dead(idle.actor._actor_id) else idle
        at_once = job.pace.jobs_at_once()
        if at_once == 1 or not self._busy:
            return None
        worker = min(self._busy, key=lambda busy: busy.jobs)
        return worker if worker.jobs < min(at_once, worker.limit) and not worker.retired else None

    def _give(self, worker: _Worker, job: Job) -> None:
        try:
            ref = getattr(worker.actor, job.method).remote(*job.args)
        except Exception as error:  # it cannot be sent
            if not worker.jobs:
                self._idle.appendleft(worker)
            self._call(job.fail, error)
            return
        at_once = job.pace.jobs_at_once()
        worker.limit = min(worker.limit, at_once) if worker.jobs else at_once
        worker.jobs += 1
        worker.jobs_given += 1
        worker.retired = worker.jobs_given == self._max_jobs
        self._busy.add(worker)
        self._under_way[job] = self._group.create_task(self._finish(worker, job, ref))

    async def _finish(self, worker: _Worker, job: Job, ref: Any) -> None:
        try:
            seconds, value = await ref
        except Exception as error:
            tell, outcome = job.fail, _as_raised(error)
            worker.retired |= isinstance(error, ActorDiedError)
        else:
            tell, outcome = job.succeed, value
            job.pace.add(seconds)
        del self._under_way[job]  # before it is told, which may lead to the end of the pool
        self._call(tell, outcome)
        worker.jobs -= 1
        if not worker.jobs:
            self._busy.remove(worker)
        self._dispatch(None if worker.jobs else worker)
        self._end_if_over()

    def _call(self, callback: Callable[[Any], None], value: Any) -> None:
        try:
            callback(value)
        except Exception as error:  # of the user's own callback: the other jobs go on
            self._loop.call_exception_handler({"message": "a pool's callback failed", "exception": error})


def _as_raised(error: Exception) -> BaseException:
    """The exception as the function raised it, as the standard library's pool does, with its traceback."""
    if not isinstance(error, TaskError) or error.cause is None:
        return error
    cause = error.cause
    cause.__cause__ = RemoteTraceback(error.traceback_str)
    return cause
