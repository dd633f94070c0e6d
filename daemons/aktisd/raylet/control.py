"""The control socket: who is connected, and what each message does. Belongs to the loop.

Every message is checked here before it becomes an event of the node's logic. A message that cannot be
served is answered with Failure; one that shows a broken or hostile peer closes the connection with the
reason in the log.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Protocol

import grpc
from aktis import _core
from aktis._common import ids
from aktis._common.environments import is_hash
from aktis._common.logging import get_logger
from aktis._common.rounds import Rounds
from aktis._common.wire import WirePeer
from aktis._proto import common_pb2, gcs_pb2, raylet_pb2, snapshot_pb2
from google.protobuf.message import DecodeError

from aktisd.raylet import messages as events
from aktisd.raylet.causes import Cause
from aktisd.raylet.eligibility import Eligibility
from aktisd.raylet.resources import check_request

MAX_WANTED: Final = 1_000_000
MAX_CLASSES: Final = 4_096
MAX_RETURNED: Final = 100_000
CALL_TIMEOUT_S: Final = 30.0
MAX_CALL_TIMEOUT_S: Final = 3600.0
ASK_DEATH_TIMEOUT_S: Final = 2.0
COLLECT_TIMEOUT_S: Final = 1.0
MAX_COLLECT_TIMEOUT_S: Final = 10.0
LAST_WORDS_TIMEOUT_S: Final = 0.5
"""How long a dead process's connection may stay open: something that it forked can have inherited it."""

Message = raylet_pb2.ClientMessage
Reply = raylet_pb2.RayletMessage


class Who(Enum):
    """What a peer has shown itself to be."""

    NEW = auto()
    JOINING = auto()
    """A driver whose job the GCS is asked to register."""
    DRIVER = auto()
    WORKER = auto()
    TEMPLATE = auto()
    GONE = auto()


class ProtocolError(Exception):
    """The peer broke the rules; its connection is closed."""


class RequestError(Exception):
    """The request cannot be served; the peer is told and stays connected."""

    def __init__(self, message: str, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True, eq=False)
class Session:
    """One connected process."""

    peer: WirePeer
    worker_id: bytes
    pid: int
    who: Who = Who.NEW
    job_id: bytes = b""
    wants_logs: bool = False
    classes: set[int] = field(default_factory=set)
    closing: list[Callable[[], None]] = field(default_factory=list)
    """What is to be done once everything that it sent has been heard."""

    def heard_out(self) -> None:
        """Nothing more comes."""
        actions, self.closing = self.closing, []
        for action in actions:
            action()

    def send_message(self, message: Reply) -> None:
        """Queue one message; a peer that does not read is closed by the transport."""
        self.peer.send(_core.FRAME_CONTROL, 0, message.SerializeToString())


class ControlOwner(Protocol):
    """What the control socket needs of the raylet."""

    def submit(self, event: events.Event) -> None:
        """Take an event into the node's logic and carry out what follows."""

    def submit_soon(self, event: events.Event) -> None:
        """The same, with what else is read in this round of the loop."""

    def worker_joined(self, session: Session, event: events.WorkerJoined, request_id: int) -> None:
        """Like submit, and answers the worker; ValueError when it is not expected."""

    def driver_joined(self, session: Session, job: gcs_pb2.Job, request_id: int) -> None:
        """A driver has its job."""

    def driver_gone(self, session: Session) -> None:
        """A registered driver's connection closed."""

    def job_without_driver(self, job_id: bytes) -> None:
        """The driver went while its job was being registered."""

    def job_of(self, worker_id: bytes) -> bytes:
        """The job that a worker serves now; empty for none."""

    @property
    def eligibility(self) -> Eligibility:
        """Decides which requests this node may serve at all."""

    def template_connected(self, session: Session) -> bool:
        """A template says hello; False when it is not ours."""

    def children_forked(self, message: raylet_pb2.TemplateForked) -> None:
        """The template reports new workers."""

    def finish_output(self, job_id: bytes) -> None:
        """Send a job's driver all that its workers have printed."""

    def children_exited(self, message: raylet_pb2.TemplateChildExited) -> None:
        """The template reports dead workers."""

    def gcs_call(
        self,
        call: raylet_pb2.GcsCall,
        worker_id: bytes,
        timeout_s: float,
        on_reply: Callable[[gcs_pb2.RelayReply], None],
    ) -> None:
        """Relay a call."""

    def snapshot_taken(self, session: Session, snapshot: snapshot_pb2.ProcessSnapshot) -> None:
        """A process says what it knows."""

    def task_events(self, batch: common_pb2.TaskEventBatch) -> None:
        """Pass task events on."""

    def metric_batch(self, worker_id: bytes, job_id: bytes, batch: raylet_pb2.MetricBatch) -> None:
        """Add what user code has measured; ValueError when it is malformed."""

    def metrics_end(self, worker_id: bytes, job_id: bytes) -> None:
        """A process that may have measured something has left."""

    def subscribe(self, session: Session, request: raylet_pb2.Subscribe) -> None:
        """Deliver a channel's publications; ValueError when there is no such channel."""

    def unsubscribe(self, session: Session) -> None:
        """Stop delivering."""

    def ask_death(self, worker_id: bytes, answer: Callable[[Cause | None], None], timeout_s: float) -> None:
        """Find out why a process died."""

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something on the loop later."""


class Control:
    """See the module. The transport calls on_open, on_frame and on_closed."""

    def __init__(self, owner: ControlOwner, node_id: bytes) -> None:
        self._owner = owner
        self._node_id = node_id
        self._log = get_logger()
        self._sessions: dict[WirePeer, Session] = {}
        self._by_id: dict[bytes, Session] = {}
        self._drivers: dict[bytes, Session] = {}
        self._collection = Rounds()
        self.protocol_errors = 0
        any_client = frozenset({Who.DRIVER, Who.WORKER})
        new, worker, template = frozenset({Who.NEW}), frozenset({Who.WORKER}), frozenset({Who.TEMPLATE})
        driver = frozenset({Who.DRIVER})
        # Message -> (who may send it, what it does).
        self._handlers: dict[str, tuple[frozenset[Who], Callable[[Session, Any, int], None]]] = {
            "register_driver": (new, self._register_driver),
            "register_worker": (new, self._register_worker),
            "request_leases": (any_client, self._request_leases),
            "return_leases": (any_client, self._return_leases),
            "set_blocked": (worker, self._set_blocked),
            "actor_started": (worker, self._actor_started),
            "exiting": (worker, self._exiting),
            "staying": (worker, self._staying),
            "task_events": (any_client, self._task_events),
            "metric_batch": (any_client, self._metric_batch),
            "collect_events": (any_client, self._collect_events),
            "events_flushed": (worker, self._events_flushed),
            "snapshot": (any_client, self._snapshot),
            "gcs_call": (any_client, self._gcs_call),
            "subscribe": (any_client, self._subscribe),
            "kill_worker": (any_client, self._kill_worker),
            "ask_death": (any_client, self._ask_death),
            "template_forked": (template, self._template_forked),
            "template_child_exited": (template, self._template_child_exited),
            "driver_logs": (driver, self._driver_logs),
            "finish_output": (driver, self._finish_output),
            "want_environment": (any_client, self._want_environment),
        }

    # ---- the transport's side ----

    def on_open(self, peer: WirePeer) -> None:
        """The handshake is done."""
        hello = peer.hello
        session = Session(peer, hello.sender, peer.credentials.pid if peer.credentials else hello.pid)
        if hello.sender in self._by_id:
            peer.close("another connection has this worker id")
            return
        if not any(hello.sender):  # the GCS would refuse the node that speaks of it
            peer.close("a process has a worker id that is not zero")
            return
        self._sessions[peer] = session
        self._by_id[session.worker_id] = session
        if hello.role == _core.ROLE_TEMPLATE:
            session.who = Who.TEMPLATE
            if not self._owner.template_connected(session):
                peer.close("not the template that this raylet started")

    def on_frame(self, peer: WirePeer, frame_type: int, flags: int, correlation: int, payload: bytes) -> None:
        """One frame came."""
        session = self._sessions.get(peer)
        if session is None:
            return
        try:
            self._on_frame(session, frame_type, payload)
        except ProtocolError as error:
            self.protocol_errors += 1
            self._log.warning("control_protocol_error", pid=session.pid, error=str(error))
            peer.close(f"protocol error: {error}")

    def on_closed(self, peer: WirePeer, reason: str) -> None:
        """The connection is gone."""
        session = self._sessions.pop(peer, None)
        if session is None:
            return
        who, session.who = session.who, Who.GONE
        self._by_id.pop(session.worker_id, None)
        self._log.debug("client_disconnected", pid=session.pid, role=who.name, reason=reason)
        self._collection.gone(session.worker_id)
        if who in (Who.DRIVER, Who.WORKER):
            self._owner.unsubscribe(session)
            self._owner.submit(events.ClientGone(session.worker_id))
        if who is Who.DRIVER:
            del self._drivers[session.job_id]
            self._owner.driver_gone(session)
        self._owner.metrics_end(session.worker_id, session.job_id)
        session.heard_out()

    # ---- the raylet's side ----

    def session(self, worker_id: bytes) -> Session | None:
        """A connected process."""
        return self._by_id.get(worker_id)

    def hear_out(self, worker_id: bytes, action: Callable[[], None]) -> None:
        """Do something once all that a dead process had sent is handled: it may have said why it ends."""
        session = self._by_id.get(worker_id)
        if session is None:
            action()
            return
        session.closing.append(action)
        self._owner.call_later(LAST_WORDS_TIMEOUT_S, session.heard_out)

    def has_driver(self, job_id: bytes) -> bool:
        """Whether the driver of a job is connected here."""
        return job_id in self._drivers

    def log_reader(self, job_id: bytes) -> Callable[[raylet_pb2.LogBatch], None] | None:
        """How to send a job's driver its workers' output, if it is connected and wants that."""
        session = self._drivers.get(job_id)
        if session is None or not session.wants_logs:
            return None
        return lambda batch: session.send_message(Reply(log_batch=batch))

    def worker_ids(self) -> list[bytes]:
        """Every driver and worker that is connected."""
        clients = (Who.JOINING, Who.DRIVER, Who.WORKER)
        return [session.worker_id for session in self._by_id.values() if session.who in clients]

    def clients(self) -> list[Session]:
        """Every driver and worker that has registered."""
        return [session for session in self._by_id.values() if session.who in (Who.DRIVER, Who.WORKER)]

    def send_to(self, worker_id: bytes, message: Reply) -> bool:
        """Send to a connected process; False when it is not."""
        session = self._by_id.get(worker_id)
        if session is not None:
            session.send_message(message)
        return session is not None

    def __len__(self) -> int:
        return len(self._sessions)

    # ---- messages ----

    def _on_frame(self, session: Session, kind: int, payload: bytes) -> None:
        if kind != _core.FRAME_CONTROL:
            raise ProtocolError(f"unexpected frame type {kind}")
        try:
            message = Message.FromString(payload)
        except DecodeError:
            raise ProtocolError(f"a control frame of {len(payload)} bytes is not a ClientMessage") from None
        name = message.WhichOneof("body")
        if name is None:
            return  # of a newer minor version
        allowed, handler = self._handlers[name]
        if session.who not in allowed:
            raise ProtocolError(f"{name} from a peer that is {session.who.name}")
        try:
            handler(session, getattr(message, name), message.request_id)
        except RequestError as error:
            self._fail(session, message.request_id, error.code.value[0], str(error))

    def _fail(self, session: Session, request_id: int, status: int, message: str) -> None:
        if request_id:
            failure = raylet_pb2.Failure(status=status, message=message)
            session.send_message(Reply(request_id=request_id, failure=failure))
        else:
            self._log.warning("control_request_refused", pid=session.pid, error=message)

    def _acknowledge(self, session: Session, request_id: int) -> None:
        if request_id:
            session.send_message(Reply(request_id=request_id, acknowledged=raylet_pb2.Acknowledged()))

    def _check_address(self, session: Session, address: common_pb2.ProcessAddress) -> None:
        if address.worker_id != session.worker_id:
            raise ProtocolError("the address has another worker id than the handshake")
        if address.pid != session.pid:
            raise ProtocolError(f"the address has pid {address.pid}, the socket's peer is {session.pid}")
        if not address.address.startswith(("unix:/", "tcp:")) or len(address.address) > 512:
            raise ProtocolError(f"malformed address {address.address[:80]!r}")

    def _register_driver(self, session: Session, message: raylet_pb2.RegisterDriver, request_id: int) -> None:
        self._check_address(session, message.address)
        session.who = Who.JOINING
        session.wants_logs = message.log_to_driver
        message.address.node_id = self._node_id  # which the driver learns with the answer
        request = gcs_pb2.RegisterJobRequest(
            driver=message.address,
            namespace=message.namespace,
            entrypoint=message.entrypoint,
            metadata=message.metadata,
        )
        call = raylet_pb2.GcsCall(method="RegisterJob", payload=request.SerializeToString())

        def on_reply(reply: gcs_pb2.RelayReply) -> None:
            self._job_registered(session, reply, request_id)

        self._owner.gcs_call(call, session.worker_id, CALL_TIMEOUT_S, on_reply)

    def _job_registered(self, session: Session, reply: gcs_pb2.RelayReply, request_id: int) -> None:
        if reply.status:
            if session.who is Who.JOINING:
                session.who = Who.NEW
                self._fail(session, request_id, reply.status, reply.error)
            return
        job = gcs_pb2.RegisterJobReply.FromString(reply.payload).job
        if session.who is not Who.JOINING:
            self._owner.job_without_driver(job.job_id)
            return
        session.who, session.job_id = Who.DRIVER, job.job_id
        self._drivers[job.job_id] = session
        self._owner.driver_joined(session, job, request_id)

    def _register_worker(self, session: Session, message: raylet_pb2.RegisterWorker, request_id: int) -> None:
        self._check_address(session, message.address)
        session.who = Who.WORKER
        try:
            event = events.WorkerJoined(message.start_token, message.address)
            self._owner.worker_joined(session, event, request_id)
        except ValueError as error:
            session.who = Who.NEW
            raise ProtocolError(str(error)) from None

    def _request_leases(self, session: Session, message: raylet_pb2.RequestLeases, request_id: int) -> None:
        amounts = dict(message.resources.amounts)
        problem = check_request(amounts)
        if problem is None and message.wanted > MAX_WANTED:
            problem = f"{message.wanted} leases wanted, at most {MAX_WANTED} are allowed"
        job_id = session.job_id or self._owner.job_of(session.worker_id)
        if problem is None and message.job_id != job_id:
            problem = f"job {message.job_id.hex()} is not the job of this process ({job_id.hex() or 'none'})"
        session.classes.add(message.class_key)
        if problem is None and len(session.classes) > MAX_CLASSES:
            session.classes.discard(message.class_key)
            problem = f"more than {MAX_CLASSES} scheduling classes"
        if problem is not None:
            raise RequestError(f"lease request for {message.function_name[:200]}: {problem}")
        if message.wanted and (objection := self._owner.eligibility.objection(message)) is not None:
            pending = raylet_pb2.LeasesPending(
                class_key=message.class_key,
                infeasible=True,
                explanation=objection.reason,
                unschedulable=objection.final,
            )
            session.send_message(Reply(leases_pending=pending))
            return
        self._owner.submit_soon(
            events.LeasesRequested(
                session.worker_id,
                message.class_key,
                message.wanted,
                amounts,
                job_id,
                message.function_name[:200],
                message.backlog,
                environment=_environment(message.runtime_env_hash),
                priority=message.priority,
                group=message.strategy.placement_group_id,
                bundle_index=message.strategy.bundle_index,
            )
        )

    def _want_environment(
        self, session: Session, message: raylet_pb2.WantEnvironment, request_id: int
    ) -> None:
        job_id = session.job_id or self._owner.job_of(session.worker_id)
        self._owner.submit(events.EnvironmentWanted(_environment(message.runtime_env_hash), job_id))

    def _return_leases(self, session: Session, message: raylet_pb2.ReturnLeases, request_id: int) -> None:
        if len(message.leases) > MAX_RETURNED:
            raise ProtocolError(f"{len(message.leases)} leases in one message")
        returned = tuple(item.lease_id for item in message.leases)
        failing = frozenset(item.lease_id for item in message.leases if item.worker_failing)
        self._owner.submit_soon(events.LeasesReturned(session.worker_id, returned, failing))

    def _set_blocked(self, session: Session, message: raylet_pb2.SetBlocked, request_id: int) -> None:
        self._owner.submit_soon(events.BlockedChanged(session.worker_id, message.blocked))

    def _actor_started(self, session: Session, message: raylet_pb2.ActorStarted, request_id: int) -> None:
        self._owner.submit(
            events.ActorReady(
                session.worker_id, message.actor_id, message.incarnation, message.failed, message.cause
            )
        )

    def _exiting(self, session: Session, message: raylet_pb2.Exiting, request_id: int) -> None:
        self._owner.submit(events.WorkerEnding(session.worker_id, message.cause))
        self._acknowledge(session, request_id)

    def _staying(self, session: Session, message: raylet_pb2.Staying, request_id: int) -> None:
        self._owner.submit(events.WorkerStays(session.worker_id))

    def _task_events(self, session: Session, message: common_pb2.TaskEventBatch, request_id: int) -> None:
        self._owner.task_events(message)

    def _metric_batch(self, session: Session, message: raylet_pb2.MetricBatch, request_id: int) -> None:
        job_id = session.job_id or self._owner.job_of(session.worker_id) or message.job_id
        if message.job_id != job_id or len(job_id) != ids.JOB_ID_BYTES:
            raise ProtocolError(
                f"metrics of job {message.job_id.hex()[:80]}, which is not that of the process"
            )
        try:
            self._owner.metric_batch(session.worker_id, job_id, message)
        except ValueError as error:
            raise ProtocolError(str(error)) from None
        self._acknowledge(session, request_id)

    def _collect_events(self, session: Session, message: raylet_pb2.CollectEvents, request_id: int) -> None:
        def done(silent: frozenset[bytes]) -> None:
            if session.who is not Who.GONE:
                self._acknowledge(session, request_id)

        workers = [other for other in self._by_id.values() if other.who is Who.WORKER]
        number = self._collection.begin((other.worker_id for other in workers), done)
        if number is None:
            return
        for other in workers:
            other.send_message(Reply(flush_events=raylet_pb2.FlushEvents(round=number)))
        timeout_s = min(message.timeout_ms / 1000 or COLLECT_TIMEOUT_S, MAX_COLLECT_TIMEOUT_S)
        self._owner.call_later(timeout_s, lambda: self._collection.expire(number))

    def _events_flushed(self, session: Session, message: raylet_pb2.EventsFlushed, request_id: int) -> None:
        self._collection.answered(session.worker_id, message.round)

    def _snapshot(self, session: Session, message: snapshot_pb2.ProcessSnapshot, request_id: int) -> None:
        self._owner.snapshot_taken(session, message)

    def _gcs_call(self, session: Session, message: raylet_pb2.GcsCall, request_id: int) -> None:
        if request_id == 0:
            raise ProtocolError("gcs_call without a request id")
        timeout_s = min(MAX_CALL_TIMEOUT_S, message.timeout_ms / 1000 or CALL_TIMEOUT_S)

        def on_reply(reply: gcs_pb2.RelayReply) -> None:
            if session.who is not Who.GONE:
                result = raylet_pb2.GcsResult(status=reply.status, error=reply.error, payload=reply.payload)
                session.send_message(Reply(request_id=request_id, gcs_result=result))

        self._owner.gcs_call(message, session.worker_id, timeout_s, on_reply)

    def _subscribe(self, session: Session, message: raylet_pb2.Subscribe, request_id: int) -> None:
        try:
            self._owner.subscribe(session, message)
        except ValueError as error:
            raise RequestError(str(error)) from None
        self._acknowledge(session, request_id)

    def _kill_worker(self, session: Session, message: raylet_pb2.KillWorker, request_id: int) -> None:
        self._owner.submit(
            events.KillAsked(session.worker_id, message.worker_id, message.lease_id, message.reason[:1000])
        )
        self._acknowledge(session, request_id)

    def _ask_death(self, session: Session, message: raylet_pb2.AskDeath, request_id: int) -> None:
        def answer(cause: Cause | None) -> None:
            if session.who is not Who.GONE:
                found = raylet_pb2.DeathAnswer(
                    worker_id=message.worker_id, found=cause is not None, cause=cause
                )
                session.send_message(Reply(request_id=request_id, death_answer=found))

        self._owner.ask_death(message.worker_id, answer, ASK_DEATH_TIMEOUT_S)

    def _template_forked(self, session: Session, message: raylet_pb2.TemplateForked, request_id: int) -> None:
        self._owner.children_forked(message)

    def _template_child_exited(
        self, session: Session, message: raylet_pb2.TemplateChildExited, request_id: int
    ) -> None:
        self._owner.children_exited(message)

    def _driver_logs(self, session: Session, message: raylet_pb2.DriverLogs, request_id: int) -> None:
        session.wants_logs = message.enabled

    def _finish_output(self, session: Session, message: raylet_pb2.FinishOutput, request_id: int) -> None:
        self._owner.finish_output(session.job_id)
        self._acknowledge(session, request_id)


def _environment(name: str) -> str:
    if name and not is_hash(name):
        raise ProtocolError(f"{name[:80]!r} is not the hash of a runtime environment")
    return name
