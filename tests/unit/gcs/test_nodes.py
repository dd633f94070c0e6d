"""Who may join, who is alive, and that our own lateness kills nobody."""

import pytest
from aktis._common.version import PROTOCOL_MAJOR
from aktis._proto import common_pb2, gcs_pb2
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError
from aktisd.gcs.limits import Limits
from aktisd.gcs.nodes import NodeManager, RefusedError
from aktisd.gcs.resource_view import ResourceView
from aktisd.gcs.storage.interface import Table

from tests.support.gcs_parts import SimulatedClock, node_id, registration, resources

Node = gcs_pb2.Node
NodeRefused = gcs_pb2.NodeRefused
LIMITS = Limits(heartbeat_period_ms=1_000, suspect_after_ms=5_000, dead_after_ms=15_000, dead_nodes=2)


class Nodes:
    """A manager with its clock and view."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.view = ResourceView()
        self.manager = NodeManager(self.clock, LIMITS, self.view)
        self.out = Effects()

    def register(self, number: int) -> None:
        self.manager.register(registration(number), self.out)

    def state(self, number: int) -> int:
        record = self.manager.get(node_id(number))
        assert record is not None
        return record.proto.state

    def pass_time(self, passed_ms: float, step_ms: float = 500) -> list[bytes]:
        dead = []
        while passed_ms > 0:
            self.clock.advance(step_ms)
            passed_ms -= step_ms
            dead += self.manager.tick(self.out)
        return dead


def test_silence_makes_suspect_then_dead() -> None:
    nodes = Nodes()
    nodes.register(1)
    nodes.pass_time(4_500)
    assert nodes.state(1) == Node.ALIVE
    nodes.pass_time(500)
    assert nodes.state(1) == Node.SUSPECT
    assert nodes.pass_time(9_500) == []
    assert nodes.pass_time(500) == [node_id(1)]
    assert nodes.state(1) == Node.DEAD
    assert not nodes.view
    assert nodes.manager.is_dead(node_id(1))
    (refusal,) = nodes.out.refusals
    assert refusal[1].code == NodeRefused.DECLARED_DEAD
    states = [publication.node.state for publication in nodes.out.publications]
    assert states == [Node.ALIVE, Node.SUSPECT, Node.DEAD]
    assert nodes.out.rows()[Table.NODES, node_id(1)] is not None


def test_any_message_revives_a_suspect() -> None:
    nodes = Nodes()
    nodes.register(1)
    nodes.pass_time(6_000)
    nodes.manager.sign_of_life(node_id(1), nodes.out)
    assert nodes.state(1) == Node.ALIVE
    nodes.pass_time(4_500)
    assert nodes.state(1) == Node.ALIVE


def test_a_gcs_that_was_stopped_blames_nobody() -> None:
    nodes = Nodes()
    nodes.register(1)
    assert nodes.pass_time(60_000, step_ms=60_000) == []
    assert nodes.state(1) == Node.ALIVE


def test_dead_node_may_not_come_back_under_its_id() -> None:
    nodes = Nodes()
    nodes.register(1)
    nodes.pass_time(20_000)
    with pytest.raises(RefusedError, match="new node id") as caught:
        nodes.register(1)
    assert caught.value.refusal.code == NodeRefused.DECLARED_DEAD
    nodes.register(2)
    assert nodes.state(2) == Node.ALIVE


def test_other_protocol_is_refused() -> None:
    request = registration(1)
    request.protocol_major = PROTOCOL_MAJOR + 1
    with pytest.raises(RefusedError, match="upgrade") as caught:
        Nodes().manager.register(request, Effects())
    assert caught.value.refusal.code == NodeRefused.VERSION


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (gcs_pb2.Node(node_id=b"short"), "node_id must have 16 bytes"),
        (gcs_pb2.Node(node_id=bytes(16)), "must not be zero"),
        (gcs_pb2.Node(hostname="x" * 1000), "hostname"),
        (gcs_pb2.Node(labels={"a": "x" * 100_000}), "labels"),
        (gcs_pb2.Node(total=common_pb2.Resources(amounts={"CPU": -1})), "total resources"),
        (gcs_pb2.Node(daemons=[gcs_pb2.Daemon()] * 1000), "daemons"),
    ],
)
def test_malformed_registration(change: gcs_pb2.Node, reason: str) -> None:
    request = registration(1)
    request.node.MergeFrom(change)
    nodes = Nodes()
    with pytest.raises(RefusedError, match=reason) as caught:
        nodes.manager.register(request, nodes.out)
    assert caught.value.refusal.code == NodeRefused.INVALID
    assert nodes.manager.list() == []


def test_reconnection_keeps_the_start_time_and_updates_the_rest() -> None:
    nodes = Nodes()
    nodes.register(1)
    nodes.manager.disconnected(node_id(1), nodes.out)
    assert not nodes.view
    assert not nodes.manager.all_connected()
    nodes.clock.advance(1_000)
    request = registration(1, cpus=8)
    nodes.manager.register(request, nodes.out)
    (node,) = nodes.manager.list()
    assert node.start_time_unix_ms == nodes.clock.unix_ms() - 1_000
    assert node.total.amounts["CPU"] == 80_000
    assert nodes.manager.all_connected()


def test_leaving_is_dying_at_once() -> None:
    nodes = Nodes()
    nodes.register(1)
    nodes.manager.leave(node_id(1), "maintenance", nodes.out)
    (node,) = nodes.manager.list()
    assert node.state == Node.DEAD
    assert "maintenance" in node.death_message


def test_reports_reach_the_view_and_heartbeats_the_record() -> None:
    nodes = Nodes()
    nodes.register(1)
    update = gcs_pb2.ResourceUpdate(total=resources({"CPU": 4}), available=resources({"CPU": 1}))
    nodes.manager.resources(node_id(1), update)
    node = nodes.view.get(node_id(1))
    assert node is not None
    assert node.available["CPU"] == 10_000
    daemons = [gcs_pb2.Daemon(name="raylet", pid=5)]
    nodes.manager.heartbeat(node_id(1), gcs_pb2.NodeHeartbeat(loop_lag_s=0.5, daemons=daemons))
    assert list(nodes.manager.list()[0].daemons) == daemons
    update.available.amounts["CPU"] = -5
    with pytest.raises(RequestError):
        nodes.manager.resources(node_id(1), update)


def test_oldest_dead_are_forgotten() -> None:
    nodes = Nodes()
    for number in range(1, 5):
        nodes.register(number)
        nodes.manager.leave(node_id(number), "", nodes.out)
        nodes.clock.advance(1)
    assert [node.node_id for node in nodes.manager.list()] == [node_id(3), node_id(4)]
    assert nodes.out.rows()[Table.NODES, node_id(1)] is None
    assert nodes.manager.counts() == {"ALIVE": 0, "SUSPECT": 0, "DEAD": 2}


def test_loaded_nodes_have_time_to_come_back() -> None:
    nodes = Nodes()
    nodes.register(1)
    nodes.register(2)
    nodes.manager.leave(node_id(2), "", nodes.out)
    rows = {key: value for (table, key), value in nodes.out.rows().items() if value is not None}
    again = Nodes()
    again.manager.load(rows)
    assert again.manager.is_dead(node_id(2))
    assert again.pass_time(14_500) == []
    assert again.pass_time(500) == [node_id(1)]
