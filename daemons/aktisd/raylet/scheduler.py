"""Which request for leases is served next. Pure state machine on the raylet's loop.

A *demand* is what one client wants of one of its scheduling classes. Demands wait per job. Every dispatch
serves

1. demands that have starved (others were served past them ``STARVED_AFTER`` times because they need more at
once
   than is free): what they lack is kept free for them, for at most ``HOLD_S``, so that big requests do not
   wait for ever behind small ones, and a request that in truth cannot be served does not idle the node for
   ever;
2. jobs in the order of their weighted dominant share of the node (what they hold of the resource they hold
most
   of, as in dominant resource fairness), then of who was served longest ago: nobody starves however much
   others submit. Within a job, demands of workers that are blocked in ``get`` go first: they wait for their
   children, and serving new roots instead would only block more workers. Of these the most deeply nested
   one is served whole before the next: so a tree of tasks is run depth first, and what is blocked at a time
   is a path of it for each CPU, not a level. Then
   higher priorities go first, and demands of equal ones take turns.

Sharing what is *free* is not enough, because leases are kept while there is a backlog. So when a job waits
that holds less than its share, clients of jobs that hold more are asked to give leases back
(``AskReclaim.excess``).
"""

from collections import Counter
from collections.abc import Iterator
from operator import itemgetter

from aktisd.raylet import fairness
from aktisd.raylet.bundles import BundleTable
from aktisd.raylet.causes import Cause
from aktisd.raylet.demands import Client, Demand, JobQueue, Lease, Round, Turn
from aktisd.raylet.environments.machine import Environments
from aktisd.raylet.history import History
from aktisd.raylet.messages import (
    AskReclaim,
    Grant,
    GrantedLease,
    Instruction,
    LeasesRequested,
    RoomWanted,
    TellFailed,
    TellLost,
    TellPending,
)
from aktisd.raylet.resources import Allocation, Amounts, Ledger
from aktisd.raylet.workers import Worker, WorkerPool

STARVED_AFTER = 16
HOLD_S = 2.0
QUANTUM_S = 0.05
"""A lease is not asked back for fairness before it was held that long: changing hands costs about 1 ms."""


class Scheduler:
    """See the module."""

    def __init__(
        self,
        ledger: Ledger,
        bundles: BundleTable,
        pool: WorkerPool,
        environments: Environments,
        outbox: list[Instruction],
        node_name: str,
    ) -> None:
        self._ledger = ledger
        self._bundles = bundles
        self._pool = pool
        self._environments = environments
        self._outbox = outbox
        self._node_name = node_name
        self._clients: dict[bytes, Client] = {}
        self._jobs: dict[bytes, JobQueue] = {}
        self._weights: dict[bytes, float] = {}
        self._leases: dict[int, Lease] = {}
        self._last_lease_id = 0
        self._history = History()
        self._unasked: set[bytes] = set()
        """Clients with leases that have not heard since their last grant that others wait."""
        self.wake_at: float | None = None
        """When dispatch should run again although nothing happened."""

    # ---- events ----

    def request(self, event: LeasesRequested, now: float) -> None:
        """A client wants ``event.wanted`` more leases of a class."""
        client = self._clients.setdefault(event.client, Client())
        demand = client.demands.get(event.class_key)
        if demand is None:
            if event.wanted == 0:
                return
            demand = Demand(
                event.client,
                event.class_key,
                event.job_id,
                event.amounts,
                event.name,
                event.wanted,
                event.backlog,
                environment=event.environment,
                group=event.group,
                bundle_index=event.bundle_index,
            )
            client.demands[event.class_key] = demand
        elif demand.amounts != event.amounts:
            self._unqueue(demand)
            # Leases of the class that are held keep the old amounts; they are counted by their allocation.
            demand.ask_for(event.amounts)
        demand.wanted, demand.backlog = event.wanted, event.backlog
        demand.environment, demand.priority = event.environment, event.priority
        if event.wanted:
            self._job(demand.job_id).waiting.setdefault(demand.key, demand)
        else:
            self._unqueue(demand)
            self._forget_if_idle(demand)

    def return_lease(self, client_id: bytes, lease_id: int, now: float) -> Worker | None:
        """Take a lease back; its resources are free. Returns its worker, None if it is not the client's."""
        client = self._clients.get(client_id)
        if client is None or lease_id not in client.leases:
            return None
        if client.asked_excess:
            client.asked_excess -= 1
        lease = client.leases[lease_id]
        self._history.add(lease_id, now, "returned")
        self._drop(lease)
        return lease.worker

    def worker_lost(self, worker: Worker, why: Cause, now: float) -> None:
        """A leased worker died: its owner is told, its resources are free."""
        lease = self._leases.get(worker.lease_id)
        if lease is None:
            return
        self._history.add(lease.lease_id, now, f"lost: {why.message}")
        if lease.demand.client in self._clients:
            self._outbox.append(TellLost(lease.demand.client, lease.lease_id, worker.worker_id, why))
        self._drop(lease)

    def client_gone(self, client_id: bytes, now: float) -> list[Worker]:
        """Forget a client. Returns the workers it had leased: they may run its tasks and must end.

        Their resources stay taken until they are dead.
        """
        client = self._clients.pop(client_id, None)
        if client is None:
            return []
        self._unasked.discard(client_id)
        for demand in client.demands.values():
            self._unqueue(demand)
        for lease_id in client.leases:
            self._history.add(lease_id, now, "owner gone")
        return [lease.worker for lease in client.leases.values()]

    def holder(self, lease_id: int) -> bytes:
        """Who holds a lease; empty when nobody does."""
        lease = self._leases.get(lease_id)
        return lease.demand.client if lease is not None else b""

    def is_held_by(self, lease_id: int, client_id: bytes) -> Worker | None:
        """The worker of a lease if the client holds it."""
        lease = self._leases.get(lease_id)
        return lease.worker if lease is not None and lease.demand.client == client_id else None

    # ---- dispatch ----

    def dispatch(self, now: float) -> Counter[str]:
        """Grant what can be granted.

        Returns:
            How many workers it could use beyond those that are idle, by template.
        """
        self.wake_at = None
        waiting = [demand for job in self._jobs.values() for demand in job.waiting.values()]
        round_ = Round()
        if not self._any_fits(waiting):
            # The common case by far while workers block and go on: no turns are worth taking.
            round_.unfit = {demand.key: demand for demand in waiting if self._is_ready(demand)}
            self._after(round_, now)
            return round_.starts
        if not self._take_turns(round_):
            self._serve_starved(round_, now)
        while (turn := self._poorest(round_)) is not None:
            queue = turn.urgent or turn.normal
            demand = queue.popleft()
            if round_.left(demand) and self._serve_one(demand, round_, now) and round_.left(demand):
                if queue is turn.urgent:
                    queue.appendleft(demand)
                else:
                    turn.line_up(demand)
        self._after(round_, now)
        return round_.starts

    def _is_ready(self, demand: Demand) -> bool:
        return self._environments.template(demand.environment) is not None

    def _any_fits(self, waiting: list[Demand]) -> bool:
        """Whether there is room for anybody; many who wait ask for the same."""
        alike = {demand.shape: demand for demand in waiting}
        return any(
            ledger.fits(demand.amounts) for demand in alike.values() for ledger in self._ledgers(demand)
        )

    def _take_turns(self, round_: Round) -> bool:
        """Line up every job's demands; whether any is urgent."""
        any_urgent = False
        for job_id, job in self._jobs.items():
            if job.waiting:
                turn = round_.turns[job_id] = Turn()
                urgent: list[tuple[int, Demand]] = []
                for demand in job.waiting.values():
                    if not self._is_ready(demand):
                        continue
                    worker = self._pool.by_id(demand.client)
                    if worker is not None and worker.blocked:
                        urgent.append((-self._depth(demand.client), demand))
                    else:
                        turn.line_up(demand)
                urgent.sort(key=itemgetter(0))
                turn.urgent.extend(demand for _, demand in urgent)
                any_urgent = any_urgent or bool(turn.urgent)
        return any_urgent

    def _serve_starved(self, round_: Round, now: float) -> None:
        """Skipped while a blocked worker waits for its children: it could wait for ever for its own CPU."""
        for turn in round_.turns.values():
            for demand in turn.normal:
                if demand.passed_over < STARVED_AFTER or not self._could_ever_serve(demand):
                    continue
                if demand.hold_until == 0.0:
                    demand.hold_until = now + HOLD_S
                if now >= demand.hold_until:
                    demand.passed_over, demand.hold_until = 0, 0.0
                    continue
                while round_.left(demand) and self._serve_one(demand, round_, now):
                    pass
                if demand.key in round_.unfit:
                    self._wake(demand.hold_until)
                    for ledger in self._ledgers(demand):
                        round_.headroom(ledger).keep(ledger.lacking_now(demand.amounts))
                    return

    def _poorest(self, round_: Round) -> Turn | None:
        """The turn of the job to serve next; None when no job has anything left to try."""
        if len(round_.turns) == 1:
            (turn,) = round_.turns.values()
            return turn if turn.urgent or turn.normal else None
        best: Turn | None = None
        best_rank: tuple[float, int] | None = None
        for job_id, turn in round_.turns.items():
            if turn.urgent or turn.normal:
                job = self._jobs[job_id]
                rank = (self._share(job) / self._weights.get(job_id, 1.0), job.served)
                if best_rank is None or rank < best_rank:
                    best, best_rank = turn, rank
        return best

    def _serve_one(self, demand: Demand, round_: Round, now: float) -> bool:
        """Grant one lease or, when no worker is idle, keep room for one that is to come. False when stuck."""
        ledger = self._take_room(demand, round_)
        if ledger is None:
            round_.unfit[demand.key] = demand
            return False
        allocation = ledger.allocate(demand.amounts)
        assert allocation is not None, "it was checked that it fits"
        template = self._environments.template(demand.environment)
        assert template is not None, "only demands whose environment is ready take turns"
        worker = self._pool.take(demand.job_id, demand.environment, template, allocation)
        if worker is not None:
            self._grant(demand, worker, allocation, round_, now)
            return True
        ledger.release(allocation)
        if self._pool.may_start(round_.starts, template, now):
            round_.starts[template] += 1
            round_.reserved[demand.key] = round_.reserved.get(demand.key, 0) + 1
            return True
        round_.headroom(ledger).give_back(demand.amounts)
        round_.workerless[demand.key] = demand
        return False

    def _ledgers(self, demand: Demand) -> list[Ledger]:
        """What the demand may draw from."""
        if not demand.group:
            return [self._ledger]
        return self._bundles.ledgers(demand.group, demand.bundle_index)

    def _take_room(self, demand: Demand, round_: Round) -> Ledger | None:
        """The first ledger with room for one lease, which is taken from its headroom."""
        if demand.shape in round_.full:
            return None
        for ledger in self._ledgers(demand):
            if ledger.fits(demand.amounts) and round_.headroom(ledger).take(demand.amounts):
                return ledger
        round_.full.add(demand.shape)  # during a round room only shrinks
        return None

    def _grant(
        self, demand: Demand, worker: Worker, allocation: Allocation, round_: Round, now: float
    ) -> None:
        self._last_lease_id += 1
        depth, reserved = self._depth(demand.client), bool(demand.group)
        lease = Lease(self._last_lease_id, demand, worker, now, depth, reserved)
        self._leases[lease.lease_id] = lease
        client = self._clients[demand.client]
        client.leases[lease.lease_id] = lease
        client.asked_excess = None
        self._unasked.add(demand.client)
        self._pool.lease(worker, lease.lease_id, demand.job_id, allocation, now, demand.environment)
        worker.label = demand.name
        job = self._jobs[demand.job_id]
        if not reserved:
            for name, amount in demand.amounts.items():
                job.held[name] = job.held.get(name, 0) + amount
        job.leases += 1
        job.reserved_leases += reserved
        job.served = lease.lease_id
        demand.held += 1
        demand.wanted -= 1
        demand.passed_over, demand.hold_until, demand.told = 0, 0.0, False
        for passed in round_.unfit.values():
            passed.passed_over += 1
        del job.waiting[demand.key]
        if demand.wanted:
            job.waiting[demand.key] = demand  # to the end: the job's demands take turns
        granted = GrantedLease(
            lease.lease_id,
            worker.token,
            worker.address,
            allocation.devices(),
            demand.amounts,
            demand.job_id,
            demand.environment,
        )
        round_.grants.setdefault(demand.key, []).append(granted)
        self._history.add(lease.lease_id, now, f"granted to {demand.client.hex()[:8]} for {demand.name}")

    def _after(self, round_: Round, now: float) -> None:
        """Hand out the grants, tell those who wait in vain, and ask those who hold to give back."""
        poor = False
        for demand in round_.unfit.values():
            if demand.judged_at != (version := self._version(demand)):
                lacking, was_infeasible = self._lacking_ever(demand), demand.infeasible
                demand.infeasible, demand.judged_at = bool(lacking), version
                if lacking or was_infeasible:
                    self._tell(demand, lacking or "it waits for what others hold")
            poor = poor or (not demand.infeasible and bool(self._ledgers(demand)))
        for demand in round_.workerless.values():
            template = self._environments.template(demand.environment) or ""
            broken = self._pool.broken(now, template)
            if demand.told:
                continue
            if broken is not None:
                self._tell(demand, broken.message)
            elif stuck := self._pool.used_up():
                self._tell(demand, stuck, stuck=True)
        for (client, class_key), leases in round_.grants.items():
            self._outbox.append(Grant(client, class_key, tuple(leases), poor))
            if poor:
                self._asked(client, 0)
        if poor:
            self._reclaim(now)

    def _tell(self, demand: Demand, explanation: str, *, stuck: bool = False) -> None:
        demand.told = True
        told = TellPending(demand.client, demand.class_key, demand.infeasible, explanation, stuck)
        self._outbox.append(told)

    def _version(self, demand: Demand) -> int:
        return self._bundles.changed(demand.group) if demand.group else self._ledger.total_version

    def _could_ever_serve(self, demand: Demand) -> bool:
        return any(not ledger.lacking_ever(demand.amounts) for ledger in self._ledgers(demand))

    def _lacking_ever(self, demand: Demand) -> str:
        """Why the demand can never be served as things are; empty when it can."""
        if demand.group:
            lacking = self._bundles.lacking_ever(demand.group, demand.bundle_index, demand.amounts)
            return f"no bundle can ever serve it: {lacking}" if lacking else ""
        phrases = self._ledger.lacking_ever(demand.amounts)
        return f"no node can ever serve it: node {self._node_name} {', '.join(phrases)}" if phrases else ""

    def environment_failed(self, environment: str, reason: str) -> None:
        """Whoever waits for workers with it is told, and waits no more."""
        for job in list(self._jobs.values()):
            for demand in [d for d in job.waiting.values() if d.environment == environment]:
                self._outbox.append(TellFailed(demand.client, demand.class_key, reason))
                demand.wanted = 0
                self._unqueue(demand)
                self._forget_if_idle(demand)

    def waits_for(self, environment: str) -> bool:
        """Whether somebody waits for workers with it."""
        return any(d.environment == environment for job in self._jobs.values() for d in job.waiting.values())

    # ---- fairness ----

    def room_wanted(self, event: RoomWanted, now: float) -> None:
        """Actors or placement groups wait for resources: idle leases are asked back."""
        self._reclaim(now)

    def _reclaim(self, now: float) -> None:
        """Ask every holder for idle leases, and jobs beyond their fair share for others."""
        standings = {
            job_id: fairness.Standing(
                self._share(job),
                self._weights.get(job_id, 1.0),
                job.leases - job.reserved_leases,
                bool(job.waiting),
            )
            for job_id, job in self._jobs.items()
        }
        excess = fairness.excess_leases(standings)
        if any(excess.values()):
            for client_id, client in self._clients.items():
                if client.leases:
                    self._ask(client_id, client, excess, now)
        for client_id in sorted(self._unasked):
            if self._clients[client_id].leases:
                self._asked(client_id, 0)
                self._outbox.append(AskReclaim(client_id, 0))

    def _ask(self, client_id: bytes, client: Client, excess: dict[bytes, int], now: float) -> None:
        job_id = next(iter(client.leases.values())).demand.job_id
        share = excess.get(job_id, 0)
        ripe = 0
        for lease in client.leases.values():
            if ripe >= share:
                break
            if lease.reserved:
                continue
            if now - lease.granted_at >= QUANTUM_S:
                ripe += 1
            else:
                self._wake(lease.granted_at + QUANTUM_S)
        excess[job_id] = share - ripe
        if ripe > (client.asked_excess or 0):
            self._asked(client_id, ripe)
            self._outbox.append(AskReclaim(client_id, ripe))

    def _asked(self, client_id: bytes, excess: int) -> None:
        self._clients[client_id].asked_excess = excess
        self._unasked.discard(client_id)

    def _share(self, job: JobQueue) -> float:
        return fairness.dominant_share(job.held, self._ledger.total)

    def _depth(self, client_id: bytes) -> int:
        """How deeply nested the tasks are that a client submits: a driver's 0, those of its tasks 1, ..."""
        worker = self._pool.by_id(client_id)
        lease = self._leases.get(worker.lease_id) if worker is not None else None
        return lease.depth + 1 if lease is not None else 0

    # ---- looking ----

    def leases(self) -> Iterator[Lease]:
        """Every live lease."""
        return iter(self._leases.values())

    def pending(self) -> list[tuple[Amounts, int]]:
        """What waits, by equal amounts."""
        sums: dict[frozenset[tuple[str, int]], int] = {}
        for job in self._jobs.values():
            for demand in job.waiting.values():
                key = frozenset(demand.amounts.items())
                sums[key] = sums.get(key, 0) + max(demand.wanted, 1)
        return [(dict(key), count) for key, count in sums.items()]

    def story(self, lease_id: int) -> list[tuple[float, str]]:
        """What happened to a lease."""
        return self._history.story(lease_id)

    def forget_weight(self, job_id: bytes) -> None:
        """The job is over."""
        self._weights.pop(job_id, None)

    def set_weight(self, job_id: bytes, weight: float) -> None:
        """The job's weight in sharing; 1 by default."""
        self._weights[job_id] = weight

    def validate(self) -> None:
        """Check the tables against one another."""
        for lease_id, lease in self._leases.items():
            assert lease.worker.lease_id == lease_id, lease
            if (client := self._clients.get(lease.demand.client)) is not None:
                assert client.leases[lease_id] is lease
        for client in self._clients.values():
            assert client.leases.items() <= self._leases.items()
        for job_id, job in self._jobs.items():
            assert job.waiting or job.leases, job_id
            leases = [lease for lease in self._leases.values() if lease.demand.job_id == job_id]
            assert job.leases == len(leases)
            assert job.reserved_leases == sum(lease.reserved for lease in leases)
            for key, demand in job.waiting.items():
                assert demand.key == key
                assert demand.wanted > 0
                assert self._clients[demand.client].demands[demand.class_key] is demand

    # ---- inside ----

    def _job(self, job_id: bytes) -> JobQueue:
        job = self._jobs.get(job_id)
        if job is None:
            # A newcomer is not owed for the time before it came, but goes before the job served last.
            job = self._jobs[job_id] = JobQueue(served=self._last_lease_id - 1)
        return job

    def _drop(self, lease: Lease) -> None:
        del self._leases[lease.lease_id]
        demand = lease.demand
        demand.held -= 1
        if (client := self._clients.get(demand.client)) is not None:
            client.leases.pop(lease.lease_id, None)
        allocation = lease.worker.allocation
        assert allocation is not None, "a leased worker holds its allocation"
        lease.worker.allocation = None
        allocation.home.release(allocation)
        job = self._jobs[demand.job_id]
        if not lease.reserved:
            for name, amount in allocation.amounts.items():
                job.held[name] -= amount
        job.leases -= 1
        job.reserved_leases -= lease.reserved
        self._forget_if_idle(demand)
        self._forget_job(demand.job_id)

    def _unqueue(self, demand: Demand) -> None:
        if (job := self._jobs.get(demand.job_id)) is not None:
            job.waiting.pop(demand.key, None)
            self._forget_job(demand.job_id)

    def _forget_job(self, job_id: bytes) -> None:
        job = self._jobs.get(job_id)
        if job is not None and not job.waiting and not job.leases:
            del self._jobs[job_id]

    def _forget_if_idle(self, demand: Demand) -> None:
        client = self._clients.get(demand.client)
        if client is None:
            return
        if demand.wanted == 0 and demand.held == 0 and client.demands.get(demand.class_key) is demand:
            del client.demands[demand.class_key]
        if not client.demands and not client.leases:
            del self._clients[demand.client]
            self._unasked.discard(demand.client)

    def _wake(self, at: float) -> None:
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)
