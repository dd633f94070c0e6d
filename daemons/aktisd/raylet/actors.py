"""Actors of this node: those that wait for a process and those that run. Pure; on the raylet's loop.

The GCS decides which actors live here; an incarnation number fences instances that it has given up. An
actor takes its resources when it is wanted and keeps them until its process is dead, so that a stale
process can never share a device with its successor.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aktis._proto import gcs_pb2

from aktisd.raylet.bundles import BundleTable
from aktisd.raylet.causes import Cause, Kind, cause
from aktisd.raylet.environments.machine import Environments
from aktisd.raylet.history import History
from aktisd.raylet.messages import ActorReady, ActorUnwanted, ActorWanted, Instruction, ReportActor, RunActor
from aktisd.raylet.resources import Allocation, Ledger
from aktisd.raylet.workers import Worker, WorkerPool

Report = gcs_pb2.ActorReport


@dataclass(slots=True, eq=False)
class LocalActor:
    """One actor instance; ``worker`` is None while it waits for a process."""

    spec: gcs_pb2.ActorSpec
    incarnation: int
    allocation: Allocation
    worker: Worker | None = None
    alive: bool = False


class ActorTable:
    """See the module."""

    def __init__(
        self,
        ledger: Ledger,
        bundles: BundleTable,
        pool: WorkerPool,
        environments: Environments,
        outbox: list[Instruction],
    ) -> None:
        self._ledger = ledger
        self._bundles = bundles
        self._pool = pool
        self._environments = environments
        self._outbox = outbox
        self._waiting: dict[bytes, LocalActor] = {}
        self._lines: dict[str, dict[bytes, LocalActor]] = {}  # the waiting ones by runtime environment
        self._running: dict[bytes, LocalActor] = {}
        self._by_token: dict[int, LocalActor] = {}
        self._history = History()

    @property
    def waiting(self) -> int:
        """How many actors wait for a process."""
        return len(self._waiting)

    def needs(self) -> Counter[str]:
        """How many processes they need that could be started now, by template."""
        counts: Counter[str] = Counter()
        for environment, line in self._lines.items():
            template = self._environments.template(environment)
            if template is not None:
                counts[template] += len(line)
        return counts

    def waits_for(self, environment: str) -> bool:
        """Whether an actor waits for a process with this runtime environment."""
        return environment in self._lines

    def wanted(self, event: ActorWanted, now: float) -> None:
        """The GCS placed an actor here; the same message may come again after a reconnection."""
        actor_id = event.spec.actor_id
        known = self._waiting.get(actor_id) or self._running.get(actor_id)
        if known is not None:
            if known.incarnation >= event.incarnation:
                return
            self._end(known, cause(Kind.KILLED, "replaced by a newer incarnation"), now, force=True)
            self._running.pop(actor_id, None)
        amounts = dict(event.spec.resources.amounts)
        ledgers = self._ledgers(event)
        allocation = next((a for ledger in ledgers if (a := ledger.allocate(amounts)) is not None), None)
        if allocation is None:
            lacking = {name for ledger in ledgers for name in ledger.lacking_now(amounts)}
            why = (
                f"the node has too little {', '.join(sorted(lacking))} free" if ledgers else "no such bundle"
            )
            self._report(
                event.spec.actor_id,
                event.incarnation,
                Report.NO_ROOM,
                why=cause(Kind.UNSCHEDULABLE, why),
            )
            return
        actor = self._waiting[actor_id] = LocalActor(event.spec, event.incarnation, allocation)
        environment = event.spec.runtime_env_hash
        self._lines.setdefault(environment, {})[actor_id] = actor
        self._environments.want(environment, event.spec.job_id, now)
        self._history.add(actor_id, now, f"wanted, incarnation {event.incarnation}")

    def _ledgers(self, event: ActorWanted) -> list[Ledger]:
        group = event.spec.strategy.placement_group_id
        return self._bundles.ledgers(group, event.bundle_index) if group else [self._ledger]

    def bundles_gone(self, used: Sequence[Allocation], why: Cause, now: float) -> None:
        """Actors that hold some of this and still wait for a process are dropped."""
        for actor in list(self._waiting.values()):
            if any(actor.allocation is allocation for allocation in used):
                self._drop_waiting(actor, why, now)

    def place(self, now: float) -> None:
        """Give fresh workers to actors that wait, of each environment in the order in which they came."""
        for environment, line in list(self._lines.items()):
            template = self._environments.template(environment)
            while template is not None and line and (worker := self._pool.take_fresh(template)) is not None:
                self._give(next(iter(line.values())), worker, now)

    def _give(self, actor: LocalActor, worker: Worker, now: float) -> None:
        spec = actor.spec
        self._leave_line(actor)
        self._pool.become_actor(
            worker,
            spec.actor_id,
            spec.job_id,
            actor.allocation,
            detached=spec.detached,
            now=now,
            environment=spec.runtime_env_hash,
        )
        worker.label = spec.name or spec.class_name
        actor.worker = worker
        self._running[spec.actor_id] = self._by_token[worker.token] = actor
        self._outbox.append(RunActor(worker.token, spec, actor.incarnation, actor.allocation.devices()))
        self._history.add(spec.actor_id, now, f"given to pid {worker.pid}")

    def cannot_start(self, template: str, why: Cause, now: float) -> None:
        """No process can be started from a template at the moment.

        Those who wait are told the reason rather than hang.
        """
        for environment, line in list(self._lines.items()):
            if self._environments.template(environment) == template:
                for actor in list(line.values()):
                    self._drop_waiting(actor, why, now)

    def environment_failed(self, environment: str, reason: str, now: float) -> None:
        """Actors that wait for a process with it cannot be."""
        for actor in list(self._lines.get(environment, {}).values()):
            self._drop_waiting(actor, cause(Kind.RUNTIME_ENV_FAILED, reason), now)

    def ready(self, event: ActorReady, now: float) -> None:
        """The process has run the constructor."""
        actor = self._running.get(event.actor_id)
        if actor is None or actor.worker is None or actor.incarnation != event.incarnation:
            return
        if actor.worker.worker_id != event.worker_id:
            return
        if event.failed:
            self._pool.end(actor.worker, event.cause, now, force=False)
        elif not actor.alive:
            actor.alive = True
            self._report(event.actor_id, actor.incarnation, Report.ALIVE, actor.worker)
        self._history.add(event.actor_id, now, "constructor failed" if event.failed else "alive")

    def unwanted(self, event: ActorUnwanted, now: float) -> None:
        """The GCS wants the actor to end; an incarnation of 0 means whichever is here."""
        actor = self._waiting.get(event.actor_id) or self._running.get(event.actor_id)
        if actor is not None and event.incarnation in (0, actor.incarnation):
            self._end(actor, event.cause, now, force=not event.graceful, graceful=event.graceful)

    def worker_lost(self, worker: Worker, why: Cause, now: float) -> None:
        """An actor's process is dead."""
        actor = self._by_token.pop(worker.token, None)
        if actor is None:
            return
        actor_id = actor.spec.actor_id
        actor.allocation.home.release(actor.allocation)
        worker.allocation = None
        if self._running.get(actor_id) is actor:
            del self._running[actor_id]
        self._report(actor_id, actor.incarnation, Report.DIED, worker, why)
        self._history.add(actor_id, now, f"died: {why.message}")

    def job_over(self, job_id: bytes, why: Cause, now: float) -> None:
        """Actors of the job that still wait for a process are dropped, except detached ones."""
        for actor in list(self._waiting.values()):
            if actor.spec.job_id == job_id and not actor.spec.detached:
                self._drop_waiting(actor, why, now)

    def reports(self) -> list[gcs_pb2.ActorReport]:
        """The truth, for a GCS that we register with: ALIVE per running actor, unspecified when starting."""
        known = [*self._waiting.items(), *self._running.items()]
        return [
            Report(
                actor_id=actor_id,
                incarnation=actor.incarnation,
                event=Report.ALIVE if actor.alive else Report.EVENT_UNSPECIFIED,
                address=actor.worker.address if actor.worker else None,
            )
            for actor_id, actor in known
        ]

    def story(self, actor_id: bytes) -> list[tuple[float, str]]:
        """What happened to an actor on this node."""
        return self._history.story(actor_id)

    def validate(self) -> None:
        """Check the tables against one another."""
        assert not self._waiting.keys() & self._running.keys()
        in_lines = {actor_id for line in self._lines.values() for actor_id in line}
        assert in_lines == self._waiting.keys()
        assert all(self._lines.values())
        for actor in self._waiting.values():
            assert actor.worker is None
            assert not actor.alive
        for token, actor in self._by_token.items():
            assert actor.worker is not None
            assert actor.worker.token == token
            assert actor.worker.allocation is actor.allocation
        for actor in self._running.values():
            assert actor.worker is not None
            assert self._by_token[actor.worker.token] is actor

    def _end(self, actor: LocalActor, why: Cause, now: float, *, force: bool, graceful: bool = False) -> None:
        if actor.worker is None:
            self._drop_waiting(actor, why, now)
        else:
            self._pool.end(actor.worker, why, now, force=force, graceful=graceful)

    def _drop_waiting(self, actor: LocalActor, why: Cause, now: float) -> None:
        self._leave_line(actor)
        actor.allocation.home.release(actor.allocation)
        self._report(actor.spec.actor_id, actor.incarnation, Report.DIED, why=why)
        self._history.add(actor.spec.actor_id, now, f"dropped before it had a process: {why.message}")

    def _leave_line(self, actor: LocalActor) -> None:
        del self._waiting[actor.spec.actor_id]
        line = self._lines[actor.spec.runtime_env_hash]
        del line[actor.spec.actor_id]
        if not line:
            del self._lines[actor.spec.runtime_env_hash]

    def _report(
        self,
        actor_id: bytes,
        incarnation: int,
        event: Report.Event.ValueType,
        worker: Worker | None = None,
        why: Cause | None = None,
    ) -> None:
        address = worker.address if worker is not None else None
        self._outbox.append(
            ReportActor(
                Report(actor_id=actor_id, incarnation=incarnation, event=event, address=address, cause=why)
            )
        )
