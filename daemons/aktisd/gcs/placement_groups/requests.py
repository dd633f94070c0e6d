"""The requests about placement groups: checked, answered from the manager's table."""

from collections.abc import Callable

from aktis._common import ids
from aktis._proto import common_pb2, gcs_pb2

from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import invalid
from aktisd.gcs.limits import Limits
from aktisd.gcs.placement_groups.manager import PlacementGroupManager
from aktisd.gcs.placement_groups.policies import Wish
from aktisd.gcs.placement_groups.record import GroupRecord, wishes_of
from aktisd.gcs.validate import check_id, check_text, check_text_map

LIST_LIMIT = 10_000
Result = gcs_pb2.CreatePlacementGroupsReply.Result
Spec = gcs_pb2.PlacementGroupSpec


class GroupRequests:
    """Front of the placement group manager.

    Args:
        owner_problem: says why an owner with this address in this job cannot own anything, or ``None``.
        actor_in: returns the id of the actor that a process is, ``b""`` for others.
    """

    def __init__(
        self,
        groups: PlacementGroupManager,
        limits: Limits,
        owner_problem: Callable[[common_pb2.ProcessAddress, bytes], str | None],
        actor_in: Callable[[bytes], bytes],
    ) -> None:
        self._groups = groups
        self._limits = limits
        self._owner_problem = owner_problem
        self._actor_in = actor_in

    def create(
        self, request: gcs_pb2.CreatePlacementGroupsRequest, out: Effects
    ) -> gcs_pb2.CreatePlacementGroupsReply:
        """Enter all groups of the request; one that cannot be made has an error in its result.

        Raises:
            RequestError: a spec is malformed; then none was created.
        """
        if not request.specs or len(request.specs) > self._limits.groups_per_request:
            raise invalid(
                f"1 to {self._limits.groups_per_request} specs are allowed, got {len(request.specs)}"
            )
        checked = [(spec, self._check(spec)) for spec in request.specs]
        results = [self._create_one(spec, wishes, out) for spec, wishes in checked]
        return gcs_pb2.CreatePlacementGroupsReply(results=results)

    def needs_room(self, request: gcs_pb2.CreatePlacementGroupsRequest) -> bool:
        """Say whether it makes a difference for the new groups that others were removed first."""
        living = self._groups.table.living + len(request.specs)
        return living > self._limits.placement_groups or any(spec.name for spec in request.specs)

    def get(self, request: gcs_pb2.GetPlacementGroupRequest) -> gcs_pb2.GetPlacementGroupReply:
        """Look a group up by id, or by the name that it has now."""
        table = self._groups.table
        record = (
            table.get(request.placement_group_id)
            if request.placement_group_id
            else table.named(request.namespace, request.name)
        )
        if record is None:
            return gcs_pb2.GetPlacementGroupReply(found=False)
        return gcs_pb2.GetPlacementGroupReply(found=True, group=self._described(record))

    def list(self, request: gcs_pb2.ListPlacementGroupsRequest) -> gcs_pb2.ListPlacementGroupsReply:
        """Return groups, the removed ones that are remembered too."""
        limit = min(request.limit or LIST_LIMIT, LIST_LIMIT)
        records = list(self._groups.table)[-limit:]
        return gcs_pb2.ListPlacementGroupsReply(groups=[self._described(record) for record in records])

    def _create_one(self, spec: Spec, wishes: tuple[Wish, ...], out: Effects) -> Result:
        table = self._groups.table
        if table.get(spec.placement_group_id) is not None:  # the same request again, after a lost answer
            return Result()
        if spec.name and (taken := table.named(spec.namespace, spec.name)) is not None:
            return Result(
                error=f"the name {spec.name!r} is taken in namespace {spec.namespace!r} by placement group "
                f"{taken.group_id.hex()}: choose another, or use get_placement_group()"
            )
        if table.living >= self._limits.placement_groups:
            return Result(error=f"the cluster has {table.living} placement groups, which is its limit")
        problem = self._owner_problem(spec.owner, spec.job_id)
        if problem is not None:
            return Result(error=f"the placement group was not created: {problem}")
        spec.owner_actor_id = self._actor_in(spec.owner.worker_id)
        self._groups.add(spec, wishes, out)
        return Result()

    def _described(self, record: GroupRecord) -> gcs_pb2.PlacementGroup:
        group = record.to_proto()
        group.pending_reason, group.infeasible = self._groups.pending_reason(record)
        return group

    def _check(self, spec: Spec) -> tuple[Wish, ...]:
        """Return what the bundles ask for."""
        check_id(spec.placement_group_id, ids.PLACEMENT_GROUP_ID_BYTES, "placement_group_id")
        check_id(spec.job_id, ids.JOB_ID_BYTES, "job_id")
        check_id(spec.owner.worker_id, ids.WORKER_ID_BYTES, "owner.worker_id")
        check_text(spec.name, self._limits.name_characters, "name")
        check_text(spec.namespace, self._limits.name_characters, "namespace")
        if spec.strategy not in (Spec.PACK, Spec.SPREAD, Spec.STRICT_PACK, Spec.STRICT_SPREAD):
            raise invalid(f"there is no placement strategy {spec.strategy}")
        if not spec.bundles or len(spec.bundles) > self._limits.bundles_per_group:
            raise invalid(
                f"1 to {self._limits.bundles_per_group} bundles are allowed, got {len(spec.bundles)}"
            )
        try:
            wishes = wishes_of(spec)
        except (ValueError, TypeError) as error:
            raise invalid(f"a bundle is not valid: {error}") from None
        for index, wish in enumerate(wishes):
            if not wish.resources:
                raise invalid(f"bundle {index} asks for nothing")
            if wish.labels:
                check_text_map(dict(wish.labels), self._limits.metadata_bytes, f"label_selector of {index}")
        return wishes
