"""Random lives of actors on simulated nodes and networks.

Whatever is lost, delayed or restarted: an actor never has two processes, never restarts more often than it
may, and once everything is delivered it is ALIVE in exactly one process or DEAD in none.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aktis._proto import common_pb2, gcs_pb2
from aktisd.gcs.effects import Effects
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.gcs_parts import (
    SimulatedCluster,
    actor_id,
    actor_spec,
    node_id,
    process,
    registration,
    resources,
    worker_id,
)

Actor = gcs_pb2.Actor
Cause = common_pb2.DeathCause
Report = gcs_pb2.ActorReport

NODES = st.integers(0, 2)
PICK = st.integers(0, 10)


@dataclass
class Process:
    """An actor's process on a simulated node."""

    incarnation: int
    worker: int
    alive: bool = False


@dataclass
class Raylet:
    """One node: what runs there, and what is on the wire in both directions."""

    number: int
    connected: bool = False
    processes: dict[bytes, Process] = field(default_factory=dict)
    down: deque[gcs_pb2.NodeDown] = field(default_factory=deque)
    up: deque[gcs_pb2.NodeUp] = field(default_factory=deque)

    def tell(self, **body: Any) -> None:
        """Put a message on the wire, if there is one."""
        if self.connected:
            self.up.append(gcs_pb2.NodeUp(**body))

    def report(self, actor: bytes, incarnation: int, event: Any, **fields: Any) -> gcs_pb2.ActorReport:
        """Return a report."""
        return Report(actor_id=actor, incarnation=incarnation, event=event, **fields)

    def truth(self) -> list[gcs_pb2.ActorReport]:
        """Return what a registration says."""
        return [
            self.report(actor, p.incarnation, Report.ALIVE, address=process(p.worker, self.number))
            if p.alive
            else self.report(actor, p.incarnation, Report.EVENT_UNSPECIFIED)
            for actor, p in self.processes.items()
        ]

    def end(self, actor: bytes, cause: common_pb2.DeathCause) -> None:
        """A process is gone; what follows is reported."""
        gone = self.processes.pop(actor)
        self.tell(actor_report=self.report(actor, gone.incarnation, Report.DIED, cause=cause))
        self.tell(process_died=gcs_pb2.ProcessDied(worker_id=worker_id(gone.worker)))

    def handle(self, message: gcs_pb2.NodeDown, room: bool, worker: int) -> None:
        """Do what the GCS says."""
        if message.HasField("start_actor"):
            start = message.start_actor
            if room:
                self.processes[start.spec.actor_id] = Process(start.incarnation, worker)
            else:
                self.tell(actor_report=self.report(start.spec.actor_id, start.incarnation, Report.NO_ROOM))
        elif message.HasField("stop_actor"):
            stop = message.stop_actor
            there = self.processes.get(stop.actor_id)
            if there is not None and there.incarnation == stop.incarnation:
                self.end(stop.actor_id, stop.cause)


class ActorMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = SimulatedCluster()
        self.raylets = [Raylet(number) for number in (1, 2, 3)]
        self.next_node = 4
        self.next_worker = 1_000
        self.budgets: dict[bytes, int] = {}
        self.connect(0)
        self.cluster.job()

    # ---- what may happen ----

    @rule(restarts=st.sampled_from([0, 1, 3, -1]), cpus=st.integers(0, 1), owner=PICK, detached=st.booleans())
    def create(self, restarts: int, cpus: int, owner: int, detached: bool) -> None:
        number = len(self.budgets) + 1
        self.budgets[actor_id(number)] = restarts
        running = [(r.number, p.worker) for r in self.raylets for p in r.processes.values() if p.alive]
        node, worker = running[owner] if owner < len(running) else (1, 1)
        spec = actor_spec(
            number,
            name=f"n{number}",
            max_restarts=restarts,
            resources=resources({"CPU": cpus}),
            owner=process(worker, node),
            detached=detached,
        )
        (result,), out = self.cluster.create(spec)
        if result.error:  # type: ignore[attr-defined]
            del self.budgets[actor_id(number)]  # its owner was known to be dead
        self.put_on_wire(out)

    @rule(where=NODES, room=st.booleans(), count=st.integers(1, 5))
    def deliver_down(self, where: int, room: bool, count: int) -> None:
        raylet = self.raylets[where]
        for _ in range(min(count, len(raylet.down))):
            self.next_worker += 1
            raylet.handle(raylet.down.popleft(), room, self.next_worker)

    @rule(where=NODES, count=st.integers(1, 5))
    def deliver_up(self, where: int, count: int) -> None:
        raylet = self.raylets[where]
        for _ in range(min(count, len(raylet.up))):
            out = Effects()
            self.cluster.state.up(node_id(raylet.number), raylet.up.popleft(), out)
            self.put_on_wire(self.cluster.settle(out))

    @rule(where=NODES, which=PICK)
    def constructor_returns(self, where: int, which: int) -> None:
        raylet = self.raylets[where]
        starting = [item for item in raylet.processes.items() if not item[1].alive]
        if which < len(starting):
            actor, there = starting[which]
            there.alive = True
            address = process(there.worker, raylet.number)
            raylet.tell(actor_report=raylet.report(actor, there.incarnation, Report.ALIVE, address=address))

    @rule(
        where=NODES, which=PICK, kind=st.sampled_from([Cause.SIGNALED, Cause.INTENDED, Cause.CREATION_FAILED])
    )
    def process_dies(self, where: int, which: int, kind: Any) -> None:
        raylet = self.raylets[where]
        if which < len(raylet.processes):
            raylet.end(list(raylet.processes)[which], Cause(kind=kind))

    @rule(where=NODES)
    def connect(self, where: int) -> None:
        raylet = self.raylets[where]
        raylet.down.clear()
        raylet.up.clear()
        raylet.connected = True
        workers = [worker_id(1), *(worker_id(p.worker) for p in raylet.processes.values())]
        request = registration(
            raylet.number,
            running_actors=raylet.truth(),
            live_jobs=[b"\0\0\0\1"],
            live_processes=gcs_pb2.ProcessList(worker_ids=workers),
        )
        out = Effects()
        self.cluster.state.register(request, out)
        self.put_on_wire(self.cluster.settle(out))

    @rule(where=NODES)
    def disconnect(self, where: int) -> None:
        raylet = self.raylets[where]
        if raylet.connected:
            self.cut(raylet)
            out = Effects()
            self.cluster.state.disconnected(node_id(raylet.number), out)
            self.put_on_wire(self.cluster.settle(out))

    @precondition(lambda self: self.next_node < 8)
    @rule(where=st.integers(1, 2))
    def node_dies(self, where: int) -> None:
        raylet = self.raylets[where]
        if raylet.connected:
            out = Effects()
            self.cluster.state.up(node_id(raylet.number), gcs_pb2.NodeUp(leaving=gcs_pb2.NodeLeaving()), out)
            self.raylets[where] = Raylet(self.next_node)
            self.next_node += 1
            self.put_on_wire(self.cluster.settle(out))

    @rule()
    def restart_gcs(self) -> None:
        for raylet in self.raylets:
            self.cut(raylet)
        self.cluster.restart()

    @rule(which=PICK, no_restart=st.booleans(), graceful=st.booleans())
    def kill(self, which: int, no_restart: bool, graceful: bool) -> None:
        if which < len(self.budgets):
            actor = list(self.budgets)[which]
            request = gcs_pb2.KillActorRequest(actor_id=actor, no_restart=no_restart, graceful=graceful)
            out = Effects()
            assert self.cluster.state.actors.kill(request, out)
            self.put_on_wire(self.cluster.settle(out))

    @rule(passed_ms=st.sampled_from([50, 500, 10_000]))
    def time_passes(self, passed_ms: int) -> None:
        self.cluster.clock.advance(passed_ms)
        self.put_on_wire(self.cluster.settle(Effects()))

    # ---- what must hold ----

    @invariant()
    def never_two_processes(self) -> None:
        for actor in self.budgets:
            there = [(r.number, r.processes[actor]) for r in self.raylets if actor in r.processes]
            assert len(there) <= 1, (there, self.cluster.state.actors.story(actor))

    @invariant()
    def state_is_consistent(self) -> None:
        self.cluster.state.actors.validate()

    @invariant()
    def budget_is_kept(self) -> None:
        for record in self.cluster.state.actors.table:
            budget = self.budgets[record.actor_id]
            assert budget == -1 or record.restarts <= budget
            assert record.incarnation >= record.restarts

    def teardown(self) -> None:
        """Deliver everything; then each actor is ALIVE in exactly one process or DEAD in none."""
        for where, raylet in enumerate(self.raylets):
            if not raylet.connected:
                self.connect(where)
        for _ in range(200):
            self.time_passes(10_000)
            for where, raylet in enumerate(self.raylets):
                raylet.tell(heartbeat=gcs_pb2.NodeHeartbeat())
                self.deliver_down(where, True, 1_000)
                for _ in raylet.processes:
                    self.constructor_returns(where, 0)
                self.deliver_up(where, 1_000)
            if self.is_quiet():
                break
        for actor in self.budgets:
            self.check_end(actor)

    # ---- helpers ----

    def put_on_wire(self, out: Effects) -> None:
        by_id = {node_id(raylet.number): raylet for raylet in self.raylets if raylet.connected}
        for to, message in out.messages:
            if to in by_id:
                by_id[to].down.append(message)

    def cut(self, raylet: Raylet) -> None:
        raylet.connected = False
        raylet.down.clear()
        raylet.up.clear()

    def is_quiet(self) -> bool:
        counts = self.cluster.state.actors.table.counts
        settled = counts[Actor.ALIVE] + counts[Actor.DEAD] == len(self.budgets)
        return settled and not any(raylet.down or raylet.up for raylet in self.raylets)

    def check_end(self, actor: bytes) -> None:
        record = self.cluster.state.actors.table.get(actor)
        assert record is not None
        story = self.cluster.state.actors.story(actor)
        there = [(r.number, r.processes[actor]) for r in self.raylets if actor in r.processes]
        if record.state == Actor.DEAD:
            assert not there, story
        else:
            assert record.state == Actor.ALIVE, story
            ((number, running),) = there
            assert running.incarnation == record.incarnation, story
            assert record.node_id == node_id(number), story
            assert not record.ending, story


TestActorMachine = ActorMachine.TestCase
TestActorMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
