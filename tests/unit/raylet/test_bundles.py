"""Bundles of placement groups in the node's logic: reserved, used by leases and actors, given back."""

import pytest
from aktis._proto import gcs_pb2
from aktisd.raylet import messages as m
from aktisd.raylet.causes import Kind
from aktisd.raylet.resources import Allocation, Ledger, bundle_ledger

from tests.support.fake_node import FakeNode, actor_spec, units

A, B = b"client-a", b"client-b"
GROUP, OTHER = b"g" * 16, b"o" * 16


def prepare(node: FakeNode, *bundles: dict[str, int], group: bytes = GROUP, attempt: int = 1) -> str:
    """Ask for bundles 0, 1, ...; returns why they were refused."""
    node.send(m.BundlesWanted((group,), attempt, dict(enumerate(bundles))))
    (report,) = node.take(m.ReportBundles)
    (answer,) = report.answers.answers
    assert answer.attempt == attempt
    assert answer.refused == bool(answer.reason)
    return answer.reason


def reserve(node: FakeNode, *bundles: dict[str, int], group: bytes = GROUP) -> None:
    assert prepare(node, *bundles, group=group) == ""
    node.send(m.BundlesCommitted((group,), 1))


def request(
    node: FakeNode, wanted: int, index: int = -1, *, client: bytes = A, key: int = 1, **amounts: float
) -> None:
    needs = units(**(amounts or {"CPU": 1}))
    node.send(m.LeasesRequested(client, key, wanted, needs, b"job1", "f", group=GROUP, bundle_index=index))


def want_actor(node: FakeNode, name: str, index: int = -1, *, cpus: float = 1) -> gcs_pb2.ActorSpec:
    spec = actor_spec(name, cpus=cpus)
    spec.strategy.placement_group_id = GROUP
    node.send(m.ActorWanted(spec, 1, index))
    return spec


def remove(node: FakeNode, group: bytes = GROUP, attempt: int = 0) -> None:
    node.send(m.BundlesUnwanted((group,), attempt, "it was removed"))
    assert node.take(m.ReportResources)


def test_all_bundles_are_reserved_or_none() -> None:
    node = FakeNode(units(CPU=3))
    assert "bundle 1 needs 2 CPU" in prepare(node, units(CPU=2), units(CPU=2))
    assert node.free_cpus() == 3
    assert prepare(node, units(CPU=2), units(CPU=1)) == ""
    assert node.free_cpus() == 0


def test_the_same_order_again_reserves_nothing_more() -> None:
    node = FakeNode(units(CPU=3))
    assert prepare(node, units(CPU=1)) == ""
    assert prepare(node, units(CPU=1)) == ""
    assert node.free_cpus() == 2
    assert "earlier attempt" in prepare(node, units(CPU=1), attempt=2)


def test_nobody_uses_what_is_only_prepared() -> None:
    node = FakeNode(units(CPU=2))
    assert prepare(node, units(CPU=1)) == ""
    request(node, 1)
    assert node.granted() == []
    assert node.take(m.TellPending) == []  # it may come
    node.send(m.BundlesCommitted((GROUP,), 2))  # of another attempt
    assert node.granted() == []
    node.send(m.BundlesCommitted((GROUP,), 1))
    assert len(node.granted()) == 1


def test_leases_of_a_group_draw_from_its_bundles_only() -> None:
    node = FakeNode(units(CPU=4))
    reserve(node, units(CPU=1), units(CPU=2))
    request(node, 9)
    assert len(node.granted()) == 3
    assert node.free_cpus() == 1
    node.request(B, 9)
    assert len(node.granted(B)) == 1


def test_leases_of_one_bundle() -> None:
    node = FakeNode(units(CPU=4))
    reserve(node, units(CPU=1), units(CPU=2))
    request(node, 9, index=1)
    (first, second) = node.granted()
    request(node, 1, index=0, key=2)
    assert len(node.granted()) == 1
    node.give_back(A, first.lease_id)
    assert [lease.token for lease in node.granted()] == [first.token]
    assert second.token != first.token


def test_what_no_bundle_can_ever_hold_is_said() -> None:
    node = FakeNode(units(CPU=4))
    reserve(node, units(CPU=1), units(CPU=2))
    request(node, 1, CPU=3)
    (told,) = node.take(m.TellPending)
    assert told.infeasible
    assert "bundle 0 needs CPU 3, has 1; bundle 1 needs CPU 3, has 2" in told.explanation


def test_removal_frees_what_is_unused_at_once_and_the_rest_when_its_users_are_dead() -> None:
    node = FakeNode(units(CPU=4))
    reserve(node, units(CPU=3))
    request(node, 1)
    (lease,) = node.granted()
    node.deaths_on_end = False
    remove(node)
    assert node.free_cpus() == 3
    (end,) = node.take(m.EndWorker)
    assert end.token == lease.token
    assert end.force
    assert end.cause is not None
    assert end.cause.kind == Kind.PLACEMENT_GROUP_REMOVED
    node.die(lease.token, signal=9)
    assert node.free_cpus() == 4
    (lost,) = node.take(m.TellLost)
    assert lost.cause.kind == Kind.PLACEMENT_GROUP_REMOVED


def test_removal_ends_actors_that_run_and_those_that_wait_for_a_process() -> None:
    node = FakeNode(units(CPU=4))
    reserve(node, units(CPU=2))
    running = want_actor(node, "a1")
    node.forks = False
    waiting = want_actor(node, "a2")
    remove(node)
    died = {r.report.actor_id: r.report for r in node.take(m.ReportActor)}
    assert died.keys() == {running.actor_id, waiting.actor_id}
    assert all(r.cause.kind == Kind.PLACEMENT_GROUP_REMOVED for r in died.values())
    assert node.free_cpus() == 4


def test_an_actor_without_room_in_its_bundle_is_reported() -> None:
    node = FakeNode(units(CPU=4))
    reserve(node, units(CPU=1), units(CPU=1))
    want_actor(node, "a1", 0)
    want_actor(node, "a2", 0)
    want_actor(node, "a3", 7)
    want_actor(node, "a4")
    events = [(r.report.event, r.report.cause.message) for r in node.take(m.ReportActor)]
    assert events == [
        (gcs_pb2.ActorReport.NO_ROOM, "the node has too little CPU free"),
        (gcs_pb2.ActorReport.NO_ROOM, "no such bundle"),
    ]
    assert node.free_cpus() == 2


def test_returning_one_attempt_leaves_the_other() -> None:
    node = FakeNode(units(CPU=4))
    reserve(node, units(CPU=1))
    node.send(m.BundlesWanted((GROUP,), 2, {1: units(CPU=1)}))
    remove(node, attempt=2)
    assert node.free_cpus() == 3
    assert [(r.index, r.committed) for r in node.logic.bundles.reports()] == [(0, True)]
    remove(node)
    assert node.free_cpus() == 4
    assert len(node.logic.bundles) == 0


def test_nothing_is_kept_of_groups_that_are_not_here() -> None:
    node = FakeNode(units(CPU=4))
    remove(node)
    node.send(m.BundlesCommitted((GROUP,), 1))
    assert node.logic.bundles.changed(GROUP) == 0


def test_a_blocked_worker_lends_its_cpu_to_the_bundle() -> None:
    node = FakeNode(units(CPU=2))
    reserve(node, units(CPU=1))
    request(node, 1)
    (parent,) = node.granted()
    request(node, 1, client=parent.worker.worker_id)
    assert node.granted() == []
    node.send(m.BlockedChanged(parent.worker.worker_id, True))
    assert len(node.granted()) == 1
    assert node.free_cpus() == 1
    node.send(m.BlockedChanged(parent.worker.worker_id, False))
    remove(node)
    assert node.free_cpus() == 2


def test_gpu_instances_stay_with_the_bundle() -> None:
    node = FakeNode(units(CPU=4, GPU=3))
    reserve(node, units(CPU=1, GPU=1), units(CPU=1, GPU=1))
    request(node, 1, index=1, CPU=1, GPU=1)
    (lease,) = node.granted()
    assert lease.devices == {"GPU": (1,)}
    node.request(B, 3, CPU=0.5, GPU=1)
    assert [outside.devices for outside in node.granted(B)] == [{"GPU": (2,)}]
    node.deaths_on_end = False
    remove(node)
    assert [outside.devices for outside in node.granted(B)] == [{"GPU": (0,)}]
    node.die(lease.token, signal=9)
    assert [outside.devices for outside in node.granted(B)] == [{"GPU": (1,)}]


def test_a_share_of_a_gpu_is_shared_again_inside() -> None:
    ledger = Ledger(units(GPU=2))
    ledger.allocate(units(GPU=1))
    reservation = ledger.allocate(units(GPU=0.5))
    assert reservation is not None
    inner = bundle_ledger(reservation)
    parts = [inner.allocate(units(GPU=0.25)) for _ in range(3)]
    assert [part and part.devices() for part in parts] == [{"GPU": (1,)}, {"GPU": (1,)}, None]
    inner.validate()


def test_what_is_adopted_keeps_its_instances() -> None:
    ledger = Ledger(units(CPU=2, GPU=2))
    reservation = ledger.allocate(units(CPU=2, GPU=2))
    assert reservation is not None
    inner = bundle_ledger(reservation)
    inner.allocate(units(GPU=1))
    used = inner.allocate(units(CPU=1, GPU=1))
    assert isinstance(used, Allocation)
    inner.lend_cpu(used)
    ledger.release(reservation)
    ledger.adopt(used)
    ledger.validate()
    assert ledger.available == units(CPU=2, GPU=1)
    other = ledger.allocate(units(GPU=1))
    assert other is not None
    assert other.devices() != used.devices()
    used.home.release(used)
    ledger.validate()


def test_usage_names_only_bundles_of_which_something_is_used() -> None:
    node = FakeNode(units(CPU=4))
    reserve(node, units(CPU=2))
    reserve(node, units(CPU=1), group=OTHER)
    assert node.logic.bundles.usage() == []
    request(node, 1)
    (usage,) = node.logic.bundles.usage()
    assert usage.placement_group_id == GROUP
    assert usage.available.amounts == units(CPU=1)


def test_leases_of_a_group_do_not_count_against_the_job() -> None:
    """Others could not have what is reserved, so they need not be asked back for it."""
    node = FakeNode(units(CPU=2))
    reserve(node, units(CPU=1))
    request(node, 1)
    node.request(B, 1, job=b"job2")
    node.granted()
    node.request(b"client-c", 1, job=b"job3")
    node.advance(1.0)
    assert not [ask for ask in node.take(m.AskReclaim) if ask.client == A and ask.excess]


def test_idle_leases_are_asked_back_when_room_is_wanted() -> None:
    node = FakeNode(units(CPU=2))
    node.request(A, 1)
    node.granted()
    node.send(m.RoomWanted())
    assert [(ask.client, ask.excess) for ask in node.take(m.AskReclaim)] == [(A, 0)]
    node.send(m.RoomWanted())
    assert node.take(m.AskReclaim) == []


@pytest.mark.parametrize("gpus", [1, 0.5])
def test_a_worker_never_serves_with_other_devices_than_before(gpus: float) -> None:
    """Libraries look at CUDA_VISIBLE_DEVICES once."""
    node = FakeNode(units(CPU=2, GPU=2))
    node.request(A, 1, CPU=1, GPU=gpus)
    (first,) = node.granted()
    node.give_back(A, first.lease_id)
    node.request(A, 1, key=2, CPU=1)
    (without,) = node.granted()
    assert without.token != first.token
    node.request(A, 1, key=3, CPU=1, GPU=gpus)
    (again,) = node.granted()
    assert (again.token, again.devices) == (first.token, first.devices)


def test_a_worker_never_serves_with_another_number_of_threads_than_before() -> None:
    """Libraries look at OMP_NUM_THREADS once."""
    node = FakeNode(units(CPU=2))
    tokens = []
    for key, cpus in enumerate([1, 0.5, 2, 1], start=1):
        node.request(A, 1, key=key, CPU=cpus)
        (lease,) = node.granted()
        node.give_back(A, lease.lease_id)
        tokens.append(lease.token)
    assert tokens[0] == tokens[1] == tokens[3]
    assert tokens[2] != tokens[0]
