"""The pool of worker processes: which exist, what each is doing, when to start and end them.

Pure state machine on the raylet's loop. It never touches a process: it appends ForkWorkers and EndWorker
instructions to the outbox it was given, and is told what became of them.

A worker is *fresh* until its first lease. After that it belongs to that lease's job: it is reused by that
job only and ended with it, so that no state of one job's code is ever seen by another's. Actors only get
fresh workers. In the same way its first lease binds it to that lease's runtime environment; those that need
it are forked from a template of their own, which is named by the environment.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from aktis._proto import common_pb2

from aktisd.raylet.causes import Cause, Kind, cause
from aktisd.raylet.messages import EndWorker, ForkWorkers, Instruction, SpareWorker
from aktisd.raylet.resources import Allocation, Outfit


class WorkerState(Enum):
    """Life of a worker process."""

    STARTING = auto()
    IDLE = auto()
    LEASED = auto()
    ACTOR = auto()
    EXITING = auto()
    DEAD = auto()


_S = WorkerState
TRANSITIONS: dict[WorkerState, frozenset[WorkerState]] = {
    _S.STARTING: frozenset({_S.IDLE, _S.EXITING, _S.DEAD}),
    _S.IDLE: frozenset({_S.LEASED, _S.ACTOR, _S.EXITING, _S.DEAD}),
    _S.LEASED: frozenset({_S.IDLE, _S.EXITING, _S.DEAD}),
    _S.ACTOR: frozenset({_S.EXITING, _S.DEAD}),
    _S.EXITING: frozenset({_S.IDLE, _S.DEAD}),
    _S.DEAD: frozenset(),
}


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Policy of the pool; times in seconds."""

    prestart: int
    """Workers kept ready for tasks: the node's CPUs."""
    max_workers: int
    """Live processes that are not actors, blocked ones included."""
    max_starting: int = 64
    idle_timeout_s: float = 60.0
    startup_timeout_s: float = 20.0
    max_start_failures: int = 5
    """Consecutive failures after which starting pauses for ``failure_pause_s``."""
    failure_pause_s: float = 5.0


@dataclass(slots=True, eq=False)
class Worker:
    """One process. Changed only by the pool, except ``allocation`` and ``label`` (by whoever uses it)."""

    token: int
    changed_at: float
    state: WorkerState = WorkerState.STARTING
    pid: int = 0
    address: common_pb2.ProcessAddress = field(default_factory=common_pb2.ProcessAddress)
    worker_id: bytes = b""
    job_id: bytes = b""
    lease_id: int = 0
    actor_id: bytes = b""
    detached: bool = False
    template: str = ""
    """What it was forked from; empty for the common template."""
    environment: str = ""
    """The runtime environment that it has taken on, empty for none."""
    allocation: Allocation | None = None
    outfit: Outfit = ()
    """Of its first lease; libraries look at it once, so the worker never serves with another."""
    blocked: bool = False
    label: str = ""
    intended: Cause | None = None
    may_stay: bool = False
    """It was asked to end only because it was idle, and may refuse."""


IdleKey = tuple[bytes, str, str]
"""Job, environment, template; the first two are empty for fresh workers."""


@dataclass(slots=True, eq=False)
class _Starts:
    """How starting workers from one template goes."""

    starting: int = 0
    failures: int = 0
    """In a row."""
    paused_until: float = 0.0
    last_failure: Cause | None = None


class WorkerPool:
    """See the module. Times come from the caller, tokens from ``new_token``."""

    def __init__(self, limits: PoolLimits, outbox: list[Instruction], new_token: Callable[[], int]) -> None:
        self.limits = limits
        self._outbox = outbox
        self._new_token = new_token
        self._workers: dict[int, Worker] = {}
        self._by_id: dict[bytes, Worker] = {}
        # In the order in which they became idle; the last is the warmest.
        self._idle: dict[IdleKey, dict[int, Worker]] = {}
        self._starts: dict[str, _Starts] = {"": _Starts()}  # by template
        self._counts: Counter[WorkerState] = Counter()
        self._blocked_leases = 0
        self.deadline: float | None = None
        """When ``tick`` may have something to do; it can turn out to be too early, never too late."""
        self.started_total = 0
        self.closed = False

    # ---- looking ----

    def __iter__(self) -> Iterator[Worker]:
        return iter(list(self._workers.values()))

    def by_token(self, token: int) -> Worker | None:
        """The worker that was asked for with this token, while it is not dead."""
        return self._workers.get(token)

    def by_id(self, worker_id: bytes) -> Worker | None:
        """A registered worker, while it is not dead."""
        return self._by_id.get(worker_id)

    def count(self, state: WorkerState) -> int:
        """How many workers are in a state."""
        return self._counts[state]

    def of_job(self, job_id: bytes) -> list[Worker]:
        """The job's live workers."""
        return [w for w in self._workers.values() if w.job_id == job_id]

    def uses(self, template: str) -> bool:
        """Whether a worker of the template is at work or about to be."""
        busy = (_S.STARTING, _S.LEASED, _S.ACTOR)
        return any(w.template == template and w.state in busy for w in self._workers.values())

    def broken(self, now: float, template: str = "") -> Cause | None:
        """Why no worker can be started from a template at the moment, or None."""
        starts = self._starts.get(template)
        return starts.last_failure if starts is not None and now < starts.paused_until else None

    def may_start(self, wanted: Counter[str], template: str, now: float) -> bool:
        """Whether, besides the ``wanted`` ones by template, one more may be on its way to idleness at once.

        Those that are starting already are the first to count.
        """
        if wanted[template] < self._starting(template):
            return True
        new = sum(max(0, count - self._starting(name)) for name, count in wanted.items())
        return new < self._room(template, now)

    def _starting(self, template: str) -> int:
        starts = self._starts.get(template)
        return starts.starting if starts is not None else 0

    def _room(self, template: str, now: float) -> int:
        """How many more processes of a template may be started."""
        starts = self._starts.get(template)
        if self.closed or (starts is not None and now < starts.paused_until):
            return 0
        evictable = sum(len(idle) for key, idle in self._idle.items() if key != (b"", "", template))
        room = self.limits.max_workers - self._task_workers() + evictable
        return max(0, min(self.limits.max_starting - self._counts[_S.STARTING], room))

    def used_up(self) -> str:
        """What the workers do when all that there may be are in use and some of them wait; else empty."""
        if not self._blocked_leases or self._task_workers() < self.limits.max_workers:
            return ""
        return (
            f"this node runs as many workers as raylet.workers.limit allows, {self.limits.max_workers}, and "
            f"{self._blocked_leases} of them wait in get() or wait() for other tasks"
        )

    # ---- using ----

    def take(
        self,
        job_id: bytes,
        environment: str,
        template: str,
        allocation: Allocation,
    ) -> Worker | None:
        """An idle worker for a lease: the warmest of job, environment and outfit, else a fresh one.

        It stays IDLE.
        """
        outfit = allocation.outfit()
        for worker in reversed(self._idle.get((job_id, environment, template), {}).values()):
            if worker.outfit == outfit:
                return worker
        return self.take_fresh(template)

    def take_fresh(self, template: str = "") -> Worker | None:
        """An idle worker of a template that has run nothing yet."""
        return self._last_idle((b"", "", template))

    def lease(
        self,
        worker: Worker,
        lease_id: int,
        job_id: bytes,
        allocation: Allocation,
        now: float,
        environment: str = "",
    ) -> None:
        """IDLE -> LEASED."""
        self._move(worker, WorkerState.LEASED, now)
        worker.lease_id, worker.job_id, worker.allocation = lease_id, job_id, allocation
        worker.environment = environment
        worker.outfit = allocation.outfit()

    def unlease(self, worker: Worker, now: float) -> None:
        """LEASED -> IDLE; the caller has released its resources."""
        self.set_blocked(worker, False)
        # It keeps its label: what it has printed may not have been read yet.
        worker.lease_id, worker.allocation = 0, None
        self._move(worker, WorkerState.IDLE, now)

    def set_blocked(self, worker: Worker, blocked: bool) -> None:
        """The worker waits in ``get`` or ``wait``, or goes on: a blocked one does not count as running."""
        if worker.blocked != blocked and worker.state is WorkerState.LEASED:
            self._blocked_leases += 1 if blocked else -1
        worker.blocked = blocked

    def become_actor(
        self,
        worker: Worker,
        actor_id: bytes,
        job_id: bytes,
        allocation: Allocation,
        *,
        detached: bool,
        now: float,
        environment: str = "",
    ) -> None:
        """IDLE -> ACTOR."""
        self._move(worker, WorkerState.ACTOR, now)
        worker.actor_id, worker.job_id, worker.allocation = actor_id, job_id, allocation
        worker.detached, worker.environment = detached, environment

    def end(
        self, worker: Worker, why: Cause | None, now: float, *, force: bool, graceful: bool = False
    ) -> None:
        """End a process; without ``why`` the cause reported is what will be seen.

        A second call may turn a polite end into a forced one; the first cause stays.
        """
        if worker.state is WorkerState.DEAD:
            return
        if worker.intended is None:
            worker.intended = why
        if worker.state is not WorkerState.EXITING:
            self._move(worker, WorkerState.EXITING, now)
        worker.may_stay = False
        self._outbox.append(EndWorker(worker.token, worker.intended, force, graceful))

    def _end_idle(self, worker: Worker, reason: str, now: float) -> None:
        self.end(worker, cause(Kind.INTENDED, reason), now, force=False)
        worker.may_stay = bool(worker.worker_id)

    def stays(self, worker: Worker, now: float) -> None:
        """EXITING -> IDLE: objects that it owns are in use. It is asked again after the idle timeout."""
        if worker.state is WorkerState.EXITING and worker.may_stay and not self.closed:
            worker.intended, worker.may_stay = None, False
            self._move(worker, WorkerState.IDLE, now)
            self._outbox.append(SpareWorker(worker.token))

    def announce_end(self, worker: Worker, why: Cause, now: float) -> None:
        """The worker said that it is about to exit."""
        if worker.intended is None:
            worker.intended = why
        if worker.state in (WorkerState.IDLE, WorkerState.STARTING):
            self._move(worker, WorkerState.EXITING, now)

    # ---- what became of processes ----

    def forked(self, token: int, pid: int) -> None:
        """The template made the process."""
        if (worker := self._workers.get(token)) is not None:
            worker.pid = pid

    def joined(self, token: int, address: common_pb2.ProcessAddress, now: float) -> str | None:
        """A process registers: STARTING -> IDLE. Returns why it is not welcome, or None."""
        worker = self._workers.get(token)
        if worker is None or worker.worker_id:
            return "the start token is not one that this raylet waits for"
        if worker.pid and address.pid != worker.pid:
            return f"the start token belongs to pid {worker.pid}, not {address.pid}"
        worker.pid = address.pid
        worker.address = address
        worker.worker_id = address.worker_id
        self._by_id[worker.worker_id] = worker
        if worker.state is WorkerState.STARTING:
            self._starts[worker.template].failures = 0
            self._move(worker, WorkerState.IDLE, now)
        return None

    def died(self, worker: Worker, seen: Cause, now: float) -> None:
        """The process is gone."""
        if worker.state is WorkerState.STARTING or (
            worker.state is WorkerState.EXITING and not worker.worker_id
        ):
            self._failed_to_start(worker, seen, now)
        self._move(worker, WorkerState.DEAD, now)
        del self._workers[worker.token]
        self._by_id.pop(worker.worker_id, None)
        self._counts[WorkerState.DEAD] -= 1

    def template_lost(self, template: str, reason: str, now: float) -> None:
        """Forks that were asked of it and not confirmed will never come."""
        for worker in self:
            if worker.template != template or worker.pid != 0:
                continue
            if worker.state in (WorkerState.STARTING, WorkerState.EXITING):
                self.died(worker, cause(Kind.LAUNCH_FAILED, reason), now)

    def template_ended(self, template: str, now: float) -> None:
        """No worker will be forked from it any more: those that nobody uses end."""
        for worker in self:
            if worker.template == template and worker.state in (_S.IDLE, _S.STARTING):
                self._end_idle(worker, "its runtime environment is not used any more", now)
        if template and not self._starting(template):
            self._starts.pop(template, None)

    # ---- policy ----

    def provide(self, needed: Counter[str], now: float) -> None:
        """Start processes so that, by template, ``needed`` more than are idle come.

        The prestarted number is kept, too, by workers of the common template.
        """
        ready = (
            self._counts[_S.STARTING] + self._counts[_S.IDLE] + self._counts[_S.LEASED] - self._blocked_leases
        )
        missing = {name: count - self._starting(name) for name, count in needed.items()}
        missing[""] = max(missing.get("", 0), self.limits.prestart - ready)
        for template, count in missing.items():
            count = min(count, self._room(template, now))
            if count > 0:
                self._evict(count, template, now)
                self._start(count, template, now)

    def tick(self, now: float) -> None:
        """Deadlines: start-ups that take too long, workers idle for too long."""
        for worker in self:
            age = now - worker.changed_at
            if worker.state is WorkerState.STARTING and age >= self.limits.startup_timeout_s:
                message = f"the worker did not register within {self.limits.startup_timeout_s:g} s"
                if worker.pid == 0:
                    self.died(worker, cause(Kind.LAUNCH_FAILED, message + ": it was never forked"), now)
                else:
                    self.end(worker, cause(Kind.LAUNCH_FAILED, message), now, force=True)
        for starts in self._starts.values():
            if now >= starts.paused_until:
                starts.paused_until = 0.0
        surplus = self._task_workers() - self.limits.prestart
        for worker in self._oldest_idle():
            if surplus <= 0 or now - worker.changed_at < self.limits.idle_timeout_s:
                break
            self._end_idle(worker, "idle for too long", now)
            surplus -= 1
        self._find_deadline(surplus > 0)

    def validate(self) -> None:
        """Check the pool's indexes against the workers."""
        counts: Counter[WorkerState] = Counter(w.state for w in self._workers.values())
        assert +counts == +self._counts, (counts, self._counts)
        blocked = sum(w.blocked and w.state is _S.LEASED for w in self._workers.values())
        assert blocked == self._blocked_leases
        for token, worker in self._workers.items():
            assert worker.token == token
            assert worker.state is not WorkerState.DEAD
            idle = token in self._idle.get(_idle_key(worker), {})
            assert idle == (worker.state is WorkerState.IDLE), worker
            assert (worker.lease_id != 0) <= (worker.state in (_S.LEASED, _S.EXITING)), worker
            assert bool(worker.worker_id) == (self._by_id.get(worker.worker_id) is worker), worker
            if worker.state in (_S.STARTING, _S.IDLE):
                assert worker.allocation is None, worker
        for template, starts in self._starts.items():
            starting = [w for w in self if w.state is _S.STARTING and w.template == template]
            assert starts.starting == len(starting), (template, starts)

    # ---- inside ----

    def _move(self, worker: Worker, to: WorkerState, now: float) -> None:
        if to not in TRANSITIONS[worker.state]:
            raise AssertionError(f"worker {worker.token}: {worker.state.name} -> {to.name} is not allowed")
        if worker.blocked:
            self.set_blocked(worker, False)
        if worker.state is WorkerState.IDLE:
            queue = self._idle[_idle_key(worker)]
            del queue[worker.token]
            if not queue:
                del self._idle[_idle_key(worker)]
        elif worker.state is WorkerState.STARTING:
            self._starts[worker.template].starting -= 1
        if to is WorkerState.IDLE:
            self._idle.setdefault(_idle_key(worker), {})[worker.token] = worker
            self._due(now + self.limits.idle_timeout_s)
        self._counts[worker.state] -= 1
        self._counts[to] += 1
        worker.state = to
        worker.changed_at = now

    def _due(self, at: float) -> None:
        self.deadline = at if self.deadline is None else min(self.deadline, at)

    def _find_deadline(self, surplus: bool) -> None:
        pauses = [starts.paused_until for starts in self._starts.values() if starts.paused_until]
        self.deadline = min(pauses, default=None)
        for worker in self._workers.values():
            if worker.state is WorkerState.STARTING:
                self._due(worker.changed_at + self.limits.startup_timeout_s)
            elif worker.state is WorkerState.IDLE and surplus:
                self._due(worker.changed_at + self.limits.idle_timeout_s)

    def _last_idle(self, key: IdleKey) -> Worker | None:
        queue = self._idle.get(key)
        return self._workers[next(reversed(queue))] if queue else None

    def _oldest_idle(self) -> list[Worker]:
        idle = (worker for queue in self._idle.values() for worker in queue.values())
        return sorted(idle, key=lambda worker: worker.changed_at)

    def _task_workers(self) -> int:
        return self._counts[_S.STARTING] + self._counts[_S.IDLE] + self._counts[_S.LEASED]

    def _evict(self, count: int, template: str, now: float) -> None:
        """Idle workers that are of no use here make room for new ones when the pool is full."""
        excess = self._task_workers() + count - self.limits.max_workers
        for worker in self._oldest_idle() if excess > 0 else []:
            if excess <= 0:
                return
            if _idle_key(worker) != (b"", "", template):
                self._end_idle(worker, "made room for another job's or environment's worker", now)
                excess -= 1

    def _start(self, count: int, template: str, now: float) -> None:
        tokens = []
        for _ in range(count):
            token = self._new_token()
            self._workers[token] = Worker(token, now, template=template)
            tokens.append(token)
        self._starts.setdefault(template, _Starts()).starting += count
        self._counts[WorkerState.STARTING] += count
        self.started_total += count
        self._due(now + self.limits.startup_timeout_s)
        self._outbox.append(ForkWorkers(tuple(tokens), template))

    def _failed_to_start(self, worker: Worker, seen: Cause, now: float) -> None:
        if worker.intended is not None and worker.intended.kind != Kind.LAUNCH_FAILED:
            return  # ended on purpose before it had registered
        starts = self._starts.setdefault(worker.template, _Starts())
        starts.failures += 1
        failure = worker.intended or seen
        last_words = seen.stderr_tail.strip().rpartition("\n")[2]
        message = f"a worker could not be started: {failure.message}" + (last_words and f": {last_words}")
        starts.last_failure = Cause(kind=Kind.LAUNCH_FAILED, message=message, stderr_tail=seen.stderr_tail)
        if starts.failures >= self.limits.max_start_failures:
            starts.paused_until = now + self.limits.failure_pause_s
            self._due(starts.paused_until)
            starts.failures = 0


def _idle_key(worker: Worker) -> IdleKey:
    return (worker.job_id, worker.environment, worker.template)
