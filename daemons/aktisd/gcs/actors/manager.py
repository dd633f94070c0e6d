"""The life of every actor: created, placed, started, restarted, ended.

Pure state machine, driven by the event loop's thread only. Two rules carry the rest:

* Every StartActor has a new incarnation number, stored before it is sent. A report counts only if it names
  the present incarnation on the present node; a process of another one is told to stop. A new process is
  started only after the death of the one before was reported or its node was declared dead.
* What an actor depends on (its owner's process, its job) ends it at once; chains of owners are followed.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aktis._common import ids
from aktis._proto import common_pb2, gcs_pb2

from aktisd.gcs.actors import causes
from aktisd.gcs.actors.causes import DeathCause
from aktisd.gcs.actors.pending import PendingActors, PendingQueue
from aktisd.gcs.actors.placement import choose, describe, explain, is_feasible
from aktisd.gcs.actors.record import (
    WAITING,
    WITH_PROCESS,
    Actor,
    ActorRecord,
    Counted,
    Demand,
    State,
    StateValue,
)
from aktisd.gcs.actors.table import ActorTable
from aktisd.gcs.clock import Clock
from aktisd.gcs.effects import ACTORS_CHANNEL, ERRORS_CHANNEL, Effects
from aktisd.gcs.limits import Limits
from aktisd.gcs.placement_groups.manager import PlacementGroupManager
from aktisd.gcs.resource_view import NodeResources, ResourceView
from aktisd.gcs.storage.interface import Table

Report = gcs_pb2.ActorReport
STORY_ENTRIES = 10_000
KILLED_EARLY_KEPT = 10_000
"""Of how many killed actors it is remembered whose creation has not come."""

MANY_WAITING: Final = 1_000
"""Actors of one demand that wait, from which on their creator is told."""


@dataclass(frozen=True, slots=True)
class StoryEntry:
    """One change of one actor."""

    time_unix_ms: int
    actor_id: bytes
    old: str
    new: str
    incarnation: int
    why: str


class ActorManager:
    """See the module."""

    def __init__(
        self,
        clock: Clock,
        limits: Limits,
        view: ResourceView,
        groups: PlacementGroupManager,
        rng: random.Random,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._view = view
        self._groups = groups
        self._rng = rng
        self._pending = PendingActors()
        self._delayed: list[tuple[float, bytes, int]] = []  # heap: due time, actor, its restarts at that time
        self._ended_processes: deque[tuple[bytes, str]] = deque()  # owners whose actors are still to be ended
        self._dead_processes: dict[bytes, None] = {}  # oldest first
        self._killed_early: dict[bytes, None] = {}  # oldest first
        self._story: deque[StoryEntry] = deque(maxlen=STORY_ENTRIES)
        self.table = ActorTable()
        self.transitions: Counter[tuple[str, str]] = Counter()

    def load(self, rows: dict[bytes, bytes], opaque: dict[bytes, bytes]) -> None:
        """Take over what an earlier process stored; those that waited wait again."""
        records = [ActorRecord.from_stored(row, opaque.get(actor_id)) for actor_id, row in rows.items()]
        for record in sorted(
            records, key=lambda record: (record.end_time_unix_ms, record.start_time_unix_ms)
        ):
            self.table.add(record)
            if record.is_placeable():
                self._pending.add(record)

    # ---- requests ----

    def add(self, spec: gcs_pb2.ActorSpec, out: Effects) -> ActorRecord:
        """Enter a new actor whose spec is valid and whose name is free; `place` does the rest."""
        record = ActorRecord.from_spec(spec, self._clock.unix_ms())
        self.table.add(record)
        if record.is_placeable():
            self._pending.add(record)
        out.write(Table.CREATIONS, record.actor_id, record.opaque())
        self._tell(record, "NONE", "created", out)
        if record.demand.group and not self._groups.exists(record.demand.group):
            self._finish(record, causes.group_removed(record.demand.group, "it is not there"), out)
        elif record.actor_id in self._killed_early:
            self._finish(record, causes.killed(no_restart=True), out)
        return record

    def supply_arguments(self, record: ActorRecord, creation_task: bytes, out: Effects) -> None:
        """Let an actor be placed that was waiting for what its constructor takes."""
        record.spec.awaits_arguments = False
        record.creation_task = creation_task
        if record.is_placeable():
            self._pending.add(record)
        out.write(Table.CREATIONS, record.actor_id, record.opaque())
        self._tell(record, State.Name(record.state), "its arguments came", out)

    def kill(self, request: gcs_pb2.KillActorRequest, out: Effects) -> bool:
        """End an actor or only its process; return whether there is such an actor.

        One that is not known yet is dead as soon as it is: kill() may overtake the creation, which waits for
        arguments, or was sent by another process.
        """
        record = self.table.get(request.actor_id)
        if record is None:
            if request.no_restart and not request.graceful:
                self._killed_early[request.actor_id] = None
                while len(self._killed_early) > KILLED_EARLY_KEPT:
                    del self._killed_early[next(iter(self._killed_early))]
            return False
        if record.state == Actor.DEAD or request.incarnation not in (0, record.incarnation):
            return True
        if request.graceful:
            self._end_gracefully(record, out)
        elif request.no_restart:
            self._finish(record, causes.killed(no_restart=True), out)
        elif record.state in WITH_PROCESS:
            self._stop(record, causes.killed(no_restart=False), out)
        self._end_orphans(out)
        return True

    # ---- events ----

    def report(self, node_id: bytes, report: gcs_pb2.ActorReport, out: Effects) -> None:
        """Take in what a raylet knows about a process."""
        record = self.table.get(report.actor_id)
        if record is None or record.node_id != node_id or record.incarnation != report.incarnation:
            if report.event in (Report.ALIVE, Report.EVENT_UNSPECIFIED):
                self._stop_stale(node_id, report, out)
            return
        if report.event == Report.ALIVE and record.state == Actor.STARTING:
            self._alive(record, report.address, out)
        elif report.event == Report.DIED:
            self._died(record, report.cause, out)
        elif report.event == Report.NO_ROOM and record.state == Actor.STARTING:
            view = self._view_of(record.demand)
            if view is not None:
                view.refuse(record.place_key)
            self._unplace(record, "its node had no room after all", out)
        self._end_orphans(out)

    def process_died(self, worker_id: bytes, why: str, out: Effects) -> None:
        """A worker or driver is gone: what it owned ends."""
        self._ended_processes.append((worker_id, why))
        self._end_orphans(out)

    def job_finished(self, job_id: bytes, out: Effects) -> None:
        """End the job's actors, except detached ones and what those own."""
        for record in self.table.of_job(job_id):
            if not self._outlives_job(record):
                self._finish(record, causes.job_finished(job_id), out)
        self._end_orphans(out)

    def group_removed(self, group_id: bytes, why: str, out: Effects) -> None:
        """End the actors of a placement group."""
        for record in self.table.in_group(group_id):
            self._finish(record, causes.group_removed(group_id, why), out)
        self._end_orphans(out)

    def node_died(self, node_id: bytes, why: str, out: Effects) -> None:
        """End what was owned by the node's processes, restart elsewhere what ran there."""
        for worker_id in self.table.owners(node_id):
            self.process_died(worker_id, f"node {ids.short(node_id)} died", out)
        for record in self.table.on_node(node_id):
            self._died(record, causes.node_died(node_id, why), out)
        self._end_orphans(out)

    def reconcile(
        self,
        node_id: bytes,
        reports: Iterable[gcs_pb2.ActorReport],
        live_processes: set[bytes] | None,
        out: Effects,
    ) -> None:
        """Compare with the truth of a raylet that registers: nobody notices what is as it was."""
        expected = {record.actor_id: record for record in self.table.on_node(node_id)}
        for record in expected.values():
            record.counted = Counted.NOT  # its node's entry in the view is new
        for report in reports:
            record_there = expected.get(report.actor_id)
            if record_there is not None and record_there.incarnation == report.incarnation:
                del expected[report.actor_id]
                self._count(record_there)
                self._repeat_stop(record_there, out)
            self.report(node_id, report, out)
        for record in expected.values():
            if record.state == Actor.STARTING:
                self._unplace(record, "its raylet does not know of it", out)
            elif record.state == Actor.ALIVE:
                self._died(record, causes.vanished(node_id), out)
        if live_processes is not None:
            for worker_id in self.table.owners(node_id) - live_processes:
                self._ended_processes.append((worker_id, "it was gone when its node registered again"))
        self._end_orphans(out)

    def place(self, view_is_complete: bool, out: Effects) -> None:
        """Start every waiting actor that fits now. Cheap when nothing has changed since the last call."""
        now_ms = self._clock.monotonic_ms()
        while self._delayed and self._delayed[0][0] <= now_ms:
            _, actor_id, restarts = heapq.heappop(self._delayed)
            record = self.table.get(actor_id)
            if record is not None and record.state == Actor.RESTARTING and record.restarts == restarts:
                self._pending.add(record)
        for queue in self._pending:
            view = self._view_of(queue.demand)
            if view is not None and queue.tried_version != view.version:
                self._place_queue(queue, view, view_is_complete, out)
            if len(queue.actors) >= MANY_WAITING:
                self._warn_many(queue, out)

    # ---- questions ----

    def next_due_ms(self) -> float | None:
        """Return when a delayed restart wants `place` to be called, on the monotonic clock."""
        return self._delayed[0][0] if self._delayed else None

    def lives(self, actor_id: bytes) -> bool:
        """Say whether there is such an actor and it is not DEAD."""
        record = self.table.get(actor_id)
        return record is not None and record.state != Actor.DEAD

    def is_process_dead(self, worker_id: bytes) -> bool:
        """Say whether a process is known to be gone."""
        return worker_id in self._dead_processes

    def pending(self) -> int:
        """Return how many actors wait for a node."""
        return len(self._pending)

    def pending_reason(self, record: ActorRecord) -> str:
        """Say what each node lacks for an actor that waits; empty for the others."""
        if record.state not in WAITING:
            return ""
        if record.spec.awaits_arguments:
            return "an argument of its constructor is not ready yet"
        view = self._view_of(record.demand)
        if record.demand.group and (view is None or not len(view)):
            return self._groups.why_no_bundle(record.demand.group)
        return f"it needs {describe(record.demand)}; {explain(record.demand, view or self._view)}"

    def story(self, actor_id: bytes) -> list[StoryEntry]:
        """Return the latest changes of an actor, as far as they are remembered."""
        return [entry for entry in self._story if entry.actor_id == actor_id]

    def validate(self) -> None:
        """Check the invariants; for tests."""
        self.table.validate()
        assert not self._ended_processes
        waiting = {record.actor_id for queue in self._pending for record in queue.actors.values()}
        delayed = {actor_id for _, actor_id, _ in self._delayed}
        for record in self.table:
            assert (record.actor_id in waiting) <= record.is_placeable()
            if record.is_placeable():
                assert record.actor_id in waiting or record.actor_id in delayed
            assert (record.counted == Counted.NOT) or record.state in WITH_PROCESS

    # ---- steps ----

    def _view_of(self, demand: Demand) -> ResourceView | None:
        """Return what an actor is placed in: the nodes, or the bundles of its placement group."""
        return self._groups.bundles.view(demand.group) if demand.group else self._view

    def _place_queue(
        self, queue: PendingQueue, view: ResourceView, view_is_complete: bool, out: Effects
    ) -> None:
        while queue.actors:
            record = next(iter(queue.actors.values()))
            node = choose(queue.demand, view, self._rng)
            if node is None:
                queue.tried_version = view.version
                self._cannot_place(queue, view, view_is_complete, out)
                return
            self._start(record, node, out)

    def _cannot_place(
        self, queue: PendingQueue, view: ResourceView, view_is_complete: bool, out: Effects
    ) -> None:
        if is_feasible(queue.demand, view):
            for node_id in self._view.ask_for_room():
                out.send(node_id, gcs_pb2.NodeDown(room_wanted=gcs_pb2.RoomWanted()))
        elif view_is_complete and len(view):
            if queue.demand.is_pinned:
                for record in list(queue.actors.values()):
                    self._finish(record, causes.unschedulable(self.pending_reason(record)), out)
                self._end_orphans(out)
            else:
                self._warn_infeasible(queue, out)

    def _start(self, record: ActorRecord, node: NodeResources, out: Effects) -> None:
        self._pending.discard(record)
        record.incarnation += 1
        record.stop = None
        record.bundle = node.bundle
        self._change(record, Actor.STARTING, f"placed on node {ids.short(node.node_id)}", out, node.node_id)
        start = gcs_pb2.StartActor(
            spec=record.full_spec(), incarnation=record.incarnation, bundle_index=node.bundle
        )
        out.send(node.node_id, gcs_pb2.NodeDown(start_actor=start))

    def _alive(self, record: ActorRecord, address: common_pb2.ProcessAddress, out: Effects) -> None:
        record.alive_since_ms = self._clock.monotonic_ms()
        kept = common_pb2.ProcessAddress()
        kept.CopyFrom(address)
        self._change(record, Actor.ALIVE, f"runs as pid {address.pid}", out, record.node_id, kept)
        if record.ending:
            self._stop(record, causes.asked_to_end(), out, graceful=True)

    def _died(self, record: ActorRecord, cause: DeathCause, out: Effects) -> None:
        self._orphan_by(record, "it was an actor that died")
        if cause.kind in causes.FINAL or not record.may_restart():
            self._finish(record, cause, out, process_is_gone=True)
            return
        record.restarts += 1
        record.death_cause = self._stamped(cause, record.node_id)
        delay_ms = self._restart_delay_ms(record)
        why = f"died ({causes.words(record.death_cause)}), restarts in {delay_ms} ms"
        self._change(record, Actor.RESTARTING, why, out)
        if delay_ms:
            due_ms = self._clock.monotonic_ms() + delay_ms
            heapq.heappush(self._delayed, (due_ms, record.actor_id, record.restarts))
        else:
            self._pending.add(record)

    def _unplace(self, record: ActorRecord, why: str, out: Effects) -> None:
        self._change(record, Actor.RESTARTING if record.restarts else Actor.PENDING, why, out)
        self._pending.add(record)

    def _finish(
        self, record: ActorRecord, cause: DeathCause, out: Effects, *, process_is_gone: bool = False
    ) -> None:
        if record.state == Actor.DEAD:
            return
        node_id = record.node_id
        if record.state in WITH_PROCESS and not process_is_gone:
            self._stop(record, cause, out)
            self._orphan_by(record, "it was an actor that ended")
        self._pending.discard(record)
        record.death_cause = self._stamped(cause, node_id)
        record.end_time_unix_ms = record.death_cause.time_unix_ms
        record.creation_task = record.handle = b""
        record.spec.awaits_arguments = False
        out.write(Table.CREATIONS, record.actor_id, None)
        self._change(record, Actor.DEAD, causes.words(record.death_cause), out)
        while self.table.dead > self._limits.dead_actors:
            oldest = self.table.oldest_dead()
            self.table.forget(oldest)
            out.write(Table.ACTORS, oldest, None)

    def _end_gracefully(self, record: ActorRecord, out: Effects) -> None:
        if record.ending:
            return
        record.ending = True
        out.write(Table.ACTORS, record.actor_id, record.to_proto().SerializeToString())
        if record.state == Actor.ALIVE:
            self._stop(record, causes.asked_to_end(), out, graceful=True)

    def _stop(self, record: ActorRecord, cause: DeathCause, out: Effects, *, graceful: bool = False) -> None:
        record.stop = gcs_pb2.StopActor(
            actor_id=record.actor_id, incarnation=record.incarnation, graceful=graceful, cause=cause
        )
        out.send(record.node_id, gcs_pb2.NodeDown(stop_actor=record.stop))

    def _repeat_stop(self, record: ActorRecord, out: Effects) -> None:
        """Ask again what may have been lost with the stream, or with the memory of an earlier GCS."""
        if record.stop is not None:
            out.send(record.node_id, gcs_pb2.NodeDown(stop_actor=record.stop))
        elif record.ending and record.state == Actor.ALIVE:
            self._stop(record, causes.asked_to_end(), out, graceful=True)

    def _stop_stale(self, node_id: bytes, report: gcs_pb2.ActorReport, out: Effects) -> None:
        stop = gcs_pb2.StopActor(
            actor_id=report.actor_id, incarnation=report.incarnation, cause=causes.stale()
        )
        out.send(node_id, gcs_pb2.NodeDown(stop_actor=stop))
        out.warn("stale_actor_stopped", actor=ids.short(report.actor_id), incarnation=report.incarnation)

    def _orphan_by(self, record: ActorRecord, why: str) -> None:
        if record.address is not None:
            self._ended_processes.append((record.address.worker_id, why))

    def _end_orphans(self, out: Effects) -> None:
        """End what belongs to ended processes, which may end further ones."""
        while self._ended_processes:
            worker_id, why = self._ended_processes.popleft()
            self._dead_processes[worker_id] = None
            if len(self._dead_processes) > self._limits.dead_processes:
                del self._dead_processes[next(iter(self._dead_processes))]
            for record in self.table.of_owner(worker_id):
                self._finish(record, causes.owner_died(worker_id, why), out)

    def _outlives_job(self, record: ActorRecord) -> bool:
        """Say whether the chain of owners ends in a detached actor."""
        seen = set()
        while not record.spec.detached:
            owner = self.table.in_process(record.spec.owner.worker_id)
            if owner is None or owner.actor_id in seen:
                return False
            seen.add(owner.actor_id)
            record = owner
        return True

    def _restart_delay_ms(self, record: ActorRecord) -> int:
        since_ms, record.alive_since_ms = record.alive_since_ms, None
        quick = since_ms is None or self._clock.monotonic_ms() - since_ms < self._limits.quick_death_ms
        record.quick_deaths = record.quick_deaths + 1 if quick else 0
        if record.quick_deaths < 2:
            return 0
        delay_ms = self._limits.restart_backoff_ms << min(record.quick_deaths - 2, 20)
        return min(delay_ms, self._limits.restart_backoff_max_ms)

    def _warn_infeasible(self, queue: PendingQueue, out: Effects) -> None:
        for record in queue.actors.values():
            job_id = record.spec.job_id
            if job_id in queue.warned_jobs:
                continue
            queue.warned_jobs.add(job_id)
            message = (
                f"actor {record.spec.class_name} ({ids.short(record.actor_id)}) fits on no node: "
                f"{self.pending_reason(record)}. It waits until such a node joins; "
                "ask for less, or add a node that has it"
            )
            self._tell_driver(job_id, "infeasible_actor", message, out)
            out.warn("actor_infeasible", actor=ids.short(record.actor_id), job=job_id.hex(), message=message)

    def _warn_many(self, queue: PendingQueue, out: Effects) -> None:
        first = next(iter(queue.actors.values()))
        job_id = first.spec.job_id
        if job_id in queue.warned_jobs:
            return
        queue.warned_jobs.add(job_id)
        message = (
            f"{len(queue.actors)} actors wait for resources, the first is a {first.spec.class_name}: "
            f"{self.pending_reason(first)}. They start as others end; create fewer, ask for less with "
            "num_cpus, or add nodes"
        )
        self._tell_driver(job_id, "many_actors_wait", message, out)

    def _tell_driver(self, job_id: bytes, kind: str, message: str, out: Effects) -> None:
        event = gcs_pb2.ErrorEvent(
            job_id=job_id, kind=kind, message=message, time_unix_ms=self._clock.unix_ms()
        )
        out.publish(gcs_pb2.Publication(channel=ERRORS_CHANNEL, key=job_id, error=event))

    def _stamped(self, cause: DeathCause, node_id: bytes) -> DeathCause:
        stamped = DeathCause()
        stamped.CopyFrom(cause)
        stamped.time_unix_ms = cause.time_unix_ms or self._clock.unix_ms()
        stamped.node_id = cause.node_id or node_id
        return stamped

    def _change(
        self,
        record: ActorRecord,
        state: StateValue,
        why: str,
        out: Effects,
        node_id: bytes = b"",
        address: common_pb2.ProcessAddress | None = None,
    ) -> None:
        old = State.Name(record.state)
        self._uncount(record, started=state == Actor.ALIVE)
        self.table.change(record, state, node_id, address)
        self._count(record)
        self._tell(record, old, why, out)

    def _count(self, record: ActorRecord) -> None:
        view = self._view_of(record.demand)
        if view is None:
            return
        if record.state == Actor.STARTING:
            record.counted_reports = view.promise(record.place_key, record.demand.resources)
            record.counted = Counted.PROMISED
        elif record.state == Actor.ALIVE:
            view.occupy(record.place_key)
            record.counted = Counted.RUNNING

    def _uncount(self, record: ActorRecord, *, started: bool) -> None:
        view = self._view_of(record.demand)
        if view is not None and record.counted == Counted.PROMISED:
            demand, reports = record.demand.resources, record.counted_reports
            view.settle(record.place_key, demand, started=started, reports=reports)
        elif view is not None and record.counted == Counted.RUNNING:
            view.leave(record.place_key)
        record.counted = Counted.NOT

    def _tell(self, record: ActorRecord, old: str, why: str, out: Effects) -> None:
        new = State.Name(record.state)
        self.transitions[old, new] += 1
        self._story.append(
            StoryEntry(self._clock.unix_ms(), record.actor_id, old, new, record.incarnation, why)
        )
        snapshot = record.to_proto()
        out.write(Table.ACTORS, record.actor_id, snapshot.SerializeToString())
        out.publish(gcs_pb2.Publication(channel=ACTORS_CHANNEL, key=record.actor_id, actor=snapshot))
        out.detail("actor_state", actor=ids.short(record.actor_id), old=old, new=new, why=why)
