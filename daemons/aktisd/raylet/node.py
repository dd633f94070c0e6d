"""Everything the raylet decides, without any I/O: typed events in, instructions out.

One object ties the ledger, the worker pool, the scheduler and the actors together, so that a test (or a
simulation) can drive a whole node with a clock of its own. The shell around it (``raylet.py``) turns
messages and signals into events and carries instructions out; it holds no policy.
"""

from collections.abc import Callable

from aktisd.raylet.actors import ActorTable
from aktisd.raylet.bundles import BundleTable
from aktisd.raylet.causes import Cause, Kind, cause, resolve
from aktisd.raylet.environments.machine import EnvironmentLimits, Environments
from aktisd.raylet.messages import (
    ActorReady,
    ActorUnwanted,
    ActorWanted,
    BlockedChanged,
    BundlesCommitted,
    BundlesUnwanted,
    BundlesWanted,
    ClientGone,
    DriverJoined,
    EnvironmentDescribed,
    EnvironmentFailed,
    EnvironmentPrepared,
    EnvironmentWanted,
    Event,
    Forked,
    Instruction,
    JobOver,
    KillAsked,
    LeasesRequested,
    LeasesReturned,
    ProcessEnded,
    ReportResources,
    RoomWanted,
    TemplateLost,
    Tick,
    TotalChanged,
    WorkerDied,
    WorkerEnding,
    WorkerJoined,
    WorkerStays,
)
from aktisd.raylet.resources import Amounts, Ledger
from aktisd.raylet.scheduler import Scheduler
from aktisd.raylet.workers import PoolLimits, Worker, WorkerPool, WorkerState


class NodeLogic:
    """See the module. Times are seconds of any monotonic clock, given with every event."""

    def __init__(
        self,
        total: Amounts,
        limits: PoolLimits,
        node_name: str,
        new_token: Callable[[], int],
        environment_limits: EnvironmentLimits | None = None,
    ) -> None:
        self._outbox: list[Instruction] = []
        self.environments = Environments(environment_limits or EnvironmentLimits(), self._outbox)
        self.ledger = Ledger(total)
        self.bundles = BundleTable(self.ledger, self._outbox)
        self.pool = WorkerPool(limits, self._outbox, new_token)
        self.scheduler = Scheduler(
            self.ledger, self.bundles, self.pool, self.environments, self._outbox, node_name
        )
        self.actors = ActorTable(self.ledger, self.bundles, self.pool, self.environments, self._outbox)
        self._drivers: dict[bytes, bytes] = {}
        self._handlers: dict[type, Callable[..., None]] = {
            DriverJoined: self._driver_joined,
            ClientGone: self._client_gone,
            JobOver: self._job_over,
            LeasesRequested: self._leases_requested,
            LeasesReturned: self._leases_returned,
            KillAsked: self._kill_asked,
            BlockedChanged: self._blocked_changed,
            Forked: self._forked,
            WorkerJoined: self._worker_joined,
            WorkerEnding: self._worker_ending,
            WorkerStays: self._worker_stays,
            WorkerDied: self._worker_died,
            TemplateLost: self._template_lost,
            ActorWanted: self.actors.wanted,
            ActorUnwanted: self.actors.unwanted,
            ActorReady: self.actors.ready,
            BundlesWanted: self.bundles.prepare,
            BundlesCommitted: self.bundles.commit,
            BundlesUnwanted: self._bundles_unwanted,
            RoomWanted: self.scheduler.room_wanted,
            TotalChanged: self._total_changed,
            EnvironmentWanted: lambda e, now: self.environments.want(e.name, e.job_id, now),
            EnvironmentDescribed: lambda e, now: self.environments.described(e.name, e.environment, now),
            EnvironmentPrepared: lambda e, now: self.environments.prepared(e.name, dict(e.sizes), now),
            EnvironmentFailed: lambda e, now: self.environments.failed(e.name, e.reason, now),
            Tick: self._tick,
        }

    def handle(self, *events: Event, now: float) -> list[Instruction]:
        """Take events in that came together; what has to be done now comes out, in order."""
        for event in events:
            self._handlers[type(event)](event, now)
        self._settle(now)
        instructions = self._outbox[:]
        self._outbox.clear()
        return instructions

    def deadline(self) -> float | None:
        """When a Tick is due if nothing else happens before."""
        times = (self.pool.deadline, self.scheduler.wake_at, self.environments.deadline)
        return min((at for at in times if at is not None), default=None)

    def close(self, why: Cause, now: float) -> list[Instruction]:
        """The raylet stops: no more processes are started, all of them end."""
        self.pool.closed = True
        for worker in self.pool:
            self.pool.end(worker, why, now, force=False)
        instructions = self._outbox[:]
        self._outbox.clear()
        return instructions

    def live_jobs(self) -> list[bytes]:
        """Jobs whose driver is connected here."""
        return list(self._drivers.values())

    def validate(self) -> None:
        """Check every part and that resources are held exactly by leases and actors."""
        self.ledger.validate()
        self.bundles.validate()
        self.pool.validate()
        self.scheduler.validate()
        self.actors.validate()
        self.environments.validate()

    def _settle(self, now: float) -> None:
        """After every event: whatever can go on now goes on."""
        self._fail_environments(now)
        self.actors.place(now)
        if self.actors.waiting and (broken := self.pool.broken(now)) is not None:
            self.actors.cannot_start("", broken, now)
        needed = self.scheduler.dispatch(now)
        self.pool.provide(needed + self.actors.needs(), now)

    def _fail_environments(self, now: float) -> None:
        """Who waits for an environment that cannot be had, or whose workers cannot start, is told."""
        for name, template in list(self.environments.templates()):
            if (broken := self.pool.broken(now, template)) is not None:
                self.environments.failed(name, broken.message, now)
                self.pool.template_ended(template, now)
        for name, reason in self.environments.failures():
            self.scheduler.environment_failed(name, reason)
            self.actors.environment_failed(name, reason, now)

    # ---- clients ----

    def _driver_joined(self, event: DriverJoined, now: float) -> None:
        self._drivers[event.client] = event.job_id

    def _client_gone(self, event: ClientGone, now: float) -> None:
        self._drop_client(event.client, now)
        job_id = self._drivers.pop(event.client, None)
        if job_id is not None:
            self._end_job(job_id, "its driver is gone", now)
        worker = self.pool.by_id(event.client)
        if worker is not None:
            # Usually it is dying and its pidfd says so in a moment: it is given time to die of its own cause.
            self.pool.end(worker, None, now, force=False)

    def _drop_client(self, client: bytes, now: float) -> None:
        for worker in self.scheduler.client_gone(client, now):
            self.pool.end(worker, cause(Kind.OWNER_DIED, "the owner of its tasks is gone"), now, force=True)

    def _job_over(self, event: JobOver, now: float) -> None:
        self._end_job(event.job_id, event.reason, now)

    def _end_job(self, job_id: bytes, reason: str, now: float) -> None:
        why = cause(Kind.JOB_FINISHED, f"job {job_id.hex()} ended: {reason}")
        self.actors.job_over(job_id, why, now)
        self.environments.job_over(job_id, now, self._waited_for)
        self.scheduler.forget_weight(job_id)
        for worker in self.pool.of_job(job_id):
            if not worker.detached and not self._serves_detached(worker):
                self.pool.end(worker, why, now, force=worker.state is not WorkerState.ACTOR)

    def _serves_detached(self, worker: Worker) -> bool:
        holder = self.pool.by_id(self.scheduler.holder(worker.lease_id))
        return holder is not None and holder.detached

    # ---- leases ----

    def _leases_requested(self, event: LeasesRequested, now: float) -> None:
        if event.wanted:
            self.environments.want(event.environment, event.job_id, now)
        self.scheduler.request(event, now)

    def _leases_returned(self, event: LeasesReturned, now: float) -> None:
        for lease_id in event.lease_ids:
            worker = self.scheduler.return_lease(event.client, lease_id, now)
            if worker is None or worker.state is not WorkerState.LEASED:
                continue
            if lease_id in event.failing:
                worker.lease_id = 0
                self.pool.end(worker, None, now, force=False)
            else:
                self.pool.unlease(worker, now)

    def _kill_asked(self, event: KillAsked, now: float) -> None:
        worker = self.scheduler.is_held_by(event.lease_id, event.client)
        if worker is not None and worker.worker_id == event.worker_id:
            self.pool.end(worker, cause(Kind.KILLED, event.reason or "killed by its owner"), now, force=True)

    def _blocked_changed(self, event: BlockedChanged, now: float) -> None:
        worker = self.pool.by_id(event.worker_id)
        if worker is None or worker.allocation is None or worker.blocked == event.blocked:
            return
        if event.blocked:
            worker.allocation.home.lend_cpu(worker.allocation)
        else:
            worker.allocation.home.take_cpu_back(worker.allocation)
        self.pool.set_blocked(worker, event.blocked)

    # ---- placement groups ----

    def _bundles_unwanted(self, event: BundlesUnwanted, now: float) -> None:
        """The reservation goes at once; who uses it is killed, and keeps what it holds until it is dead."""
        for group in event.groups:
            used = self.bundles.give_back(group, event.attempt)
            if used:
                reason = event.reason or "it was removed"
                why = cause(Kind.PLACEMENT_GROUP_REMOVED, f"placement group {group.hex()}: {reason}")
                held = {id(allocation) for allocation in used}
                self.actors.bundles_gone(used, why, now)
                for worker in self.pool:
                    if id(worker.allocation) in held:
                        self.pool.end(worker, why, now, force=True)
        self._outbox.append(ReportResources())

    # ---- processes ----

    def _forked(self, event: Forked, now: float) -> None:
        if event.error:
            seen = cause(Kind.LAUNCH_FAILED, event.error)
            self._worker_died(WorkerDied(event.token, seen), now)
        else:
            self.pool.forked(event.token, event.pid)

    def _worker_joined(self, event: WorkerJoined, now: float) -> None:
        refusal = self.pool.joined(event.token, event.address, now)
        if refusal is not None:
            raise ValueError(f"cannot register worker: {refusal}")

    def _worker_ending(self, event: WorkerEnding, now: float) -> None:
        worker = self.pool.by_id(event.worker_id)
        if worker is not None:
            self.pool.announce_end(worker, event.cause, now)

    def _worker_stays(self, event: WorkerStays, now: float) -> None:
        worker = self.pool.by_id(event.worker_id)
        if worker is not None:
            self.pool.stays(worker, now)

    def _worker_died(self, event: WorkerDied, now: float) -> None:
        worker = self.pool.by_token(event.token)
        if worker is None:
            return
        final = resolve(worker.intended, event.cause)
        self.scheduler.worker_lost(worker, final, now)
        self.actors.worker_lost(worker, final, now)
        self.pool.died(worker, final, now)
        self._drop_client(worker.worker_id, now)
        self._outbox.append(ProcessEnded(worker.worker_id, worker.token, final))

    def _template_lost(self, event: TemplateLost, now: float) -> None:
        self.pool.template_lost(event.template, event.reason, now)

    def _total_changed(self, event: TotalChanged, now: float) -> None:
        self.ledger.set_total(event.name, event.amount)

    def _tick(self, event: Tick, now: float) -> None:
        self.pool.tick(now)
        for template in self.environments.tick(now, self._in_use):
            self.pool.template_ended(template, now)

    def _in_use(self, environment: str) -> bool:
        """Whether anybody has or wants workers that are forked for an environment."""
        return self.pool.uses(environment) or self._waited_for(environment)

    def _waited_for(self, environment: str) -> bool:
        return self.scheduler.waits_for(environment) or self.actors.waits_for(environment)
