"""Which runtime environments this node has or makes. Pure state machine on the raylet's loop.

    (wanted) ──> FETCHING ──> PREPARING ──> READY ──> (idle: forgotten)
                    │   nothing to set up ──>│
                    └──> FAILED <── failed ──┘        (later: forgotten, so that it is tried again)

An environment is wanted by lease requests and actors, which wait until it is READY and fail at once when it
is FAILED. A failure is remembered for a moment, so that a burst of tasks costs one attempt, and not for
longer, because what was wrong may have been mended.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from aktis._common.environments import Environment
from aktis._proto import snapshot_pb2

from aktisd.raylet.environments.cache import CacheBooks, keys_of
from aktisd.raylet.history import History
from aktisd.raylet.messages import (
    EndSetup,
    EndTemplate,
    FetchEnvironment,
    Instruction,
    PrepareEnvironment,
    RemoveCached,
)

FAILURE_KEPT_S: Final = 10.0
MAX_ENVIRONMENTS: Final = 1_000


class State(Enum):
    """Life of an environment on this node."""

    FETCHING = auto()
    PREPARING = auto()
    READY = auto()
    FAILED = auto()


TRANSITIONS: dict[State, frozenset[State]] = {
    State.FETCHING: frozenset({State.PREPARING, State.READY, State.FAILED}),
    State.PREPARING: frozenset({State.READY, State.FAILED}),
    State.READY: frozenset({State.FAILED}),
    State.FAILED: frozenset({State.FETCHING}),
}


@dataclass(slots=True, eq=False)
class _Record:
    name: str
    changed_at: float
    state: State = State.FETCHING
    environment: Environment | None = None
    template: str = ""
    failure: str = ""
    ending: bool = False
    """Its set-up was told to end."""
    abandoned: bool = False
    """Because nobody wanted it any more."""
    used_at: float = 0.0
    began_at: float = 0.0
    jobs: set[bytes] = field(default_factory=set)
    """Who asked for it: their drivers see what its set-up says."""


@dataclass(frozen=True, slots=True)
class EnvironmentLimits:
    """Policy."""

    cache_bytes: int = 10 << 30
    """What packages and installed requirements that nobody uses may take on the disk."""
    idle_timeout_s: float = 300.0
    """After which a template without work is ended."""


class Environments:
    """See the module. The empty name is the environment of everybody who asks for none: always ready."""

    def __init__(self, limits: EnvironmentLimits, outbox: list[Instruction]) -> None:
        self.cache = CacheBooks(limits.cache_bytes)
        self._idle_timeout_s = limits.idle_timeout_s
        self._outbox = outbox
        self._records: dict[str, _Record] = {}
        self._history = History()
        self.deadline: float | None = None

    # ---- looking ----

    def template(self, name: str) -> str | None:
        """Return which template forks workers for it ("": the common one); None while it is not ready."""
        if not name:
            return ""
        record = self._records.get(name)
        return record.template if record is not None and record.state is State.READY else None

    def failures(self) -> Iterator[tuple[str, str]]:
        """Return the environments that failed, with the reason."""
        for record in self._records.values():
            if record.state is State.FAILED:
                yield record.name, record.failure

    def templates(self) -> Iterator[tuple[str, str]]:
        """Return the environments that are ready and have a template of their own, with its name."""
        for record in self._records.values():
            if record.state is State.READY and record.template:
                yield record.name, record.template

    def jobs(self, name: str) -> set[bytes]:
        """Return the jobs that wait for an environment or use it."""
        record = self._records.get(name)
        return record.jobs if record is not None else set()

    def describe(self) -> Iterator[snapshot_pb2.EnvironmentSnapshot]:
        """Return what is known of each environment, for people."""
        for record in self._records.values():
            ended = record.state in (State.READY, State.FAILED)
            environment = record.environment
            yield snapshot_pb2.EnvironmentSnapshot(
                hash=record.name,
                description=environment.encode().decode() if environment is not None else "",
                ready=record.state is State.READY,
                failed=record.state is State.FAILED,
                error=record.failure[:4096],
                creation_time_ms=round((record.changed_at - record.began_at) * 1000) if ended else 0,
                job_ids=sorted(record.jobs),
            )

    def story(self, name: str) -> list[tuple[float, str]]:
        """Return what happened to an environment."""
        return self._history.story(name)

    # ---- events ----

    def want(self, name: str, job_id: bytes, now: float) -> None:
        """Somebody asks for workers with this environment."""
        if not name:
            return
        record = self._records.get(name)
        if record is None:
            self._forget_one()
            record = self._records[name] = _Record(name, now, began_at=now)
            self._outbox.append(FetchEnvironment(name))
        elif record.state is State.FAILED and now - record.changed_at >= FAILURE_KEPT_S:
            self._move(record, State.FETCHING, now)
            record.began_at = now
            self._outbox.append(FetchEnvironment(name))
        record.jobs.add(job_id)
        record.used_at = now

    def described(self, name: str, environment: Environment, now: float) -> None:
        """The cluster has told what the environment consists of."""
        record = self._records.get(name)
        if record is None or record.state is not State.FETCHING:
            return
        record.environment = environment
        record.template = name if environment.needs_template else ""
        record.used_at = now
        if not environment.needs_template:
            self._move(record, State.READY, now)
            return
        self._move(record, State.PREPARING, now)
        self.cache.hold(name, keys_of(environment))
        self._outbox.append(PrepareEnvironment(name, environment))
        if environment.setup_timeout_s:
            self._due(now + environment.setup_timeout_s)

    def prepared(self, name: str, sizes: dict[str, int], now: float) -> None:
        """Its set-up has succeeded; ``sizes`` in bytes of the entries of the cache that it uses."""
        for key, size_bytes in sizes.items():
            self.cache.found(key, size_bytes)
        record = self._records.get(name)
        if record is not None and record.state is State.PREPARING:
            self._move(record, State.READY, now)
            record.used_at = now
            self._due(now + self._idle_timeout_s)
        self._evict()

    def failed(self, name: str, reason: str, now: float) -> None:
        """It cannot be had."""
        record = self._records.get(name)
        if record is None or record.state is State.FAILED:
            return
        if record.state is State.READY and record.template:
            self._outbox.append(EndTemplate(record.template))
        self._move(record, State.FAILED, now, reason)
        self.cache.release(name)
        if record.abandoned:
            self._start_over(record, now)
        else:
            record.failure, record.ending = reason, False
            self._due(now + FAILURE_KEPT_S)
        self._evict()

    def job_over(self, job_id: bytes, now: float, waited_for: Callable[[str], bool]) -> None:
        """A job has ended: what is being set up for it alone, and nobody waits for, need not be finished.

        Detached actors outlive their job, so that somebody may wait although every job has ended.
        """
        for record in self._records.values():
            record.jobs.discard(job_id)
            if not record.jobs and record.state is State.PREPARING and not waited_for(record.name):
                record.abandoned = True
                self._end_setup(record, "nobody waits for it any more", now)

    def tick(self, now: float, in_use: Callable[[str], bool]) -> list[str]:
        """Deadlines. ``in_use`` says whether work needs a template's workers.

        Returns:
            Templates that have come to their end; their idle workers are of no use any more.
        """
        self.deadline = None
        ended = []
        for record in list(self._records.values()):
            if record.state is State.FAILED and now - record.changed_at >= FAILURE_KEPT_S:
                del self._records[record.name]
            elif record.state is State.FAILED:
                self._due(record.changed_at + FAILURE_KEPT_S)
            elif record.state is State.PREPARING:
                self._check_setup(record, now)
            elif record.state is State.READY and record.template:
                if in_use(record.template):
                    record.used_at = now
                if now - record.used_at >= self._idle_timeout_s:
                    ended.append(record.template)
                    self._forget(record, now)
                else:
                    self._due(record.used_at + self._idle_timeout_s)
        if ended:
            self._evict()
        return ended

    def validate(self) -> None:
        """Check the records."""
        self.cache.validate()
        for name, record in self._records.items():
            assert record.name == name
            assert record.template in ("", name)
            assert bool(record.failure) == (record.state is State.FAILED), record

    # ---- inside ----

    def _move(self, record: _Record, to: State, now: float, why: str = "") -> None:
        if to not in TRANSITIONS[record.state]:
            raise AssertionError(
                f"environment {record.name}: {record.state.name} -> {to.name} is not allowed"
            )
        record.state, record.changed_at, record.failure = to, now, ""
        self._history.add(record.name, now, f"{to.name.lower()}{why and ': '}{why}")

    def _start_over(self, record: _Record, now: float) -> None:
        """Its set-up was ended because nobody wanted it: whoever came meanwhile gets a new one."""
        del self._records[record.name]
        for job_id in record.jobs:
            self.want(record.name, job_id, now)

    def _check_setup(self, record: _Record, now: float) -> None:
        assert record.environment is not None, "a set-up begins with the description"
        timeout_s = record.environment.setup_timeout_s
        if not timeout_s or record.ending:
            return
        if now - record.changed_at >= timeout_s:
            self._end_setup(record, f"it did not finish within {timeout_s:g} s", now)
        else:
            self._due(record.changed_at + timeout_s)

    def _end_setup(self, record: _Record, reason: str, now: float) -> None:
        if not record.ending:
            record.ending = True
            self._outbox.append(EndSetup(record.name, reason))
            self._history.add(record.name, now, f"set-up told to end: {reason}")

    def _forget(self, record: _Record, now: float) -> None:
        del self._records[record.name]
        self.cache.release(record.name)
        self._outbox.append(EndTemplate(record.template))
        self._history.add(record.name, now, "forgotten: it was idle for too long")

    def _forget_one(self) -> None:
        """Keep the table small: what needed no set-up is found out again in no time."""
        if len(self._records) >= MAX_ENVIRONMENTS:
            for record in self._records.values():
                if record.state is State.READY and not record.template:
                    del self._records[record.name]
                    return

    def _evict(self) -> None:
        if keys := self.cache.evict():
            self._outbox.append(RemoveCached(tuple(keys)))

    def _due(self, at: float) -> None:
        self.deadline = at if self.deadline is None else min(self.deadline, at)
