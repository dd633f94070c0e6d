"""The placement groups that this process has created or uses: the shell around their state.

Creating and removing go to the GCS in batches, in the order in which they were asked for, and nobody waits
for the answers but who must; the state comes back as publications. Whoever waits for a group waits for an
object of this process, which a publication completes.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from aktis._core import Core, ObjectRef
from aktis._proto import gcs_pb2, raylet_pb2
from aktis._runtime.control import (
    ATTEMPTS,
    STATUS_DEADLINE_EXCEEDED,
    UNANSWERED,
    Control,
    ControlError,
    OnAnswer,
)
from aktis._runtime.current import EVENT_GROUP_ORDERS
from aktis._runtime.errands import Errands
from aktis._runtime.errors import encode_error
from aktis.exceptions import LocalRayletDiedError, TaskPlacementGroupRemoved
from aktis.util.placement_group import PlacementGroup, placement_group_of

CHANNEL: Final = "placement_groups"
MAX_PER_REQUEST: Final = 256
TIMEOUT_S: Final = 60.0
MAX_REMOVED: Final = 10_000
"""Removed groups that are remembered, so that nobody needs to ask about them."""

Spec = gcs_pb2.PlacementGroupSpec
Group = gcs_pb2.PlacementGroup
Change = gcs_pb2.PlacementGroupNews.Change
Order = TypeVar("Order", Spec, bytes)


@dataclass(slots=True)
class _Entry:
    """A group that is not removed, as far as is known."""

    confirmed: bool = False
    """The GCS knows of it."""
    created: bool = False
    named: bool = False
    """Or may be: groups of others."""
    ready: ObjectRef[Any] | None = None
    """Completed with the handle when the group is created."""
    signal: ObjectRef[Any] | None = None
    """The same for those who wait and need no value."""
    classes: set[int] = field(default_factory=set)
    """Scheduling classes of this process that draw from it."""

    def waited_for(self) -> list[ObjectRef[Any]]:
        """Return the objects that are to be completed with the group."""
        return [] if self.created else [ref for ref in (self.ready, self.signal) if ref is not None]


class GroupDirectory:
    """See the module. Any thread.

    Args:
        end_class: fails the tasks of a scheduling class that do not run, and whatever is submitted to it.
        complain: tells the user what nobody else will hear of.
        collects: whether orders wait a moment for others. Those of a task must not: whoever has its result
            may look at what it did.
    """

    def __init__(
        self,
        core: Core,
        control: Control,
        errands: Errands,
        end_class: Callable[[int, bytes], None],
        complain: Callable[[str], object],
        *,
        collects: bool,
    ) -> None:
        """Serve one session."""
        self._collects = collects
        self._core = core
        self._control = control
        self._errands = errands
        self._end_class = end_class
        self._complain = complain
        self._lock = threading.RLock()
        self._answered = threading.Condition(self._lock)
        self._subscribed = False
        self._entries: dict[bytes, _Entry] = {}
        self._removed: OrderedDict[bytes, str] = OrderedDict()  # and what happened to it
        self._lost_classes: OrderedDict[int, bytes] = OrderedDict()
        self._failures: dict[bytes, str] = {}  # named ones that were refused, for who waits
        self._orders: deque[Spec | bytes] = deque()  # to create, or the id of one to remove
        self._unanswered = 0
        self._raylet_error: LocalRayletDiedError | None = None

    # ---- creating and removing ----

    def create(self, spec: Spec) -> None:
        """Create a group. One with a name waits for the GCS, because the name may be taken.

        Raises:
            ValueError: the name is taken.
            ControlError: the GCS does not answer.
            LocalRayletDiedError: nobody can ask the GCS.
        """
        group_id = spec.placement_group_id
        with self._lock:
            self._check_raylet()
            self._entries[group_id] = _Entry(named=bool(spec.name))
            self._subscribe()
            self._order(spec)
        if spec.name:
            answered = self.confirm(group_id)
            with self._lock:
                failure = self._failures.pop(group_id, None)
            if failure is not None:
                raise ValueError(failure)
            if not answered:
                self.remove(group_id)
                raise ControlError(
                    f"the GCS did not say within {TIMEOUT_S:g} s whether the name {spec.name!r} is free: the "
                    "placement group is given up; see `aktis status`",
                    STATUS_DEADLINE_EXCEEDED,
                )

    def remove(self, group_id: bytes) -> None:
        """Remove a group, after what was ordered before. Whoever uses it here from now on fails at once.

        Raises:
            LocalRayletDiedError: nobody can ask the GCS.
        """
        with self._lock:
            self._check_raylet()
            named = self._entries.setdefault(group_id, _Entry(confirmed=True, named=True)).named
            self._order(group_id)
            self._gone(group_id, "was removed")
            self._answered.notify_all()
        if named:  # the name is free from now on, for other processes too
            self.flush()

    def confirm(self, group_id: bytes) -> bool:
        """Wait until the GCS has answered the creation of a group, if this process has asked for it.

        Returns:
            Whether it has.
        """
        self.flush()
        with self._answered:
            return self._answered.wait_for(lambda: self._is_answered(group_id), TIMEOUT_S)

    def _is_answered(self, group_id: bytes) -> bool:
        entry = self._entries.get(group_id)
        return entry is None or entry.confirmed

    def finish(self, timeout_s: float) -> None:
        """Wait until what was ordered is answered: it is to be done when this process has ended."""
        self.flush()
        with self._answered:
            self._answered.wait_for(lambda: not self._unanswered, timeout_s)

    def raylet_lost(self, error: LocalRayletDiedError) -> None:
        """Nothing will be answered any more: whoever waits fails."""
        with self._answered:
            self._raylet_error, self._unanswered = error, 0
            self._orders.clear()
            for entry in self._entries.values():
                entry.confirmed = True
                for waited_for in entry.waited_for():
                    self._core.fail_object(waited_for.binary(), encode_error(error))
            self._answered.notify_all()

    def _check_raylet(self) -> None:
        if self._raylet_error is not None:
            raise self._raylet_error

    def _order(self, order: Spec | bytes) -> None:
        """Send with what follows: when somebody waits, else from the service thread in a moment."""
        self._orders.append(order)
        if not self._collects or len(self._orders) >= MAX_PER_REQUEST:
            self.flush()
        elif len(self._orders) == 1:
            self._core.post_event((EVENT_GROUP_ORDERS,))

    def flush(self) -> None:
        """Send the orders: what is removed and then created in one request. Does not wait."""
        if not self._orders:
            return
        with self._lock:
            while self._orders:
                removed = self._take_orders(bytes)
                created = self._take_orders(Spec)
                if created:
                    self._send_creations(created, removed)
                else:
                    self._send_removals(removed)

    def _take_orders(self, kind: type[Order]) -> list[Order]:
        """Take those of a kind with which the orders begin."""
        taken: list[Order] = []
        while self._orders and isinstance(self._orders[0], kind):
            taken.append(cast(Order, self._orders.popleft()))
        return taken

    def _send_removals(self, group_ids: list[bytes], attempts: int = ATTEMPTS) -> None:
        def answered(result: raylet_pb2.GcsResult) -> None:
            if result.status in UNANSWERED and attempts > 1:
                self._send_removals(group_ids, attempts - 1)
            elif result.status:
                self._complain(
                    f"placement groups {', '.join(map(bytes.hex, group_ids))} could not be removed, they go "
                    f"with the job: {result.error}"
                )

        request = gcs_pb2.RemovePlacementGroupsRequest(placement_group_ids=group_ids)
        self._send("RemovePlacementGroups", request, answered)

    def _send_creations(self, specs: list[Spec], remove_first: list[bytes], attempts: int = ATTEMPTS) -> None:
        def answered(result: raylet_pb2.GcsResult) -> None:
            if result.status in UNANSWERED and attempts > 1:
                # The removal of one of them may have been sent meanwhile: it must not come after that.
                wanted = [spec for spec in specs if spec.placement_group_id not in self._removed]
                self._send_creations(wanted, remove_first, attempts - 1)
                return
            reply = gcs_pb2.CreatePlacementGroupsReply.FromString(result.payload)
            problems = [one.error for one in reply.results] or [result.error] * len(specs)
            self._creations_answered(specs, problems)

        request = gcs_pb2.CreatePlacementGroupsRequest(specs=specs, remove_first=remove_first)
        self._send("CreatePlacementGroups", request, answered)

    def _creations_answered(self, specs: list[Spec], problems: list[str]) -> None:
        with self._answered:
            for spec, problem in zip(specs, problems, strict=True):
                entry = self._entries.get(spec.placement_group_id)
                if entry is not None:
                    entry.confirmed = True
                if problem:
                    if spec.name:
                        self._failures[spec.placement_group_id] = problem
                    self._gone(spec.placement_group_id, f"could not be created: {problem}")
            self._answered.notify_all()

    def _send(self, method: str, request: Any, on_answer: OnAnswer) -> None:
        """Call the GCS; ids make it idempotent, so that ``on_answer`` may send it again."""

        def answered(result: raylet_pb2.GcsResult) -> None:
            with self._answered:
                on_answer(result)
                self._unanswered = max(0, self._unanswered - 1)
                self._answered.notify_all()

        self._unanswered += 1
        self._control.send_gcs(method, request, answered, TIMEOUT_S)

    # ---- waiting ----

    def ready(self, group_id: bytes) -> ObjectRef[PlacementGroup]:
        """Return the object that is ready when the group is."""
        self.flush()
        with self._lock:
            self._check_raylet()
            entry = self._track(group_id)
            if entry is not None and entry.ready is not None:
                return entry.ready
            ready = self._core.pending_object()
            if entry is None:
                self._core.fail_object(ready.binary(), encode_error(self._error(group_id)))
                return ready
            entry.ready = ready
            if entry.created:
                self._core.complete_object(ready, placement_group_of(group_id))
            return ready

    def wait(self, group_id: bytes, timeout_s: float) -> bool:
        """Wait until the group is created; False when the time is up.

        Raises:
            TaskPlacementGroupRemoved: it was removed.
            LocalRayletDiedError: nobody can tell.
        """
        self.flush()
        with self._lock:
            self._check_raylet()
            entry = self._track(group_id)
            if entry is None:
                raise self._error(group_id)
            if entry.created:
                return True
            if entry.signal is None:
                entry.signal = self._core.pending_object()
            signal = entry.signal
        return self._core.get([signal], timeout_s) is not None  # raises what the object failed with

    def use(self, group_id: bytes, class_key: int) -> None:
        """Tasks of a scheduling class draw from the group: they fail when it is removed."""
        with self._lock:
            entry = self._track(group_id)
            if entry is not None:
                entry.classes.add(class_key)
            else:
                self._lose_class(class_key, encode_error(self._error(group_id)))

    def error_of(self, class_key: int) -> bytes | None:
        """Return the error of the tasks of a class whose group is gone."""
        return self._lost_classes.get(class_key)

    # ---- following ----

    def heard(self, change: Change) -> None:
        """The GCS says how groups are."""
        state = change.state
        with self._answered:
            for group_id in change.placement_group_ids:
                entry = self._entries.get(group_id)
                if entry is None:
                    continue
                if not entry.confirmed:
                    entry.confirmed = True
                    self._answered.notify_all()
                if state == Group.REMOVED:
                    self._gone(group_id, f"was removed: {change.removal_reason}")
                elif state == Group.CREATED:
                    self._created(group_id, entry)
                elif state == Group.RESCHEDULING and entry.created:
                    # It lost a node: who asks from now on waits again. Any other state is old news, as
                    # answers and publications may overtake one another.
                    entry.created, entry.ready, entry.signal = False, None, None

    def _created(self, group_id: bytes, entry: _Entry) -> None:
        if entry.created:
            return
        entry.created = True
        if entry.signal is not None:
            self._core.complete_object(entry.signal, True)
        if entry.ready is not None:
            self._core.complete_object(entry.ready, placement_group_of(group_id))

    def resynchronize(self) -> None:
        """Publications were missed: ask about everything."""
        with self._lock:
            tracked = [group_id for group_id, entry in self._entries.items() if entry.confirmed]
        if tracked:
            self._errands.run(lambda: self._ask_all(tracked))

    def _ask_all(self, group_ids: list[bytes]) -> None:
        for group_id in group_ids:
            self._inquire(group_id)

    def _inquire(self, group_id: bytes) -> None:
        try:
            group = self.look_up(group_id)
        except LocalRayletDiedError:
            return
        except ControlError as error:  # who waits may go on waiting: a publication will come with the GCS
            self._complain(f"placement group {group_id.hex()}: {error}")
            return
        if group is not None:
            self.heard(
                Change(placement_group_ids=[group_id], state=group.state, removal_reason=group.removal_reason)
            )
            return
        with self._lock:
            self._gone(group_id, "is not known to the cluster: it was removed")

    def _track(self, group_id: bytes) -> _Entry | None:
        """Follow a group; None when it is known to be removed."""
        if group_id in self._removed:
            return None
        entry = self._entries.get(group_id)
        if entry is None:
            entry = self._entries[group_id] = _Entry(confirmed=True, named=True)
            self._subscribe()
            self._errands.run(lambda: self._inquire(group_id))
        return entry

    def _subscribe(self) -> None:
        if not self._subscribed:
            self._subscribed = True
            self._control.notify(subscribe=raylet_pb2.Subscribe(channel=CHANNEL))

    def _gone(self, group_id: bytes, what: str) -> None:
        entry = self._entries.pop(group_id, None)
        if entry is None:
            return
        self._removed[group_id] = what
        while len(self._removed) > MAX_REMOVED:
            self._removed.popitem(last=False)
        waiting = entry.waited_for()
        if waiting or entry.classes:
            error = encode_error(self._error(group_id))
            for waited_for in waiting:
                self._core.fail_object(waited_for.binary(), error)
            for class_key in entry.classes:
                self._lose_class(class_key, error)

    def _lose_class(self, class_key: int, error: bytes) -> None:
        self._lost_classes[class_key] = error
        while len(self._lost_classes) > MAX_REMOVED:
            self._lost_classes.popitem(last=False)
        self._end_class(class_key, error)

    def _error(self, group_id: bytes) -> TaskPlacementGroupRemoved:
        return TaskPlacementGroupRemoved(f"placement group {group_id.hex()} {self._removed[group_id]}")

    # ---- questions to the GCS ----

    def look_up(self, group_id: bytes) -> Group | None:
        """Return the state of a group, None when the cluster does not know it."""
        self.confirm(group_id)
        request = gcs_pb2.GetPlacementGroupRequest(placement_group_id=group_id)
        return self._get(request)

    def find(self, name: str, namespace: str) -> Group | None:
        """Return the group that has a name now."""
        self.flush()
        return self._get(gcs_pb2.GetPlacementGroupRequest(name=name, namespace=namespace))

    def describe(self, group_id: bytes) -> Group:
        """Return the state of a group.

        Raises:
            TaskPlacementGroupRemoved: the cluster does not know it.
        """
        group = self.look_up(group_id)
        if group is None:
            raise TaskPlacementGroupRemoved(f"placement group {group_id.hex()} is not known to the cluster")
        return group

    def list(self) -> Sequence[Group]:
        """Return every group that the cluster remembers."""
        self.flush()
        request = gcs_pb2.ListPlacementGroupsRequest()
        return self._control.gcs("ListPlacementGroups", request, gcs_pb2.ListPlacementGroupsReply).groups

    def _get(self, request: gcs_pb2.GetPlacementGroupRequest) -> Group | None:
        reply = self._control.gcs_insistently("GetPlacementGroup", request, gcs_pb2.GetPlacementGroupReply)
        return reply.group if reply.found else None
