"""Random lives of placement groups on simulated nodes, with the raylets' own tables of bundles.

Whatever is lost, delayed or restarted: no node gives away more than it has, and once everything is delivered
the nodes hold exactly the bundles of the groups that exist, where the GCS says that they are.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aktis._proto import gcs_pb2
from aktisd.gcs.effects import Effects
from aktisd.gcs.placement_groups import policies
from aktisd.gcs.placement_groups.record import WAITING, Group
from aktisd.raylet.bundles import BundleTable
from aktisd.raylet.messages import (
    BUNDLE_EVENTS,
    BundlesCommitted,
    BundlesUnwanted,
    BundlesWanted,
    Instruction,
    ReportBundles,
)
from aktisd.raylet.resources import Ledger

from tests.support.fake_node import units
from tests.support.gcs_parts import (
    SimulatedCluster,
    group_spec,
    node_id,
    process,
    registration,
    resources,
)

CPUS = 4
NODES = 3
STEPS = 150
SEEDS = 150
STRATEGIES = ["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]


@dataclass
class Raylet:
    """One node: its bundles, what its tasks hold, and what is on the wire in both directions."""

    number: int
    connected: bool = False
    ledger: Ledger = field(default_factory=lambda: Ledger(units(CPU=CPUS)))
    outbox: list[Instruction] = field(default_factory=list)
    tasks: list[Any] = field(default_factory=list)
    down: deque[gcs_pb2.NodeDown] = field(default_factory=deque)
    up: deque[gcs_pb2.NodeUp] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.bundles = BundleTable(self.ledger, self.outbox)

    def take(self, message: gcs_pb2.NodeDown) -> None:
        """Carry out an order as the raylet does."""
        for order in message.bundle_orders.orders:
            self.carry_out(order)
        for instruction in self.outbox:
            if isinstance(instruction, ReportBundles):
                self.up.append(gcs_pb2.NodeUp(bundle_answers=instruction.answers))
        self.outbox.clear()
        if any(order.HasField("give_back") for order in message.bundle_orders.orders):
            self.report()
        self.ledger.validate()
        self.bundles.validate()

    def carry_out(self, order: gcs_pb2.BundleOrder) -> None:
        """Do one thing with bundles."""
        event = BUNDLE_EVENTS[str(order.WhichOneof("order"))](order)
        match event:
            case BundlesWanted():
                self.bundles.prepare(event, 0.0)
            case BundlesCommitted():
                self.bundles.commit(event, 0.0)
            case BundlesUnwanted():
                for group in event.groups:
                    self.bundles.give_back(group, event.attempt)

    def report(self) -> None:
        """Put what is free on the wire, after what was answered before."""
        if self.connected:
            self.up.append(gcs_pb2.NodeUp(resources=self.update()))

    def update(self) -> gcs_pb2.ResourceUpdate:
        """Return what is free."""
        available = resources({"CPU": self.ledger.available["CPU"] / 10_000})
        return gcs_pb2.ResourceUpdate(
            total=resources({"CPU": CPUS}), available=available, bundles=self.bundles.usage()
        )

    def held(self) -> set[tuple[bytes, int, bool]]:
        """Return the bundles that are reserved here, and whether they may be used."""
        return {(r.placement_group_id, r.index, r.committed) for r in self.bundles.reports()}


class Simulation:
    """A GCS, three nodes, and actions that a generator of random numbers chooses."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cluster = SimulatedCluster()
        self.fresh_node = 0
        self.groups = 0
        self.unanswered: list[gcs_pb2.PlacementGroupSpec] = []
        self.nodes = [self.new_node() for _ in range(NODES)]
        for index in range(NODES):
            self.connect(index)
        self.cluster.job(driver=1, node=99)
        self.actions: dict[Callable[[], None], int] = {
            self.create: 4,
            self.create_and_wait_for_answers: 4,
            self.remove: 4,
            lambda: self.deliver(self.some_node(), downwards=True): 20,
            lambda: self.deliver(self.some_node(), downwards=False): 20,
            self.exchange_everything: 1,
            lambda: self.task_begins(self.some_node()): 5,
            lambda: self.task_ends(self.some_node()): 4,
            lambda: self.disconnect(self.some_node()): 2,
            lambda: self.connect(self.some_node()): 6,
            lambda: self.die(self.some_node()): 1,
            self.restart_the_gcs: 1,
        }

    def run(self) -> None:
        """Act, then let everything be delivered and look."""
        for action in self.rng.choices(list(self.actions), list(self.actions.values()), k=STEPS):
            action()
            self.cluster.state.groups.validate()
        self.settle()

    def some_node(self) -> int:
        return self.rng.randrange(NODES)

    def new_node(self) -> Raylet:
        self.fresh_node += 1
        return Raylet(self.fresh_node - 1)

    def send(self, messages: list[tuple[bytes, gcs_pb2.NodeDown]]) -> None:
        for to, message in messages:
            for node in self.nodes:
                if node_id(node.number) == to and node.connected:
                    node.down.append(message)

    def let_out(self, out: Effects) -> None:
        self.send(out.messages)
        self.unanswered.clear()
        for to, _ in out.refusals:
            for index, node in enumerate(self.nodes):
                if node_id(node.number) == to:  # declared dead: it ends everything and comes back anew
                    self.nodes[index] = self.new_node()

    # ---- actions ----

    def connect(self, index: int) -> None:
        node = self.nodes[index]
        if node.connected:
            return
        node.connected = True
        node.down.clear()
        # As the raylet's stream does: answers are kept, what the registration says anew is not.
        node.up = deque(message for message in node.up if message.HasField("bundle_answers"))
        register = registration(node.number, cpus=CPUS, bundles=node.bundles.reports())
        register.node.available.CopyFrom(node.update().available)
        out = self.cluster.step()
        self.cluster.state.register(register, out)
        self.let_out(self.cluster.settle(out))

    def disconnect(self, index: int) -> None:
        node = self.nodes[index]
        if node.connected:
            node.connected = False
            node.down.clear()
            out = self.cluster.step()
            self.cluster.state.disconnected(node_id(node.number), out)
            self.let_out(self.cluster.settle(out))

    def die(self, index: int) -> None:
        node = self.nodes[index]
        if node.connected:
            self.let_out(self.cluster.up(node.number, leaving=gcs_pb2.NodeLeaving(reason="test")))

    def create(self) -> None:
        self.let_out(self.create_groups(self.new_spec()))

    def new_spec(self) -> gcs_pb2.PlacementGroupSpec:
        self.groups += 1
        cpus = self.rng.choices([1, 2, 3, 5], [6, 4, 2, 1], k=self.rng.randint(1, 3))
        bundles = [{"CPU": amount} for amount in cpus]
        return group_spec(self.groups, self.rng.choice(STRATEGIES), *bundles, owner=process(1, 99))

    def create_groups(self, *specs: gcs_pb2.PlacementGroupSpec) -> Effects:
        errors, out = self.cluster.create_groups(*specs)
        assert not any(errors)
        return out

    def create_and_wait_for_answers(self) -> None:
        spec = self.new_spec()
        self.unanswered.append(spec)
        out = self.cluster.step()
        self.cluster.state.create_groups(gcs_pb2.CreatePlacementGroupsRequest(specs=[spec]), out)
        self.send(self.cluster.hold(out))

    def remove(self) -> None:
        if self.groups:
            self.let_out(self.cluster.remove_groups(self.rng.randint(1, self.groups)))

    def task_begins(self, index: int) -> None:
        node = self.nodes[index]
        allocation = node.ledger.allocate(units(CPU=1))
        if allocation is not None:
            node.tasks.append(allocation)
            node.report()

    def task_ends(self, index: int) -> None:
        node = self.nodes[index]
        if node.tasks:
            node.ledger.release(node.tasks.pop())
            node.report()

    def deliver(self, index: int, *, downwards: bool) -> None:
        node = self.nodes[index]
        if downwards and node.down:
            node.take(node.down.popleft())
        elif not downwards and node.up and node.connected:
            self.let_out(self.up(node, node.up.popleft()))

    def exchange_everything(self) -> None:
        while any((node.up or node.down) and node.connected for node in self.nodes):
            for index in range(NODES):
                self.deliver(index, downwards=True)
                self.deliver(index, downwards=False)

    def up(self, node: Raylet, message: gcs_pb2.NodeUp) -> Effects:
        out = self.cluster.step()
        self.cluster.state.nodes.sign_of_life(node_id(node.number), out)
        self.cluster.state.up(node_id(node.number), message, out)
        return self.cluster.settle(out)

    def restart_the_gcs(self) -> None:
        self.cluster.restart()
        for node in self.nodes:
            node.connected = False
            node.down.clear()
        if self.unanswered:  # what was lost before it was stored is asked for again
            self.let_out(self.create_groups(*self.unanswered))

    # ---- the end ----

    def deliver_everything(self) -> None:
        for index in range(NODES):
            self.connect(index)
        self.exchange_everything()

    def settle(self) -> None:
        self.deliver_everything()
        for node in self.nodes:
            node.report()
        self.deliver_everything()
        groups = self.cluster.state.groups
        groups.validate()
        expected: set[tuple[bytes, bytes, int, bool]] = set()
        for record in groups.table:
            assert record.state != Group.PREPARING
            for index, place in enumerate(record.places):
                if place.node_id and record.state != Group.REMOVED:
                    expected.add((place.node_id, record.group_id, index, True))
        held = {(node_id(node.number), *bundle) for node in self.nodes for bundle in node.held()}
        assert held == expected
        for record in groups.table:
            if record.state in WAITING:
                rooms = groups.rooms()
                assert policies.assign(record.spec.strategy, record.missing(), rooms, record.kept()) is None
                assert groups.pending_reason(record)[0]
        for number in range(1, self.groups + 1):
            self.let_out(self.cluster.remove_groups(number))
        self.deliver_everything()
        assert not any(node.held() for node in self.nodes)
        assert groups.table.living == 0


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_nodes_hold_what_the_gcs_says(seed: int) -> None:
    Simulation(seed).run()
