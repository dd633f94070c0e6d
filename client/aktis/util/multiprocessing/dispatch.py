"""Who of a pool's workers does what: an event loop in a thread of its own.

An idle worker comes first, and a worker has one job at a time. So a job does not wait behind a slow one while
another worker is idle, and jobs that wait for one another get along as in the standard library's pool. Only
jobs of a function that has been quick are given out several at a time, as many as fit in two milliseconds:
for those the way there and back would take longer than the work.

The shortest way of a single call does without that thread: whoever makes it gives it to an idle worker
(`Dispatcher.give_now`), and whoever waits for it reads the answer (`Dispatcher.help`). Both leave what waits,
and whatever else has to follow, to the thread.
"""

import asyncio
import contextlib
import functools
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
    """How long the jobs of one function take."""

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


@dataclass(slots=True, eq=False)
class Job:
    """One call of a worker: ``method`` of `PoolWorker` with ``args``; one of the others is called at its end.

    Both are called on the dispatcher's thread, or by who helps. The rest is the dispatcher's.
    """

    method: str
    args: tuple[Any, ...]
    pace: Pace
    succeed: Callable[[Any], None]
    fail: Callable[[BaseException], None]
    worker: "_Worker | None" = None
    ref: Any = None


class RemoteTraceback(Exception):  # noqa: N818  it only carries a text
    """The traceback of an exception in the process where it was raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _Worker:
    """What the dispatcher knows of one worker."""

    __slots__ = ("actor", "died", "jobs", "jobs_given", "limit")

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.jobs = 0
        self.limit = 0
        """How many jobs it may have, as its slowest one says."""
        self.jobs_given = 0
        self.died = False


class _Loop(asyncio.SelectorEventLoop):
    """Nobody's but the dispatcher's: it may wait until there is room for arguments in the object store."""

    may_block = True


class Dispatcher:
    """Belongs to its thread, but for what the lock guards; what comes before `_run` is for others.

    A job is under way from when a worker is chosen for it until somebody takes it out to tell its outcome.

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
        self._answered: deque[Job] = deque()
        self._told = False  # of what is in the inbox, or answered
        # The lock guards these, what is known of workers, and paces. Nothing waits while it is held.
        self._lock = threading.Lock()
        self._idle: deque[_Worker] = deque(self._new_worker() for _ in range(processes))
        self._busy: set[_Worker] = set()
        self._under_way: set[Job] = set()
        self._ended = False
        self._waiting: deque[Job] = deque()
        self._sources = 0  # of more jobs, which may come after `close`
        self._closed = False
        self._failure: BaseException | None = None
        self._runner = asyncio.Runner(loop_factory=_Loop)
        self._loop = self._runner.get_loop()
        self._end: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="aktis-pool", daemon=True)
        self._thread.start()

    def submit(self, jobs: Iterable[Job]) -> None:
        """Have jobs done; those that come too late fail."""
        self._inbox.extend(jobs)
        self._call_take()

    def _call_take(self) -> None:
        if self._told:
            return  # and not taken yet: it says so before it looks
        self._told = True
        try:
            self._loop.call_soon_threadsafe(self._take)
        except RuntimeError:  # the loop is closed
            self._fail_all(self._inbox)

    def give_now(self, job: Job) -> bool:
        """Give a job to an idle worker if nothing waits before it; False: nothing was done, `submit` it.

        Nobody follows it until `watch`.
        """
        with self._lock:
            if self._ended or self._waiting or self._inbox or not self._idle:
                return False
            if self._session.actors.is_dead(self._idle[0].actor._actor_id):
                return False  # it has to be replaced
            worker = self._idle.popleft()
            self._assign(worker, job)
        problem = self._send(worker, job)
        if problem is not None:
            self._tell(functools.partial(self._not_sent, worker, job, problem))
        return True

    def watch(self, job: Job) -> None:
        """See to it that the job ends when there is an answer, though nobody waits for it."""
        if job.ref is None or job not in self._under_way:
            return
        ready = functools.partial(self._ready, job)
        try:
            if not current.require_for(job.ref).watchers.add(job.ref, ready):
                return
        except SessionEndedError:
            pass  # reading it says so
        ready()

    def help(self, job: Job, timeout_s: float | None) -> None:
        """Wait for the answer of a job that a worker has, and end the job, which has no callbacks."""
        if job.ref is None or job not in self._under_way:
            return
        answer = _answer(job.ref, timeout_s)
        if answer is None or not self._take_out(job):
            return
        worker = job.worker
        assert worker is not None
        self._tell_outcome(job, worker, answer)
        with self._lock:
            worker.jobs -= 1
            more = worker.jobs or self._waiting or self._inbox or self._closed
            rests = not (more or self._is_used_up(worker))
            if rests and not self._ended:
                self._busy.remove(worker)
                self._idle.appendleft(worker)  # it is awake, and would be the best for a next call
        if not rests:
            self._tell(functools.partial(self._goes_on, worker))

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
            await self._end
        finally:
            with self._lock:
                self._ended = True
                # The last handles: the workers end. A pool that is kept keeps nothing of the session.
                self._idle.clear()
                self._busy.clear()
                del self._new_actor, self._session
                self._waiting.extend(self._under_way)  # a callback has raised what ends threads
                self._under_way.clear()
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
            return
        while self._answered:
            self._finish(self._answered.popleft())
        self._dispatch()
        self._end_if_over()

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
        with self._lock:
            self._ended = True
            lost, workers = list(self._under_way), [*self._idle, *self._busy]
            self._under_way.clear()
        for job in lost:
            self._call(job.fail, self._too_late())
        for worker in workers:
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
        with self._lock:
            left = self._sources or self._waiting or self._inbox or self._busy
            if self._closed and not left and not self._end.done():
                self._ended = True
                self._end.set_result(None)

    def _dispatch(self) -> None:
        """Give out what waits."""
        try:
            while self._waiting:
                worker = self._worker_for(self._waiting[0])
                if worker is None:
                    return
                self._give(worker, self._waiting.popleft())
        except Exception as error:  # a worker could not be replaced
            self._failure = error
            self._terminate()

    def _worker_for(self, job: Job) -> _Worker | None:
        with self._lock:
            idle = self._idle.popleft() if self._idle else None
            if idle is None:
                at_once = job.pace.jobs_at_once()
                if at_once == 1 or not self._busy:
                    return None
                worker = min(self._busy, key=lambda busy: busy.jobs)
                has_room = worker.jobs < min(at_once, worker.limit) and not self._is_used_up(worker)
                return worker if has_room else None
        # One that has died without a job is no reason for this job to fail.
        return self._new_worker() if self._session.actors.is_dead(idle.actor._actor_id) else idle

    def _give(self, worker: _Worker, job: Job) -> None:
        with self._lock:
            self._assign(worker, job)
        problem = self._send(worker, job)
        if problem is None:
            self.watch(job)
        else:
            self._not_sent(worker, job, problem)

    def _assign(self, worker: _Worker, job: Job) -> None:
        at_once = job.pace.jobs_at_once()
        worker.limit = min(worker.limit, at_once) if worker.jobs else at_once
        worker.jobs += 1
        worker.jobs_given += 1
        self._busy.add(worker)
        self._under_way.add(job)
        job.worker = worker

    def _send(self, worker: _Worker, job: Job) -> Exception | None:
        try:
            job.ref = getattr(worker.actor, job.method).remote(*job.args)
        except Exception as error:  # it cannot be sent
            return error
        return None

    def _not_sent(self, worker: _Worker, job: Job, problem: Exception) -> None:
        with self._lock:
            worker.jobs_given -= 1
        if self._take_out(job):
            self._call(job.fail, problem)
        self._free(worker)
        self._goes_on()

    def _ready(self, job: Job) -> None:
        """There is an answer. Any thread, the service's for one, which is not to be held up."""
        if job in self._under_way:
            self._answered.append(job)
            self._call_take()

    def _finish(self, job: Job) -> None:
        if not self._take_out(job):  # before it is told, which may lead to the end of the pool
            return
        answer, worker = _answer(job.ref, None), job.worker
        assert answer is not None
        assert worker is not None
        self._tell_outcome(job, worker, answer)
        self._free(worker)

    def _take_out(self, job: Job) -> bool:
        """Whether it is up to the caller, and to nobody else, to tell a job's outcome."""
        with self._lock:
            if job not in self._under_way:
                return False
            self._under_way.remove(job)
            return True

    def _tell_outcome(self, job: Job, worker: _Worker, answer: "_Answer") -> None:
        if answer.error is not None:
            worker.died |= isinstance(answer.error, ActorDiedError)
            self._call(job.fail, _as_raised(answer.error))
            return
        with self._lock:
            job.pace.add(answer.seconds)
        self._call(job.succeed, answer.value)

    def _free(self, worker: _Worker) -> None:
        """A worker has a job less."""
        with self._lock:
            worker.jobs -= 1
        self._settle(worker)

    def _settle(self, worker: _Worker) -> None:
        """A worker without jobs is idle, or replaced if it is used up."""
        with self._lock:
            if worker.jobs or worker not in self._busy:
                return
            self._busy.remove(worker)
            if not self._is_used_up(worker):
                self._idle.append(worker)
                return
        try:
            other = self._new_worker()
        except Exception as error:
            self._failure = error
            self._terminate()
            return
        with self._lock:
            self._idle.append(other)

    def _is_used_up(self, worker: _Worker) -> bool:
        return worker.died or worker.jobs_given == self._max_jobs

    def _goes_on(self, freed: _Worker | None = None) -> None:
        if freed is not None:
            self._settle(freed)
        self._take()

    def _call(self, callback: Callable[[Any], None], value: Any) -> None:
        try:
            callback(value)
        except Exception as error:  # of the user's own callback: the other jobs go on
            self._loop.call_exception_handler({"message": "a pool's callback failed", "exception": error})


@dataclass(frozen=True, slots=True)
class _Answer:
    """How a job ended: what it returned and how long it took, or what was raised."""

    value: Any = None
    seconds: float = 0.0
    error: Exception | None = None


def _answer(ref: Any, timeout_s: float | None) -> _Answer | None:
    """Wait for a worker's answer; None when the time is up."""
    try:
        values = current.require_for(ref).core.get((ref,), -1 if timeout_s is None else timeout_s)
    except Exception as error:
        return _Answer(error=error)
    if values is None:
        return None
    seconds, value = values[0]
    return _Answer(value, seconds)


def _as_raised(error: Exception) -> BaseException:
    """The exception as the function raised it, as the standard library's pool does, with its traceback."""
    if not isinstance(error, TaskError) or error.cause is None:
        return error
    cause = error.cause
    cause.__cause__ = RemoteTraceback(error.traceback_str)
    return cause
