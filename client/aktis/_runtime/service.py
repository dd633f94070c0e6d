"""The service thread ``aktis-service``: everything that happens to a process without its user's code asking.

It serves the sockets while nobody else does, drains the core's events, and dispatches them by a table.
Nothing here may block: what has to wait for a daemon, runs code of the user's, or writes to a stream that
somebody may read slowly, goes to a thread of another kind (`aktis._runtime.errands`).
"""

import functools
import signal
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from aktis import _core
from aktis._proto import common_pb2, gcs_pb2, raylet_pb2
from aktis._runtime import tracing
from aktis._runtime.cancel import cancel_asked, run_called_off, task_overdue
from aktis._runtime.causes import describe_death, setup_failure
from aktis._runtime.current import (
    EVENT_GROUP_ORDERS,
    EVENT_HANDLE_DROPPED,
    EVENT_MAY_RETRY,
    EVENT_RUN,
    EVENT_STOP,
)
from aktis._runtime.errors import decode_error, encode_error, error_text
from aktis._runtime.ids import ObjectID
from aktis._runtime.leases import Instruction, LeasePolicy, Request, Return, Warn
from aktis._runtime.retries import GiveUp, RetryLists, RetryPolicy, may_retry
from aktis._runtime.snapshot import take_snapshot
from aktis.exceptions import (
    AktisError,
    LocalRayletDiedError,
    ObjectFreedError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    OutOfMemoryError,
    OwnerDiedError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
    TaskUnschedulableError,
    WorkerCrashedError,
)

if TYPE_CHECKING:
    from aktis._runtime.session import Session

Event = tuple[Any, ...]

_WAIT_S: Final = 60.0
_LINGER_CHECK_S: Final = 0.1
_COLLECT_S: Final = 0.002
_MAX_CAUSES: Final = 256


class Service:
    """The thread and its dispatch tables. Made by the session; ``start`` and ``stop`` once."""

    def __init__(self, session: "Session") -> None:
        """Serve ``session``."""
        self._session = session
        self._core = session.core
        self._thread = threading.Thread(target=self._run, name="aktis-service", daemon=True)
        self._stopping = False
        self._lingering = False
        self._orders_due_s = 0.0
        self._raylet_error = b""
        self.leases = LeasePolicy(self._core.drop_lease)
        self._retries = RetryPolicy()
        self.retry_lists = RetryLists()
        self._causes: OrderedDict[bytes, common_pb2.DeathCause] = OrderedDict()
        self.on_control: dict[str, Callable[[Any], None]] = {
            "leases_granted": self._leases_granted,
            "leases_pending": self._leases_pending,
            "leases_failed": self._leases_failed,
            "lease_lost": self._lease_lost,
            "reclaim_idle": self._reclaim_idle,
            "publication": self._publication,
            "flush_events": self._flush_events,
            "take_snapshot": functools.partial(take_snapshot, session),
        }
        self.on_event: dict[int, Callable[..., object]] = {
            _core.EVENT_CONTROL: self._control,
            _core.EVENT_NEED_LEASES: self._need_leases,
            _core.EVENT_LEASE_RETURNED: self.leases.gone,
            _core.EVENT_LEASE_BROKEN: self._lease_broken,
            _core.EVENT_TASK_LOST: self._task_lost,
            _core.EVENT_TASK_ERROR: self._task_error,
            _core.EVENT_OBJECT_FREED: self._object_freed,
            _core.EVENT_OBJECT_LOST: self._object_lost,
            _core.EVENT_ACTOR_LOST: lambda actor, worker, _: session.actors.connection_lost(actor, worker),
            _core.EVENT_CANCEL: lambda task_id, recursive: self.cancel_children(task_id, recursive),
            _core.EVENT_CANCEL_ASKED: functools.partial(cancel_asked, session),
            _core.EVENT_TASK_OVERDUE: functools.partial(task_overdue, session),
            _core.EVENT_RUN_CALLED_OFF: functools.partial(run_called_off, session),
            _core.EVENT_RAYLET_LOST: self._raylet_lost,
            _core.EVENT_PLASMA_LOST: lambda reason: self._complain(f"the object store is gone: {reason}"),
            EVENT_HANDLE_DROPPED: self._handle_dropped,
            EVENT_MAY_RETRY: self._decide,
            EVENT_RUN: lambda step: step(),
            EVENT_GROUP_ORDERS: self._collect_orders,
        }

    def start(self) -> None:
        """Begin; the thread ends with `stop` or with the process."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping = True
        self._core.post_event((EVENT_STOP,))
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        # Signals are for the main thread, where Python runs their handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._stopping:
            # Not kept in a variable: events hold references, which must go before the next ones come.
            self._handle(self._core.next_events(self._pause_s()))
            if self._lingering:
                self._lingering = self._session.actors.tick()
            if self._orders_due_s and time.monotonic() >= self._orders_due_s:
                self._orders_due_s = 0.0
                self._session.groups.flush()

    def _pause_s(self) -> float:
        if self._orders_due_s:
            return max(0.0, self._orders_due_s - time.monotonic())
        return _LINGER_CHECK_S if self._lingering else _WAIT_S

    def _collect_orders(self) -> None:
        """Placement groups are to be created or removed, and more orders may follow at once."""
        self._orders_due_s = time.monotonic() + _COLLECT_S

    def _handle(self, events: Iterable[Event]) -> None:
        ready: list[tuple[bytes, bool]] = []
        for event in events:
            kind = event[0]
            if kind == _core.EVENT_OBJECT_READY:
                ready.append((event[1], event[2]))
                continue
            handler = self.on_event.get(kind)
            if handler is None:
                continue
            try:
                handler(*event[1:])
            except Exception:
                if not self._stopping:
                    self._complain(f"an internal event could not be handled:\n{traceback.format_exc()}")
        if ready:
            try:
                self._objects_ready(ready)
            except Exception:
                self._complain(f"ready objects could not be handed on:\n{traceback.format_exc()}")

    def _objects_ready(self, objects: list[tuple[bytes, bool]]) -> None:
        actors = self._session.actors
        self._session.watchers.ready(objects)
        for object_id, _ in objects:
            if actors.marker_ready(object_id):
                self._lingering = True

    def _complain(self, message: str) -> None:
        self._session.printer.complain(message)

    # ---- control messages ----

    def _control(self, payload: bytes) -> None:
        message = raylet_pb2.RayletMessage.FromString(payload)
        if message.request_id:
            self._session.control.answered(message)
            return
        kind = message.WhichOneof("body")
        handler = self.on_control.get(kind or "")
        if handler is not None:
            handler(getattr(message, kind or ""))

    def _publication(self, message: gcs_pb2.Publication) -> None:
        if message.channel == "actors":
            if message.resynchronize:
                self._session.actors.resynchronize()
            if message.HasField("actor"):
                self._session.actors.heard(message.actor)
        elif message.channel == "placement_groups":
            if message.resynchronize:
                self._session.groups.resynchronize()
            for change in message.placement_groups.changes:
                self._session.groups.heard(change)
        elif message.HasField("error") and message.error.job_id == self._session.job_id:
            self._complain(message.error.message)

    def _flush_events(self, message: raylet_pb2.FlushEvents) -> None:
        if tracing.tracer is None:
            self._events_flushed(message.round)
        else:  # exporting spans may take long
            self._session.inquiries.run(functools.partial(self._events_flushed, message.round))

    def _events_flushed(self, number: int) -> None:
        if tracing.tracer is not None:
            tracing.flush()
        self._core.flush_events()
        self._session.control.notify(events_flushed=raylet_pb2.EventsFlushed(round=number))

    # ---- leases ----

    def _carry_out(self, instructions: Iterable[Instruction]) -> None:
        control = self._session.control
        for instruction in instructions:
            match instruction:
                case Request(cls, wanted, backlog, priority):
                    control.notify(
                        request_leases=raylet_pb2.RequestLeases(
                            class_key=cls.key,
                            wanted=wanted,
                            backlog=backlog,
                            resources=common_pb2.Resources(amounts=dict(cls.resources)),
                            function_name=cls.function_name,
                            job_id=self._session.job_id,
                            label_selector=dict(cls.strategy.labels),
                            strategy=cls.strategy.to_proto(),
                            runtime_env_hash=cls.runtime_env_hash,
                            priority=priority,
                        )
                    )
                case Return(lease_ids, failing):
                    items = [
                        raylet_pb2.ReturnLeases.Item(lease_id=lease, worker_failing=failing)
                        for lease in lease_ids
                    ]
                    control.notify(return_leases=raylet_pb2.ReturnLeases(leases=items))
                case Warn(message):
                    self._complain(message)

    def _need_leases(self, class_key: int, wanted: int, backlog: int, priority: int) -> None:
        error = self._session.groups.error_of(class_key)
        if self._raylet_error:
            self._core.fail_class(class_key, self._raylet_error)
        elif error is None and self.leases.knows(class_key):
            self._carry_out(self.leases.needed(class_key, wanted, backlog, priority))
        else:
            gone = TaskPlacementGroupRemoved("the placement group of these tasks was removed")
            self._end_class(class_key, error or encode_error(gone))

    def end_class(self, class_key: int, error: bytes) -> None:
        """Fail what does not run yet of a class, now and later. Any thread."""
        self._core.end_class(class_key)
        self._core.fail_class(class_key, error)
        # Once more, for what is submitted before the policy knows.
        self._core.post_event((EVENT_RUN, lambda: self._end_class(class_key, error)))

    def _end_class(self, class_key: int, error: bytes) -> None:
        self._carry_out(self.leases.end_class(class_key))
        self._core.end_class(class_key)
        self._core.fail_class(class_key, error)

    def _leases_granted(self, message: raylet_pb2.LeasesGranted) -> None:
        for lease in message.leases:
            if not self.leases.granted(message.class_key, lease.lease_id):
                self._carry_out([Return((lease.lease_id,))])
                continue
            worker = lease.worker
            self._core.add_lease(message.class_key, lease.lease_id, worker.worker_id, worker.address)
        if message.others_wait:
            self._carry_out(self.leases.reclaim(self._core.reclaim_leases(0)))

    def _leases_pending(self, message: raylet_pb2.LeasesPending) -> None:
        if message.unschedulable:
            unschedulable = TaskUnschedulableError(message.explanation)
            self._core.fail_class(message.class_key, encode_error(unschedulable), error_text(unschedulable))
            return
        self._core.set_infeasible(message.class_key, message.infeasible)
        self._carry_out(
            self.leases.pending(
                message.class_key, message.infeasible, message.explanation, stuck=message.stuck
            )
        )

    def _leases_failed(self, message: raylet_pb2.LeasesFailed) -> None:
        """Workers for the class cannot be had: its queued tasks fail with the reason, later ones try anew."""
        self.leases.failed(message.class_key)
        error = RuntimeEnvSetupError(setup_failure(message.reason))
        self._core.fail_class(message.class_key, encode_error(error), error_text(error))

    def _lease_lost(self, message: raylet_pb2.LeaseLost) -> None:
        self._remember_cause(message.worker_id, message.cause)
        if self.leases.gone(message.lease_id):
            self._core.break_lease(message.lease_id, describe_death(message.cause))

    def _lease_broken(self, lease_id: int, worker_id: bytes, reason: str) -> None:
        self._carry_out(self.leases.broken(lease_id))

    def _reclaim_idle(self, message: raylet_pb2.ReclaimIdle) -> None:
        self._carry_out(self.leases.reclaim(self._core.reclaim_leases(message.excess)))

    # ---- failed tasks ----

    def _task_lost(
        self, task_id: bytes, worker_id: bytes, actor_id: bytes, reason: str, retries_left: int
    ) -> None:
        if any(actor_id):
            self._session.actors.call_lost(task_id, actor_id, worker_id, retries_left)
            return
        decision = self._retries.failed(task_id, retries_left)
        if not isinstance(decision, GiveUp):
            self._core.resubmit(task_id, decision.delay_ms)
        elif worker_id in self._causes:
            self._fail_crashed(task_id, worker_id, decision.attempts)
        else:
            fail = functools.partial(self._fail_crashed, task_id, worker_id, decision.attempts)
            try:
                self._session.inquiries.run(fail)
            except RuntimeError as problem:  # too many wait: without the cause
                self._core.fail_task(task_id, encode_error(WorkerCrashedError(str(problem))))

    def _fail_crashed(self, task_id: bytes, worker_id: bytes, attempts: int) -> None:
        """Fail a task whose worker died, with the cause; asks for it, which may take a moment, if it must."""
        error: AktisError
        try:
            cause = self._causes.get(worker_id) or self._session.control.death_cause(worker_id)
        except AktisError as problem:
            error = problem
        else:
            if cause is not None:
                self._remember_cause(worker_id, cause)
            kind = cause.kind if cause is not None else common_pb2.DeathCause.KIND_UNSPECIFIED
            tries = f" (tried {attempts} times)" if attempts > 1 else ""
            text = f"The worker of task {task_id.hex()} died{tries}: {describe_death(cause)}"
            error = _crash(kind, text)
        self._core.fail_task(task_id, encode_error(error), error_text(error))

    def _remember_cause(self, worker_id: bytes, cause: common_pb2.DeathCause) -> None:
        self._causes[worker_id] = cause
        while len(self._causes) > _MAX_CAUSES:
            self._causes.popitem(last=False)

    def _task_error(self, task_id: bytes, error: bytes, retries_left: int, retry_key: int) -> None:
        allowed = self.retry_lists.allowed(retry_key)
        if allowed is None:
            self._decide(task_id, error, retries_left)
            return

        def look_at_the_type() -> None:
            if may_retry(decode_error(error), allowed):
                self._core.post_event((EVENT_MAY_RETRY, task_id, error, retries_left))
            else:
                self._core.fail_task(task_id, error)

        try:
            self._session.inquiries.run(look_at_the_type)  # loading an exception runs its author's code
        except RuntimeError as problem:
            self._complain(f"task {task_id.hex()} is not retried: {problem}")
            self._core.fail_task(task_id, error)

    def _decide(self, task_id: bytes, error: bytes, retries_left: int) -> None:
        """Retry a task that failed with an error that may be retried, unless that was tried often enough."""
        decision = self._retries.failed(task_id, retries_left)
        if isinstance(decision, GiveUp):
            self._core.fail_task(task_id, error)
        else:
            self._core.resubmit(task_id, decision.delay_ms)

    def cancel_children(self, task_id: bytes, recursive: bool) -> None:
        """Cancel what a task that is being cancelled has submitted."""
        if recursive:
            for child in self._core.children_of(task_id):
                self._core.cancel(child, True, encode_error(TaskCancelledError(child.hex())))

    # ---- objects, handles, daemons ----

    def _object_freed(self, object_id: bytes) -> None:
        self._session.actors.life_ended(object_id)

    def _object_lost(self, object_id: bytes, reason: str) -> None:
        why_not = self._core.reconstruct(object_id)
        if why_not is not None:
            error = lost_object_error(object_id, reason, why_not)
            self._core.fail_object(object_id, encode_error(error))

    def _handle_dropped(self, actor_id: bytes, life: Any) -> None:
        self._session.actors.handle_dropped(actor_id, life)

    def _raylet_lost(self, reason: str) -> None:
        error = LocalRayletDiedError(
            f"the raylet of this node is gone ({reason}): call aktis.shutdown() and aktis.init() to go on"
        )
        self._complain(str(error))
        # Tasks that are submitted later ask for leases in vain: they fail when they do.
        data = self._raylet_error = encode_error(error)
        for class_key in self.leases.class_keys():
            self._core.fail_class(class_key, data)
        self._session.actors.fail_all(data)
        self._session.groups.raylet_lost(error)


def lost_object_error(object_id: bytes, reason: str, why_not: str = "") -> ObjectLostError:
    """Return the error for an object whose value is gone; ``why_not``: why it cannot be made again."""
    name = object_id.hex()
    if why_not:
        text = f"{reason}; {why_not}"
        is_put = ObjectID(object_id).is_put()
        return ObjectLostError(name, text) if is_put else ObjectReconstructionFailedError(name, text)
    if "owner" in reason and "died" in reason:
        return OwnerDiedError(name)
    if "freed" in reason:
        return ObjectFreedError(name)
    return ObjectLostError(name, reason)


def _crash(kind: int, text: str) -> AktisError:
    """What a task fails with whose worker died of this."""
    if kind == common_pb2.DeathCause.OUT_OF_MEMORY:
        return OutOfMemoryError(text)
    if kind == common_pb2.DeathCause.PLACEMENT_GROUP_REMOVED:
        return TaskPlacementGroupRemoved(text)
    return WorkerCrashedError(text)
