"""The managers together: what an event means to more than one of them.

Still pure: events in, `Effects` out. The gateway (`aktisd.gcs.gateway`) calls it on the event loop.
"""

import functools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aktis._common import ids, version
from aktis._proto import common_pb2, gcs_pb2

from aktisd.gcs.actors import causes
from aktisd.gcs.actors.manager import ActorManager
from aktisd.gcs.actors.requests import ActorRequests
from aktisd.gcs.clock import Clock
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import invalid
from aktisd.gcs.job_keys import JobKeys
from aktisd.gcs.jobs import COUNTER_KEY, JobManager
from aktisd.gcs.kv import KvManager
from aktisd.gcs.limits import Limits
from aktisd.gcs.nodes import NodeManager
from aktisd.gcs.packages import PackageKeeper
from aktisd.gcs.placement_groups.manager import PlacementGroupManager
from aktisd.gcs.placement_groups.record import GroupRecord
from aktisd.gcs.placement_groups.requests import GroupRequests
from aktisd.gcs.pubsub import PubSub
from aktisd.gcs.resource_view import ResourceView
from aktisd.gcs.storage.interface import Storage, Table
from aktisd.gcs.task_events import TaskEvents
from aktisd.gcs.validate import check_id, check_resources

CLUSTER_ID_KEY = b"cluster_id"
REMOVED_BY_USER = "it was removed"


@dataclass(frozen=True, slots=True)
class Image:
    """Everything that an earlier GCS left in storage."""

    term: int
    meta: dict[bytes, bytes]
    nodes: dict[bytes, bytes]
    jobs: dict[bytes, bytes]
    actors: dict[bytes, bytes]
    creations: dict[bytes, bytes]
    placement_groups: dict[bytes, bytes]
    kv_sizes: dict[bytes, int]

    @classmethod
    def load(cls, storage: Storage, term: int) -> "Image":
        """Read it; runs on the writer thread."""
        return cls(
            term,
            storage.load(Table.META),
            storage.load(Table.NODES),
            storage.load(Table.JOBS),
            storage.load(Table.ACTORS),
            storage.load(Table.CREATIONS),
            storage.load(Table.PLACEMENT_GROUPS),
            storage.sizes(Table.KV),
        )


class Cluster:
    """State of the whole cluster."""

    def __init__(self, image: Image, clock: Clock, limits: Limits, rng: random.Random, out: Effects) -> None:
        self._clock = clock
        self.limits = limits
        self.term = image.term
        self.start_time_unix_ms = clock.unix_ms()
        self.describe_process: Callable[[], gcs_pb2.Daemon] = gcs_pb2.Daemon
        """What `info` says of the serving process, which only the process itself knows."""
        self.cluster_id = image.meta.get(CLUSTER_ID_KEY) or rng.randbytes(ids.CLUSTER_ID_BYTES)
        out.write(Table.META, CLUSTER_ID_KEY, self.cluster_id)
        self.view = ResourceView()
        self.nodes = NodeManager(clock, limits, self.view)
        self.jobs = JobManager(clock, limits)
        self.groups = PlacementGroupManager(clock, limits, self.view, image.term)
        self.group_requests = GroupRequests(self.groups, limits, self._owner_problem, self._actor_in)
        self.actors = ActorManager(clock, limits, self.view, self.groups, rng)
        self.actor_requests = ActorRequests(self.actors, limits, self._owner_problem)
        self._ownerless: set[bytes] = set()
        """Placement groups whose job is over, and which live on with an actor."""
        self.kv = KvManager(limits)
        self.pubsub = PubSub(limits, image.term)
        self.task_events = TaskEvents(limits)
        self.nodes.load(image.nodes)
        self.jobs.load(image.jobs, image.meta.get(COUNTER_KEY))
        self.groups.load(image.placement_groups)
        self.actors.load(image.actors, image.creations)
        self._ownerless.update(
            record.group_id for record in self.groups.table if self._ends_with_its_owner(record)
        )
        self.kv.load(image.kv_sizes)
        self.packages = PackageKeeper(clock, limits, self.kv, self._is_job_alive, self._of_actors)
        self.job_keys = JobKeys(clock, self.kv, self._is_job_alive)
        self._next_tick_ms = clock.monotonic_ms() + self.nodes.tick_period_ms

    # ---- nodes' streams ----

    def register(self, request: gcs_pb2.NodeRegister, out: Effects) -> None:
        """Let a node in and reconcile with what it says; its answer is the first message to it.

        Raises:
            RefusedError: with the answer.
        """
        self.nodes.register(request, out)
        node_id = request.node.node_id
        registered = gcs_pb2.NodeRegistered(
            cluster_id=self.cluster_id,
            term=self.term,
            heartbeat_period_ms=self.limits.heartbeat_period_ms,
            suspect_after_ms=self.limits.suspect_after_ms,
            dead_after_ms=self.limits.dead_after_ms,
        )
        out.send(node_id, gcs_pb2.NodeDown(registered=registered))
        alive = set(request.live_processes.worker_ids) if request.HasField("live_processes") else None
        self.groups.reconcile(node_id, request.bundles, out)
        self.actors.reconcile(node_id, request.running_actors, alive, out)
        self.jobs.node_registered(node_id, set(request.live_jobs), out)
        for job_id in request.live_jobs:
            if not self.jobs.is_running(job_id):
                ended = gcs_pb2.JobEnded(
                    job_id=job_id, reason="the job had finished, or the GCS never knew it"
                )
                out.send(node_id, gcs_pb2.NodeDown(job_ended=ended))

    def up(self, node_id: bytes, message: gcs_pb2.NodeUp, out: Effects) -> None:
        """Take in one message of a registered node, except those that the stream itself answers.

        Raises:
            RequestError: the message is malformed.
        """
        kind = message.WhichOneof("body")
        handler = UP_HANDLERS.get(kind or "")
        if handler is None:
            raise invalid(f"a node must not send {kind or 'an empty message'} here")
        handler(self, node_id, getattr(message, str(kind)), out)

    def disconnected(self, node_id: bytes, out: Effects) -> None:
        """The node's stream broke; its silence decides what that means."""
        self.nodes.disconnected(node_id, out)

    # ---- time ----

    def tick(self, out: Effects) -> None:
        """Do what has become due; call it at `next_wake_ms` or later."""
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._next_tick_ms:
            return
        self._next_tick_ms = now_ms + self.nodes.tick_period_ms
        for node_id in self.nodes.tick(out):
            self._node_died(node_id, out)
        for job_id in self.jobs.due():
            self.finish_job(job_id, "its driver did not come back after a restart", out)
        self.packages.tick(out)
        self.job_keys.tick(out)

    def settle(self, out: Effects) -> None:
        """Finish a step: place what can be placed now."""
        for group_id in list(self._ownerless):
            self._end_ownerless(group_id, out)
        complete = self.nodes.all_connected()
        self.groups.place(complete, out)
        self.actors.place(complete, out)

    def next_wake_ms(self) -> float:
        """Return when `tick` and `settle` are due if nothing happens, on the monotonic clock."""
        delayed_ms = self.actors.next_due_ms()
        return self._next_tick_ms if delayed_ms is None else min(delayed_ms, self._next_tick_ms)

    # ---- requests that concern several managers ----

    def finish_job(self, job_id: bytes, reason: str, out: Effects) -> None:
        """End a job with its actors and tell every raylet."""
        if not self.jobs.finish(job_id, reason, out):
            return
        self.actors.job_finished(job_id, out)
        self.packages.trim(out)
        self.job_keys.trim(out)
        for record in self.groups.table.of_job(job_id):
            if self._ends_with_its_owner(record):
                self._ownerless.add(record.group_id)
        for node in self.view:
            ended = gcs_pb2.JobEnded(job_id=job_id, reason=reason)
            out.send(node.node_id, gcs_pb2.NodeDown(job_ended=ended))

    def kv_put(self, request: gcs_pb2.KvPutRequest, out: Effects) -> gcs_pb2.KvPutReply:
        """Store a value; see `JobKeys.putting` and `KvManager.put`."""
        self.job_keys.putting(request, out)
        reply = self.kv.put(request, out)
        self.packages.stored(request.namespace, out)
        return reply

    def create_groups(
        self, request: gcs_pb2.CreatePlacementGroupsRequest, out: Effects
    ) -> gcs_pb2.CreatePlacementGroupsReply:
        """Create placement groups, after others were removed.

        Raises:
            RequestError: a spec is malformed; then none was created.
        """
        remove = functools.partial(self._remove_groups, tuple(request.remove_first), out)
        if self.group_requests.needs_room(request):
            remove()
        elif request.remove_first:
            out.later.append(remove)
        reply = self.group_requests.create(request, out)
        for spec in request.specs:
            record = self.groups.table.get(spec.placement_group_id)
            if record is not None and self._ends_with_its_owner(record):  # of an actor that outlives its job
                self._ownerless.add(record.group_id)
        return reply

    def remove_groups(
        self, request: gcs_pb2.RemovePlacementGroupsRequest, out: Effects
    ) -> gcs_pb2.RemovePlacementGroupsReply:
        """Remove placement groups and end their actors; raylets end what else uses them."""
        self._remove_groups(request.placement_group_ids, out)
        return gcs_pb2.RemovePlacementGroupsReply()

    def info(self) -> gcs_pb2.ClusterInfo:
        """Return what identifies this cluster and its GCS."""
        return gcs_pb2.ClusterInfo(
            cluster_id=self.cluster_id,
            term=self.term,
            version=version.VERSION,
            start_time_unix_ms=self.start_time_unix_ms,
            gcs=self.describe_process(),
            environments=self.packages.describe(),
            packages=len(self.packages),
            package_bytes=self.packages.package_bytes,
        )

    # ---- steps ----

    def _is_job_alive(self, job_id: bytes) -> bool:
        return self.jobs.is_running(job_id) or bool(self.actors.table.of_job(job_id))

    def _of_actors(self) -> set[str]:
        return {
            actor.spec.runtime_env_hash for actor in self.actors.table if actor.state != gcs_pb2.Actor.DEAD
        }

    def _node_died(self, node_id: bytes, out: Effects) -> None:
        record = self.nodes.get(node_id)
        why = record.proto.death_message if record is not None else "forgotten"
        for job_id in self.jobs.of_node(node_id):
            self.finish_job(job_id, f"the node of its driver died: {why}", out)
        self.groups.node_died(node_id, out)
        self.actors.node_died(node_id, why, out)

    def _remove_groups(self, group_ids: Iterable[bytes], out: Effects) -> None:
        for group_id in group_ids:
            self._remove_group(group_id, REMOVED_BY_USER, out)

    def _remove_group(self, group_id: bytes, why: str, out: Effects) -> None:
        record = self.groups.table.get(group_id)
        if record is not None and self.groups.remove(record, why, out):
            self._ownerless.discard(group_id)
            self.actors.group_removed(group_id, why, out)

    def _ends_with_its_owner(self, record: GroupRecord) -> bool:
        """Whether the job of a group that is not detached is over."""
        spec = record.spec
        return (
            not self.jobs.is_running(spec.job_id)
            and not spec.detached
            and self.groups.exists(record.group_id)
        )

    def _end_ownerless(self, group_id: bytes, out: Effects) -> None:
        """Remove a group whose job is over, unless the actor that created it lives on."""
        record = self.groups.table.get(group_id)
        if record is None:
            self._ownerless.discard(group_id)
        elif not self.actors.lives(record.spec.owner_actor_id):
            self._remove_group(group_id, f"its job {record.spec.job_id.hex()} finished", out)

    def _actor_in(self, worker_id: bytes) -> bytes:
        actor = self.actors.table.in_process(worker_id)
        return actor.actor_id if actor is not None else b""

    def _owner_problem(self, owner: common_pb2.ProcessAddress, job_id: bytes) -> str | None:
        if self.actors.is_process_dead(owner.worker_id) or self.nodes.is_dead(owner.node_id):
            return f"its owner, process {ids.short(owner.worker_id)}, is dead"
        if self.jobs.is_running(job_id) or self.actors.table.in_process(owner.worker_id) is not None:
            return None  # a detached actor goes on after its job, and may own others
        return f"job {job_id.hex()} is not running"

    def _heartbeat(self, node_id: bytes, heartbeat: gcs_pb2.NodeHeartbeat, out: Effects) -> None:
        self.nodes.heartbeat(node_id, heartbeat)
        self.groups.bundles.heartbeat(node_id)

    def _resources(self, node_id: bytes, update: gcs_pb2.ResourceUpdate, out: Effects) -> None:
        self.nodes.resources(node_id, update)
        for usage in update.bundles:
            check_resources(usage.available, "available resources of a bundle")
        self.groups.bundles.report(node_id, update.bundles)

    def _actor_report(self, node_id: bytes, report: gcs_pb2.ActorReport, out: Effects) -> None:
        if report.event == gcs_pb2.ActorReport.ALIVE:
            check_id(report.address.worker_id, ids.WORKER_ID_BYTES, "address.worker_id of an actor report")
        self.actors.report(node_id, report, out)

    def _bundle_answers(self, node_id: bytes, message: gcs_pb2.BundleAnswers, out: Effects) -> None:
        for answer in message.answers:
            self.groups.prepared(node_id, answer, out)

    def _task_events(self, node_id: bytes, batch: common_pb2.TaskEventBatch, out: Effects) -> None:
        self.task_events.add(batch)

    def _job_ended(self, node_id: bytes, ended: gcs_pb2.JobEnded, out: Effects) -> None:
        self.finish_job(ended.job_id, ended.reason or "its driver is gone", out)

    def _process_died(self, node_id: bytes, died: gcs_pb2.ProcessDied, out: Effects) -> None:
        check_id(died.worker_id, ids.WORKER_ID_BYTES, "worker_id of a dead process")
        why = causes.words(died.cause)
        job_id = self.jobs.of_driver(died.worker_id)
        if job_id is not None:
            self.finish_job(job_id, f"its driver died: {why}", out)
        self.actors.process_died(died.worker_id, why, out)

    def _leaving(self, node_id: bytes, leaving: gcs_pb2.NodeLeaving, out: Effects) -> None:
        self.nodes.leave(node_id, leaving.reason, out)
        self._node_died(node_id, out)


# Each handler takes the message that its key names; the table cannot express that.
UP_HANDLERS: dict[str, Callable[..., None]] = {
    "heartbeat": Cluster._heartbeat,
    "resources": Cluster._resources,
    "actor_report": Cluster._actor_report,
    "bundle_answers": Cluster._bundle_answers,
    "task_events": Cluster._task_events,
    "job_ended": Cluster._job_ended,
    "process_died": Cluster._process_died,
    "leaving": Cluster._leaving,
}
