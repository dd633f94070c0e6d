"""Whatever a process says to its raylet: it is served, refused or hung up on, and harms nobody else.

A node without sockets and its GCS, in earnest but for the processes, which are obedient.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aktis import _core
from aktis._proto import common_pb2, gcs_pb2, raylet_pb2, snapshot_pb2
from aktisd.gcs import methods
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError
from aktisd.raylet import messages as m
from aktisd.raylet.causes import observed
from aktisd.raylet.control import Control, ControlOwner, Session
from aktisd.raylet.deaths import DeathTable
from aktisd.raylet.eligibility import Eligibility
from aktisd.raylet.node import NodeLogic
from aktisd.raylet.process_book import ProcessBook
from aktisd.raylet.publications import Fanout
from aktisd.raylet.snapshots import Snapshots
from aktisd.raylet.user_metrics import UserMetrics
from aktisd.raylet.workers import PoolLimits
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.arbitrary import message_with
from tests.support.fake_node import units, worker_id
from tests.support.gcs_parts import SimulatedCluster, actor_id, actor_spec, node_id

DRIVER = b"d" * 16
JOB = b"\0\0\0\1"
NODE = node_id(1)


class Peer:
    """A process's connection; what the raylet says to it must be something that can be sent."""

    credentials = None

    def __init__(self, sender: bytes, pid: int, role: int) -> None:
        self.hello = SimpleNamespace(sender=sender, pid=pid, role=role)
        self.closed = ""

    def send(self, kind: int, correlation: int, payload: bytes) -> None:
        pass

    def close(self, reason: str) -> None:
        self.closed = reason


class Node:
    """What `Control` needs of a raylet: its logic and tables, with a GCS at the other end of its stream."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.gcs = SimulatedCluster()
        self.gcs.register(1)
        limits = PoolLimits(prestart=0, max_workers=8)
        self._tokens = 0
        self.logic = NodeLogic(units(CPU=4, GPU=1), limits, "n1", self._new_token)
        self.control = Control(cast(ControlOwner, self), NODE)
        self.eligibility = Eligibility(NODE, "n1", {}, self.logic.ledger)
        self.metrics = UserMetrics(self.control.has_driver)
        self.fanout = Fanout(lambda wish: None)
        self.deaths = DeathTable(100)
        self.book = ProcessBook(100, "/logs")
        self.snapshots = Snapshots(
            snapshot_pb2.NodeSnapshot(node_id=NODE),
            Path("/nowhere"),
            self.control.clients,
            self.book,
            self.logic.environments.describe,
            lambda answer: self.said.append(answer),
            lambda delay_s, action: self.later.append(action),
            self.aside,
        )
        self.said: list[snapshot_pb2.NodeSnapshot] = []
        self.later: list[Callable[[], None]] = []
        self.peers: dict[bytes, Peer] = {}
        self._gathered: list[m.Event] = []

    def _new_token(self) -> int:
        self._tokens += 1
        return self._tokens

    # ---- processes ----

    def connect(self, sender: bytes, pid: int, role: int) -> Peer:
        peer = self.peers[sender] = Peer(sender, pid, role)
        self.control.on_open(cast(Any, peer))
        return peer

    def say(self, sender: bytes, message: Message) -> None:
        """A process sends a message; one that was hung up on is gone before the next."""
        peer = self.peers[sender]
        if peer.closed:
            return
        self.control.on_frame(cast(Any, peer), _core.FRAME_CONTROL, 0, 0, message.SerializeToString())
        self.flush()
        if peer.closed:
            self.control.on_closed(cast(Any, peer), peer.closed)
        self.flush()
        self.logic.validate()

    def exposition(self) -> str:
        """What /metrics says of what the processes have measured."""
        registry = CollectorRegistry()
        registry.register(self.metrics)
        return generate_latest(registry).decode()

    def address(self, sender: bytes) -> common_pb2.ProcessAddress:
        return common_pb2.ProcessAddress(
            worker_id=sender, address="unix:/w", pid=self.peers[sender].hello.pid
        )

    # ---- the raylet ----

    def submit(self, *events: m.Event) -> None:
        gathered, self._gathered = self._gathered, []
        self._perform(self.logic.handle(*gathered, *events, now=self.now))

    def submit_soon(self, event: m.Event) -> None:
        self._gathered.append(event)

    def flush(self) -> None:
        if self._gathered:
            self.submit()

    def _perform(self, instructions: list[m.Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, m.ForkWorkers):
                for token in instruction.tokens:
                    self.submit(m.Forked(token, 1000 + token))
                    self.connect(worker_id(token), 1000 + token, _core.ROLE_WORKER)
                    registers = raylet_pb2.RegisterWorker(
                        address=self.address(worker_id(token)), start_token=token
                    )
                    self.say(worker_id(token), raylet_pb2.ClientMessage(register_worker=registers))
            elif isinstance(instruction, m.EndWorker):
                self.submit(m.WorkerDied(instruction.token, observed(1, 0, 15, known=True)))
            elif isinstance(instruction, m.ReportActor):
                self.up(actor_report=instruction.report)
            elif isinstance(instruction, m.ProcessEnded) and instruction.worker_id:
                self.deaths.record(instruction.worker_id, instruction.cause)
                self.book.ended(instruction.worker_id, instruction.cause)
                self.up(
                    process_died=gcs_pb2.ProcessDied(worker_id=instruction.worker_id, cause=instruction.cause)
                )

    def up(self, **body: Any) -> None:
        """To the GCS, which refuses the node with all its workers for one message that is malformed."""
        self._down(self.gcs.up(1, **body))

    def _down(self, out: Effects) -> None:
        for to, message in out.messages:
            assert to == NODE
            if message.HasField("start_actor"):
                start = message.start_actor
                self.submit(m.ActorWanted(start.spec, start.incarnation, start.bundle_index))
            elif message.HasField("stop_actor"):
                stop = message.stop_actor
                self.submit(m.ActorUnwanted(stop.actor_id, stop.incarnation, stop.graceful, stop.cause))
            elif message.HasField("job_ended"):
                self.submit(m.JobOver(message.job_ended.job_id, message.job_ended.reason))

    # ---- what Control asks for ----

    def worker_joined(self, session: Session, event: m.WorkerJoined, request_id: int) -> None:
        self._perform(self.logic.handle(event, now=self.now))
        self.book.joined(session.worker_id, session.pid, is_driver=False)

    def driver_joined(self, session: Session, job: gcs_pb2.Job, request_id: int) -> None:
        self.submit(m.DriverJoined(session.worker_id, job.job_id))

    def driver_gone(self, session: Session) -> None:
        self.job_without_driver(session.job_id)

    def job_without_driver(self, job_id: bytes) -> None:
        self.up(job_ended=gcs_pb2.JobEnded(job_id=job_id, reason="its driver disconnected"))

    def job_of(self, sender: bytes) -> bytes:
        worker = self.logic.pool.by_id(sender)
        return worker.job_id if worker is not None else b""

    def gcs_call(
        self,
        call: raylet_pb2.GcsCall,
        sender: bytes,
        timeout_s: float,
        on_reply: Callable[[gcs_pb2.RelayReply], None],
    ) -> None:
        out = Effects()
        try:
            reply = methods.call(self.gcs.state, call.method, call.payload, out)
        except RequestError as error:
            on_reply(gcs_pb2.RelayReply(status=error.status, error=error.message))
        else:
            payload = reply.SerializeToString() if isinstance(reply, Message) else b""
            on_reply(gcs_pb2.RelayReply(payload=payload))
        self._down(self.gcs.settle(out))

    def snapshot_taken(self, session: Session, snapshot: snapshot_pb2.ProcessSnapshot) -> None:
        self.snapshots.answered(session, self.control.has_driver(session.job_id), snapshot)

    def task_events(self, batch: common_pb2.TaskEventBatch) -> None:
        self.up(task_events=batch)

    def metric_batch(self, sender: bytes, job_id: bytes, batch: raylet_pb2.MetricBatch) -> None:
        self.metrics.record(sender, job_id, batch)

    def metrics_end(self, sender: bytes, job_id: bytes) -> None:
        self.metrics.process_gone(sender, job_id)

    def subscribe(self, session: Session, request: raylet_pb2.Subscribe) -> None:
        self.fanout.subscribe(session.worker_id, request.channel, request.after_sequence, lambda _: None)

    def unsubscribe(self, session: Session) -> None:
        self.fanout.unsubscribe(session.worker_id)
        self.snapshots.gone(session.worker_id)

    def ask_death(self, sender: bytes, answer: Callable[[Any], None], timeout_s: float) -> None:
        self.deaths.ask(sender, answer, None)

    def finish_output(self, job_id: bytes) -> None:
        pass

    def template_connected(self, session: Session) -> bool:
        return False

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        self.later.append(action)

    def aside(self, blocking: Callable[[], None], then: Callable[[], None]) -> None:
        blocking()
        then()


def node_with_work() -> Node:
    """One with a driver that has two leases and an actor that runs."""
    node = Node()
    node.connect(DRIVER, 7, _core.ROLE_DRIVER)
    registers = raylet_pb2.RegisterDriver(address=node.address(DRIVER))
    node.say(DRIVER, raylet_pb2.ClientMessage(request_id=1, register_driver=registers))
    wishes = raylet_pb2.RequestLeases(
        class_key=1, wanted=2, resources=common_pb2.Resources(amounts=units(CPU=1)), job_id=JOB
    )
    node.say(DRIVER, raylet_pb2.ClientMessage(request_leases=wishes))
    spec = actor_spec(1, owner=node.address(DRIVER))
    spec.owner.node_id = NODE
    create = gcs_pb2.CreateActorsRequest(specs=[spec]).SerializeToString()
    call = raylet_pb2.GcsCall(method="CreateActors", payload=create)
    node.say(DRIVER, raylet_pb2.ClientMessage(request_id=2, gcs_call=call))
    return node


WORKERS = [worker_id(token) for token in (1, 2, 3)]
KNOWN: Mapping[str, st.SearchStrategy[Any]] = {
    "job_id": st.just(JOB),
    "worker_id": st.sampled_from([DRIVER, *WORKERS]),
    "actor_id": st.just(actor_id(1)),
    "node_id": st.just(NODE),
    "incarnation": st.just(1),
    "class_key": st.integers(1, 3),
    "lease_id": st.integers(1, 4),
    "wanted": st.integers(0, 5),
    "amounts": st.just(10_000),
    "channel": st.sampled_from(["actors", "errors"]),
    "method": st.sampled_from(sorted(methods.METHODS)),
    "round": st.just(1),
    "tag_keys": st.sampled_from(["a", "le"]),
}
BODIES = sorted(field.name for field in raylet_pb2.ClientMessage.DESCRIPTOR.oneofs_by_name["body"].fields)
messages = st.sampled_from(BODIES).flatmap(lambda body: message_with(raylet_pb2.ClientMessage, body, KNOWN))


def test_the_node_works() -> None:
    node = node_with_work()
    assert [worker.worker_id for worker in node.logic.pool] == WORKERS
    assert node.gcs.actor(1).state == gcs_pb2.Actor.STARTING
    started = raylet_pb2.ActorStarted(actor_id=actor_id(1), incarnation=1)
    node.say(WORKERS[2], raylet_pb2.ClientMessage(actor_started=started))
    assert node.gcs.actor(1).state == gcs_pb2.Actor.ALIVE


def test_who_has_no_id_is_hung_up_on() -> None:
    node = Node()
    nameless = node.connect(bytes(16), 8, _core.ROLE_WORKER)
    assert "worker id" in nameless.closed
    assert len(node.control) == 0


def hear(said: list[tuple[bytes, Message]]) -> None:
    """All of it, then the ends of all connections; raises when the node or its GCS is harmed."""
    node = node_with_work()
    node.snapshots.take(snapshot_pb2.TakeSnapshot(round=1, limit=1, tasks=True, objects=True))
    for sender, message in said:
        node.say(sender, message)
    list(text_string_to_metric_families(node.exposition()))
    methods.call(node.gcs.state, "ListTaskEvents", b"", Effects())
    for peer in list(node.peers.values()):
        if not peer.closed:
            node.control.on_closed(cast(Any, peer), "closed by peer")
    node.flush()
    node.logic.validate()
    for action in node.later:
        action()
    assert len(node.control) == 0
    assert len(node.said) == 1


Said = raylet_pb2.ClientMessage
UNKNOWN = common_pb2.DeathCause(kind=cast(Any, 99))


@pytest.mark.parametrize(
    ("sender", "message"),
    [
        (DRIVER, Said(task_events=common_pb2.TaskEventBatch(events=[common_pb2.TaskEvent(job_id=b"")]))),
        (WORKERS[0], Said(exiting=raylet_pb2.Exiting(cause=UNKNOWN))),
        (
            WORKERS[2],
            Said(
                actor_started=raylet_pb2.ActorStarted(
                    actor_id=actor_id(1), incarnation=1, failed=True, cause=UNKNOWN
                )
            ),
        ),
    ],
    ids=["event without a job", "unknown end", "unknown end of an actor"],
)
def test_what_once_harmed_a_node(sender: bytes, message: Message) -> None:
    hear([(sender, message)])


@settings(max_examples=150)
@given(said=st.lists(st.tuples(st.sampled_from([DRIVER, *WORKERS]), messages), min_size=1, max_size=6))
def test_no_message_of_a_process_harms_its_node(said: list[tuple[bytes, Message]]) -> None:
    hear(said)
