"""The life of every placement group: created, placed, lost in part, removed.

Pure state machine, driven by the event loop's thread only. Two rules carry the rest:

* Two phases. The nodes that were chosen *prepare* their bundles; when all have, CREATED is stored with the
  place of every bundle, and only then they are told to *commit*. So what is stored is what is reserved, and
  a raylet that registers needs only be compared with it.
* Every try has an *attempt* number, which groups that are placed together share and which is never used again
  (it begins with the term of this GCS). An answer counts only if it names the present attempt; a reservation
  of another one is returned.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from aktis._common import ids
from aktis._common.resources import ResourceSet
from aktis._proto import gcs_pb2

from aktisd.gcs.clock import Clock
from aktisd.gcs.effects import ERRORS_CHANNEL, Effects
from aktisd.gcs.limits import Limits
from aktisd.gcs.placement_groups import policies
from aktisd.gcs.placement_groups.bundle_views import BundleViews
from aktisd.gcs.placement_groups.policies import Assignment, Room, Wish
from aktisd.gcs.placement_groups.record import STATE_NAMES, WAITING, Group, GroupRecord, StateValue
from aktisd.gcs.placement_groups.table import GroupTable
from aktisd.gcs.resource_view import NodeResources, ResourceView
from aktisd.gcs.storage.interface import Table

ATTEMPT_SHIFT = 32
STORY_ENTRIES = 10_000


class StoryEntry(NamedTuple):
    """One change of one group."""

    time_unix_ms: int
    group_id: bytes
    old: str
    new: str
    why: str


@dataclass(slots=True)
class _Queue:
    """Groups of one shape that wait, in order of arrival: if the first does not fit, nor do the others."""

    groups: OrderedDict[bytes, GroupRecord] = field(default_factory=OrderedDict)
    tried_version: int = 0
    warned_jobs: set[bytes] = field(default_factory=set)


class PlacementGroupManager:
    """See the module."""

    def __init__(self, clock: Clock, limits: Limits, view: ResourceView, term: int) -> None:
        self._clock = clock
        self._limits = limits
        self._view = view
        self._last_attempt = term << ATTEMPT_SHIFT
        self._queues: dict[tuple[object, ...], _Queue] = {}
        self._story: deque[StoryEntry] = deque(maxlen=STORY_ENTRIES)
        self.table = GroupTable()
        self.bundles = BundleViews(self._bundles_of)
        self.transitions: Counter[tuple[str, str]] = Counter()

    def load(self, rows: dict[bytes, bytes]) -> None:
        """Take over what an earlier process stored; those that waited wait again."""
        records = [GroupRecord.from_stored(row) for row in rows.values()]
        for record in sorted(records, key=lambda r: (r.end_time_unix_ms, r.start_time_unix_ms)):
            self.table.add(record)
            if record.state in WAITING:
                self._enqueue(record)

    # ---- requests ----

    def add(self, spec: gcs_pb2.PlacementGroupSpec, wishes: tuple[Wish, ...], out: Effects) -> GroupRecord:
        """Enter a new group whose spec is valid and whose name is free; `place` does the rest.

        Args:
            wishes: what the bundles of the spec ask for.
        """
        record = GroupRecord.from_spec(spec, wishes, self._clock.unix_ms())
        self.table.add(record)
        self._enqueue(record)
        self._tell(record, "NONE", "created", out, publish=False)
        return record

    def remove(self, record: GroupRecord, why: str, out: Effects) -> bool:
        """End a group; return whether it was there. Its actors are the caller's affair."""
        if record.state == Group.REMOVED:
            return False
        self._dequeue(record)
        self._settle(record, held=True)  # the raylet reports at once what becomes free
        for node_id in record.nodes():
            self._return(record.group_id, node_id, 0, why, out)
        record.removal_reason, record.end_time_unix_ms = why, self._clock.unix_ms()
        self.bundles.close(record.group_id)
        self._change(record, Group.REMOVED, why, out)
        while self.table.removed > self._limits.removed_groups:
            oldest = self.table.oldest_removed()
            self.table.forget(oldest)
            out.write(Table.PLACEMENT_GROUPS, oldest, None)
        return True

    # ---- events ----

    def prepared(self, node_id: bytes, answer: gcs_pb2.BundlesPrepared, out: Effects) -> None:
        """A raylet has set resources aside for groups, or could not."""
        attempt, refused = answer.attempt, answer.refused
        for group_id in answer.placement_group_ids:
            record = self.table.get(group_id)
            if record is None or record.attempt != attempt or node_id not in record.awaited:
                if not refused and not self._is_current(record, node_id, attempt):
                    self._return(group_id, node_id, attempt, "it is out of date", out)
            elif refused:
                record.refusal = f"node {ids.short(node_id)} refused: {answer.reason}"
                self._view.refuse(node_id)
                self._give_up(record, record.refusal, out, except_node=node_id)
            else:
                record.awaited.discard(node_id)
                if not record.awaited:
                    self._created(record, out)

    def reconcile(self, node_id: bytes, reports: Iterable[gcs_pb2.BundleReport], out: Effects) -> None:
        """Compare with the truth of a raylet that registers: nobody notices what is as it was."""
        for record in self.table.on_node(node_id):
            if record.state == Group.PREPARING and self._is_prepared_on(record, node_id):
                self._give_up(record, "a node registered again meanwhile", out)
        missing = {
            (record.group_id, index)
            for record in self.table.on_node(node_id)
            for index, place in enumerate(record.places)
            if place.node_id == node_id
        }
        for report in reports:
            known = self.table.get(report.placement_group_id)
            if known is None or not self._is_place(known, report.index, node_id, report.attempt):
                self._return(
                    report.placement_group_id, node_id, report.attempt, "the cluster does not have it", out
                )
                continue
            missing.discard((report.placement_group_id, report.index))
            self._show(known, report.index)
            if not report.committed:
                self._commit(known, node_id, report.attempt, out)
        self._lose(missing, f"node {ids.short(node_id)} came back without it", out)

    def node_died(self, node_id: bytes, out: Effects) -> None:
        """Bundles of the node wait for another."""
        for record in self.table.on_node(node_id):
            if record.state == Group.PREPARING and self._is_prepared_on(record, node_id):
                self._give_up(record, f"node {ids.short(node_id)} died", out)
        lost = {
            (record.group_id, index)
            for record in self.table.on_node(node_id)
            for index, place in enumerate(record.places)
            if place.node_id == node_id
        }
        self._lose(lost, f"node {ids.short(node_id)} died", out)

    def place(self, view_is_complete: bool, out: Effects) -> None:
        """Place every waiting group that fits now. Cheap when nothing has changed since the last call."""
        for queue in list(self._queues.values()):
            if queue.tried_version != self._view.version:
                self._place_queue(queue, view_is_complete, out)

    # ---- questions ----

    def exists(self, group_id: bytes) -> bool:
        """Say whether there is such a group that is not removed."""
        record = self.table.get(group_id)
        return record is not None and record.state != Group.REMOVED

    def pending(self) -> int:
        """Return how many groups wait for nodes."""
        return sum(len(queue.groups) for queue in self._queues.values())

    def pending_reason(self, record: GroupRecord) -> tuple[str, bool]:
        """Say why a group waits, and whether it would on an idle cluster; ("", False) for the others."""
        if record.state not in WAITING:
            return "", False
        wishes, rooms, kept = record.missing(), self.rooms(), record.kept()
        infeasible = not policies.is_feasible(record.spec.strategy, wishes, rooms, kept)
        reason = policies.explain(record.spec.strategy, wishes, rooms, kept)
        return (f"{record.refusal}; {reason}" if record.refusal else reason), infeasible

    def why_no_bundle(self, group_id: bytes) -> str:
        """Say in what state the group is in which an actor finds no bundle."""
        record = self.table.get(group_id)
        if record is None or record.state == Group.REMOVED:
            return f"placement group {group_id.hex()} does not exist"
        reason, _ = self.pending_reason(record)
        state = STATE_NAMES[record.state]
        return f"its placement group {ids.short(group_id)} is {state}" + (f": {reason}" if reason else "")

    def story(self, group_id: bytes) -> list[StoryEntry]:
        """Return the latest changes of a group, as far as they are remembered."""
        return [entry for entry in self._story if entry.group_id == group_id]

    def validate(self) -> None:
        """Check the invariants; for tests."""
        self.table.validate()
        waiting = {group_id for queue in self._queues.values() for group_id in queue.groups}
        assert waiting == {record.group_id for record in self.table if record.state in WAITING}
        for record in self.table:
            assert bool(record.awaited) == bool(record.promises) == (record.state == Group.PREPARING)
            if record.state == Group.CREATED:
                assert not record.missing()

    # ---- placing ----

    def _place_queue(self, queue: _Queue, view_is_complete: bool, out: Effects) -> None:
        rooms = self.rooms()  # used up by what is assigned, as the view is by what is promised
        self._last_attempt += 1
        while queue.groups:
            record = next(iter(queue.groups.values()))
            wishes, kept = record.missing(), record.kept()
            assignment = policies.assign(record.spec.strategy, wishes, rooms, kept)
            if assignment is None:
                queue.tried_version = self._view.version
                self._wait(queue, record, view_is_complete, out)
                return
            self._prepare(record, assignment, out)

    def _prepare(self, record: GroupRecord, assignment: Assignment, out: Effects) -> None:
        self._dequeue(record)
        record.attempt = self._last_attempt
        record.attempts += 1
        record.awaited = set(assignment.values())
        # What only sets aside need not wait for the storage, as long as no node has had anything of the
        # group: an order that waits could be about the same bundles.
        early, record.untried = record.untried, False
        indexes: dict[bytes, list[int]] = {}
        for index, node_id in assignment.items():
            self.table.place(record, index, node_id, record.attempt)
            indexes.setdefault(node_id, []).append(index)
        for node_id, here in indexes.items():
            wishes = [(index, record.wishes[index].resources) for index in here]
            order = out.order(node_id, record.group_id, ("prepare", record.attempt, wishes), early=early)
            if order is not None:
                order.attempt = record.attempt
                for index in here:
                    order.prepare.bundles.add(index=index, resources=record.wishes[index].encoded)
            self._promise(record, node_id, policies.total(resources for _, resources in wishes))
        self._change(record, Group.PREPARING, f"on {len(indexes)} nodes", out, store=False)

    def _created(self, record: GroupRecord, out: Effects) -> None:
        self._settle(record, held=True)
        attempt, record.attempt, record.refusal = record.attempt, 0, ""
        for index, place in enumerate(record.places):
            if place.attempt == attempt:
                self._show(record, index)
        record.created_time_unix_ms = self._clock.unix_ms()
        self._change(record, Group.CREATED, "every node is prepared", out)
        for node_id in {place.node_id for place in record.places if place.attempt == attempt}:
            self._commit(record, node_id, attempt, out)

    def _give_up(self, record: GroupRecord, why: str, out: Effects, except_node: bytes = b"") -> None:
        """End an attempt; the group waits again."""
        attempt, record.attempt = record.attempt, 0
        self._settle(record, held=False)
        record.awaited.clear()
        for node_id in {place.node_id for place in record.places if place.attempt == attempt} - {except_node}:
            self._return(record.group_id, node_id, attempt, why, out)
        for index, place in enumerate(record.places):
            if place.attempt == attempt:
                self.table.place(record, index)
        self._change(record, record.waiting_state, why, out, store=False)
        self._enqueue(record)

    def _lose(self, lost: Iterable[tuple[bytes, int]], why: str, out: Effects) -> None:
        """Bundles that were there are not any more."""
        for group_id, index in sorted(lost):
            record = self.table.get(group_id)
            assert record is not None, "the table says where every bundle is"
            if record.state == Group.PREPARING:  # other bundles of it, for ones lost before
                self._give_up(record, why, out)
            self._dequeue(record)
            self.table.place(record, index)
            self.bundles.remove(group_id, index)
            if record.state == Group.CREATED:
                self._change(record, Group.RESCHEDULING, f"bundle {index}: {why}", out)
            else:
                self._store(record, out)
            self._enqueue(record)

    def _wait(self, queue: _Queue, record: GroupRecord, view_is_complete: bool, out: Effects) -> None:
        reason, infeasible = self.pending_reason(record)
        if not infeasible:
            for node_id in self._view.ask_for_room():
                out.send(node_id, gcs_pb2.NodeDown(room_wanted=gcs_pb2.RoomWanted()))
        elif view_is_complete and len(self._view) and record.spec.job_id not in queue.warned_jobs:
            queue.warned_jobs.add(record.spec.job_id)
            self._warn(record, reason, out)

    def _warn(self, record: GroupRecord, reason: str, out: Effects) -> None:
        job_id, name = record.spec.job_id, record.spec.name
        message = (
            f"placement group {name or ids.short(record.group_id)} fits on no set of nodes: {reason}. "
            "It waits until such nodes join; ask for less, or remove it"
        )
        event = gcs_pb2.ErrorEvent(
            job_id=job_id,
            kind="infeasible_placement_group",
            message=message,
            time_unix_ms=self._clock.unix_ms(),
        )
        out.publish(gcs_pb2.Publication(channel=ERRORS_CHANNEL, key=job_id, error=event))
        out.warn("placement_group_infeasible", group=ids.short(record.group_id), message=message)

    def rooms(self) -> list[Room]:
        """Return what the nodes have left."""
        return [
            Room(
                node.node_id,
                f"node {ids.short(node.node_id)} ({node.hostname})",
                node.total,
                node.free(),
                node.labels,
            )
            for node in self._view
        ]

    # ---- parts ----

    def _promise(self, record: GroupRecord, node_id: bytes, demand: ResourceSet) -> None:
        node = self._view.get(node_id)
        assert node is not None, "it was chosen from the view"
        self._view.reserve(node, demand)
        record.promises.append((node, demand))

    def _settle(self, record: GroupRecord, *, held: bool) -> None:
        for node, demand in record.promises:
            self._view.reserved(node, demand, held=held)
        record.promises.clear()
        record.awaited.clear()

    def _show(self, record: GroupRecord, index: int) -> None:
        """Let actors see a bundle."""
        if self.bundles.is_watched(record.group_id):
            self.bundles.add(record.group_id, self._bundle(record, index))

    def _bundle(self, record: GroupRecord, index: int) -> NodeResources:
        node_id, total = record.places[index].node_id, record.wishes[index].resources
        node = self._view.get(node_id)
        hostname, labels = (node.hostname, node.labels) if node is not None else ("", {})
        return NodeResources(node_id, hostname, total, total, labels, bundle=index)

    def _bundles_of(self, group_id: bytes) -> list[NodeResources] | None:
        """Return what of a group is reserved, not what is being prepared; ``None`` when it is not there."""
        record = self.table.get(group_id)
        if record is None or record.state == Group.REMOVED:
            return None
        attempt = record.attempt or -1
        indexes = (i for i, place in enumerate(record.places) if place.node_id and place.attempt != attempt)
        return [self._bundle(record, index) for index in indexes]

    def _is_current(self, record: GroupRecord | None, node_id: bytes, attempt: int) -> bool:
        """Whether the answer is about bundles that the group has, or is getting, on the node."""
        return record is not None and any(
            place.node_id == node_id and place.attempt == attempt for place in record.places
        )

    def _is_place(self, record: GroupRecord, index: int, node_id: bytes, attempt: int) -> bool:
        if record.state == Group.REMOVED or index >= len(record.places):
            return False
        place = record.places[index]
        return place.node_id == node_id and place.attempt == attempt

    def _is_prepared_on(self, record: GroupRecord, node_id: bytes) -> bool:
        return any(p.node_id == node_id and p.attempt == record.attempt for p in record.places)

    def _commit(self, record: GroupRecord, node_id: bytes, attempt: int, out: Effects) -> None:
        order = out.order(node_id, record.group_id, ("commit", attempt))
        if order is not None:
            order.attempt = attempt
            order.commit.SetInParent()

    def _return(self, group_id: bytes, node_id: bytes, attempt: int, why: str, out: Effects) -> None:
        order = out.order(node_id, group_id, ("give_back", attempt, why))
        if order is not None:
            order.attempt = attempt
            order.give_back.reason = why

    def _enqueue(self, record: GroupRecord) -> None:
        record.queued_as = record.shape
        queue = self._queues.get(record.queued_as)
        if queue is None:
            queue = self._queues[record.queued_as] = _Queue()
        queue.groups[record.group_id] = record

    def _dequeue(self, record: GroupRecord) -> None:
        """Take a group out of its queue, if it waits."""
        shape, record.queued_as = record.queued_as, None
        if shape is not None:
            queue = self._queues[shape]
            del queue.groups[record.group_id]
            if not queue.groups:
                del self._queues[shape]

    def _change(
        self, record: GroupRecord, state: StateValue, why: str, out: Effects, *, store: bool = True
    ) -> None:
        old = STATE_NAMES[record.state]
        self.table.change(record, state)
        self._tell(record, old, why, out, store=store, publish=store)

    def _tell(
        self,
        record: GroupRecord,
        old: str,
        why: str,
        out: Effects,
        *,
        store: bool = True,
        publish: bool = True,
    ) -> None:
        new = STATE_NAMES[record.state]
        self.transitions[old, new] += 1
        self._story.append(StoryEntry(self._clock.unix_ms(), record.group_id, old, new, why))
        if out.details:
            out.detail("placement_group_state", group=ids.short(record.group_id), old=old, new=new, why=why)
        if store:
            self._store(record, out)
        if publish:
            out.group_news(record.group_id, record.state, record.removal_reason)

    def _store(self, record: GroupRecord, out: Effects) -> None:
        # Nothing changes any more in one that is removed, and now there is time.
        row = record.to_row() if record.state == Group.REMOVED else record.to_row
        out.write(Table.PLACEMENT_GROUPS, record.group_id, row)
