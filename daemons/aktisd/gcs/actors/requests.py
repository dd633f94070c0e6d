"""The requests about actors: checked, answered from the manager's table."""

from collections.abc import Callable

from aktis._common import ids
from aktis._common.environments import is_hash
from aktis._proto import common_pb2, gcs_pb2

from aktisd.gcs.actors.manager import ActorManager
from aktisd.gcs.actors.record import UNLIMITED, Actor, ActorRecord
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status, invalid
from aktisd.gcs.limits import Limits
from aktisd.gcs.validate import check_id, check_resources, check_text, check_text_map

LIST_LIMIT = 10_000
Result = gcs_pb2.CreateActorsReply.Result


class ActorRequests:
    """Front of the actor manager.

    Args:
        owner_problem: says why an owner with this address in this job cannot own anything, or ``None``.
    """

    def __init__(
        self,
        actors: ActorManager,
        limits: Limits,
        owner_problem: Callable[[common_pb2.ProcessAddress, bytes], str | None],
    ) -> None:
        self._actors = actors
        self._limits = limits
        self._owner_problem = owner_problem

    def create(self, request: gcs_pb2.CreateActorsRequest, out: Effects) -> gcs_pb2.CreateActorsReply:
        """Enter all actors of the request; one that cannot be made has an error in its result.

        Raises:
            RequestError: a spec is malformed; then none was created.
        """
        if not request.specs or len(request.specs) > self._limits.actors_per_request:
            raise invalid(
                f"1 to {self._limits.actors_per_request} specs are allowed, got {len(request.specs)}"
            )
        if request.get_if_exists and (len(request.specs) != 1 or not request.specs[0].name):
            raise invalid("get_if_exists takes exactly one spec, with a name")
        for spec in request.specs:
            self._check(spec)
        results = [self._create_one(spec, request.get_if_exists, out) for spec in request.specs]
        return gcs_pb2.CreateActorsReply(results=results)

    def get(self, request: gcs_pb2.GetActorRequest) -> gcs_pb2.GetActorReply:
        """Look an actor up by id, or by the name that it has now."""
        table = self._actors.table
        record = (
            table.get(request.actor_id) if request.actor_id else table.named(request.namespace, request.name)
        )
        if record is None:
            return gcs_pb2.GetActorReply(found=False)
        return gcs_pb2.GetActorReply(found=True, actor=self._described(record, with_handle=True))

    def list(self, request: gcs_pb2.ListActorsRequest) -> gcs_pb2.ListActorsReply:
        """Return actors without their opaque parts."""
        limit = min(request.limit or LIST_LIMIT, LIST_LIMIT)
        reply = gcs_pb2.ListActorsReply()
        for record in self._actors.table:
            if record.state == Actor.DEAD and not request.include_dead:
                continue
            if request.job_id and record.spec.job_id != request.job_id:
                continue
            if request.namespace and record.spec.namespace != request.namespace:
                continue
            if len(reply.actors) == limit:
                break
            reply.actors.append(self._described(record))
        return reply

    def kill(self, request: gcs_pb2.KillActorRequest, out: Effects) -> gcs_pb2.KillActorReply:
        """End an actor or only its process."""
        check_id(request.actor_id, ids.ACTOR_ID_BYTES, "actor_id")
        return gcs_pb2.KillActorReply(found=self._actors.kill(request, out))

    def _create_one(self, spec: gcs_pb2.ActorSpec, get_if_exists: bool, out: Effects) -> Result:
        table = self._actors.table
        known = table.get(spec.actor_id)
        if known is not None:  # its arguments, or the same request again, after a lost answer
            if known.spec.awaits_arguments and not spec.awaits_arguments:
                self._actors.supply_arguments(known, spec.creation_task, out)
            return Result(actor=self._described(known))
        if spec.name:
            taken = table.named(spec.namespace, spec.name)
            if taken is not None and get_if_exists:
                return Result(actor=self._described(taken, with_handle=True), existed=True)
            if taken is not None:
                return Result(
                    error=f"the name {spec.name!r} is taken in namespace {spec.namespace!r} by actor "
                    f"{taken.spec.class_name} ({ids.short(taken.actor_id)}): choose another, "
                    "or use get_if_exists or get_actor"
                )
        if table.living >= self._limits.actors:
            return Result(error=f"the cluster already has {table.living} actors, which is its limit")
        problem = self._owner_problem(spec.owner, spec.job_id)
        if problem is not None:
            return Result(error=f"actor {spec.class_name} was not created: {problem}")
        return Result(actor=self._described(self._actors.add(spec, out)))

    def _described(self, record: ActorRecord, *, with_handle: bool = False) -> gcs_pb2.Actor:
        actor = record.to_proto()
        actor.pending_reason = self._actors.pending_reason(record)
        if with_handle:
            actor.spec.handle = record.handle
        return actor

    def _check(self, spec: gcs_pb2.ActorSpec) -> None:
        check_id(spec.actor_id, ids.ACTOR_ID_BYTES, "actor_id")
        check_id(spec.job_id, ids.JOB_ID_BYTES, "job_id")
        check_id(spec.owner.worker_id, ids.WORKER_ID_BYTES, "owner.worker_id")
        check_text(spec.name, self._limits.name_characters, "name")
        check_text(spec.namespace, self._limits.name_characters, "namespace")
        check_text(spec.class_name, self._limits.name_characters, "class_name")
        check_text_map(spec.label_selector, self._limits.metadata_bytes, "label_selector")
        if spec.runtime_env_hash and not is_hash(spec.runtime_env_hash):
            raise invalid(f"{spec.runtime_env_hash[:80]!r} is not the hash of a runtime environment")
        check_resources(spec.resources, "resources")
        check_resources(spec.placement_resources, "placement_resources")
        if spec.max_restarts < UNLIMITED:
            raise invalid(f"max_restarts must be -1 (without limit) or more, got {spec.max_restarts}")
        opaque_bytes = len(spec.creation_task) + len(spec.handle)
        if opaque_bytes > self._limits.actor_opaque_bytes:
            raise RequestError(
                Status.RESOURCE_EXHAUSTED,
                f"the constructor's arguments of actor {spec.class_name} take {opaque_bytes} bytes, "
                f"the limit is {self._limits.actor_opaque_bytes}: put large ones into the object store first",
            )
