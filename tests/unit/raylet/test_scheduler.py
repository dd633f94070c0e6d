"""Lease scheduling through the whole node logic: grants, waiting, fairness, lending, explanations."""

import pytest
from aktisd.raylet import messages as m
from aktisd.raylet.causes import Kind
from aktisd.raylet.scheduler import HOLD_S, QUANTUM_S, STARVED_AFTER
from aktisd.raylet.workers import PoolLimits

from tests.support.fake_node import FakeNode, units, worker_id

A, B, C = b"client-a", b"client-b", b"client-c"


def test_grants_as_many_as_fit_in_one_message_when_workers_are_idle() -> None:
    node = FakeNode(limits=PoolLimits(prestart=2, max_workers=8))
    node.send(m.Tick())
    node.request(A, 10)
    grants = node.take(m.Grant)
    assert [len(g.leases) for g in grants] == [2]
    assert node.free_cpus() == 0


def test_starts_workers_for_what_fits_only() -> None:
    node = FakeNode(units(CPU=3), forks=False)
    node.request(A, 100)
    assert len(node.forked) == 3
    for token in list(node.forked):
        node.start(token)
    assert len(node.granted(A)) == 3


def test_returned_lease_goes_to_the_next_request_with_the_same_worker() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 2)
    (first,) = node.granted()
    node.give_back(A, first.lease_id)
    (second,) = node.granted()
    assert second.token == first.token
    assert second.lease_id != first.lease_id


def test_higher_priorities_of_one_job_go_first_and_others_are_not_held_up() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 1)
    (lease,) = node.granted()
    node.request(B, 2, key=1)
    node.request(B, 2, key=2, priority=5)
    node.request(B, 1, key=3, priority=-1)
    node.request(A, 1, key=4, priority=5)
    node.request(C, 1, job=b"job2", priority=-9)
    holder = A
    order = []
    while True:
        node.give_back(holder, lease.lease_id)
        granted = node.take(m.Grant)
        if not granted:
            break
        ((grant,),) = [granted]
        (lease,), holder = grant.leases, grant.client
        order.append((grant.client, grant.class_key))
    assert [entry for entry in order if entry[0] != C] == [(B, 2), (A, 4), (B, 2), (B, 1), (B, 1), (B, 3)]
    assert order.index((C, 1)) <= 1  # jobs share the node, whatever their tasks say of themselves


def test_the_priority_of_a_request_that_waits_can_change() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 1)
    (lease,) = node.granted()
    node.request(B, 1, key=1)
    node.request(B, 1, key=2)
    node.request(B, 1, key=2, priority=1)
    node.give_back(A, lease.lease_id)
    assert [grant.class_key for grant in node.take(m.Grant)] == [2]


def test_a_later_request_replaces_and_zero_withdraws() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 5)
    (lease,) = node.granted()
    node.request(A, 0)
    node.give_back(A, lease.lease_id)
    assert node.granted() == []
    assert node.logic.scheduler.pending() == []
    assert node.free_cpus() == 1


def test_lease_ids_of_others_or_unknown_ones_are_ignored() -> None:
    node = FakeNode()
    node.request(A, 1)
    (lease,) = node.granted()
    node.give_back(B, lease.lease_id)
    node.give_back(A, 999)
    assert node.free_cpus() == 1


def test_infeasible_request_is_explained_once_and_served_when_the_node_grows() -> None:
    node = FakeNode(units(CPU=2, special=1))
    node.request(A, 1, CPU=1, special=3)
    (told,) = node.take(m.TellPending)
    assert told.infeasible
    assert told.explanation == "no node can ever serve it: node n1 needs special 3, has 1"
    node.request(A, 2, CPU=1, special=3)
    assert node.take(m.TellPending) == []
    node.send(m.TotalChanged("special", units(special=3)["special"]))
    assert len(node.granted(A)) == 1


def test_a_request_that_has_become_feasible_and_waits_is_told_so() -> None:
    node = FakeNode(units(CPU=1, special=1))
    node.request(A, 1, CPU=1, special=3)
    node.request(B, 1)
    node.take(m.TellPending)
    node.send(m.TotalChanged("special", units(special=3)["special"]))
    (told,) = node.take(m.TellPending)
    assert (told.client, told.infeasible) == (A, False)


def test_who_merely_waits_for_its_turn_is_told_nothing() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 1)
    node.request(B, 1)
    assert node.take(m.TellPending) == []


def test_who_is_granted_a_lease_while_others_wait_is_told_so_with_the_grant() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 1)
    assert [grant.others_wait for grant in node.take(m.Grant)] == [False]
    node.request(B, 1)
    assert [ask.client for ask in node.take(m.AskReclaim)] == [A]
    node.request(A, 1, key=2)
    node.give_back(A, 1)
    assert [(grant.client, grant.others_wait) for grant in node.take(m.Grant)] == [(B, True)]
    assert node.take(m.AskReclaim) == []  # that was it


def test_a_client_that_has_no_lease_left_is_not_asked_for_any() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 1)
    node.request(A, 1, key=2, CPU=2)
    (lease,) = node.granted(A)
    node.give_back(A, lease.lease_id)
    node.request(B, 1)
    node.request(B, 1, key=2)
    assert [ask.client for ask in node.take(m.AskReclaim)] == [B]


def test_who_had_to_wait_for_room_is_told_later_that_all_workers_are_stuck() -> None:
    node = FakeNode(units(CPU=1), limits=PoolLimits(prestart=0, max_workers=1))
    node.request(A, 1)
    (lease,) = node.granted(A)
    node.request(B, 1)
    assert node.take(m.TellPending) == []
    node.send(m.BlockedChanged(worker_id(lease.token), True))
    (told,) = node.take(m.TellPending)
    assert (told.client, told.stuck) == (B, True)


def test_an_infeasible_request_does_not_block_others() -> None:
    node = FakeNode()
    node.request(A, 1, CPU=64)
    node.request(B, 1)
    assert len(node.granted(B)) == 1


def test_holders_are_asked_for_idle_leases_once_while_others_wait() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 1)
    node.request(B, 1, key=2)
    node.request(B, 2, key=2)
    assert [ask.client for ask in node.take(m.AskReclaim)] == [A]


def test_a_flooding_job_shares_with_a_newcomer_by_giving_back_its_excess() -> None:
    node = FakeNode(units(CPU=4))
    node.request(A, 100, job=b"job1")
    held = node.granted(A)
    assert len(held) == 4
    node.request(B, 100, job=b"job2")
    node.advance(QUANTUM_S * 2)
    assert max(ask.excess for ask in node.take(m.AskReclaim) if ask.client == A) == 2
    node.give_back(A, held[0].lease_id, held[1].lease_id)
    assert len(node.granted(B)) == 2
    node.give_back(A, held[2].lease_id)
    assert (len(node.granted(A)), len(node.granted(B))) == (1, 0)


def test_jobs_take_turns_on_one_cpu() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 100, job=b"job1")
    (lease,) = node.granted()
    node.request(B, 100, job=b"job2")
    order = []
    holder = A
    for _ in range(6):
        node.advance(QUANTUM_S * 2)
        asks = [ask for ask in node.take(m.AskReclaim) if ask.excess]
        assert [ask.client for ask in asks] == [holder]
        node.give_back(holder, lease.lease_id)
        (grant,) = node.take(m.Grant)
        holder, lease = grant.client, grant.leases[0]
        order.append(holder)
    assert order == [B, A, B, A, B, A]


def test_no_excess_is_asked_before_the_quantum_and_a_wake_up_is_set_for_it() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 100, job=b"job1")
    node.request(B, 1, job=b"job2")
    assert node.take(m.AskReclaim) == []
    deadline = node.logic.deadline()
    assert deadline is not None
    assert deadline <= node.now + QUANTUM_S


def test_weights_share_in_proportion() -> None:
    node = FakeNode(units(CPU=4))
    node.logic.scheduler.set_weight(b"job1", 3.0)
    node.request(C, 4, job=b"job3")
    held = node.granted()
    node.request(A, 10, job=b"job1")
    node.request(B, 10, job=b"job2")
    node.give_back(C, *[lease.lease_id for lease in held])
    assert (len(node.granted(A)), node.free_cpus()) == (3, 0)


def test_demands_of_one_job_take_turns() -> None:
    node = FakeNode(units(CPU=1))
    for client in (A, B, C):
        node.request(client, 10)
    order = []
    grant = node.take(m.Grant)[0]
    for _ in range(5):
        node.give_back(grant.client, grant.leases[0].lease_id)
        (grant,) = node.take(m.Grant)
        order.append(grant.client)
    assert order == [A, B, C, A, B]


def test_blocked_worker_lends_its_cpu_to_its_children_first() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 100)
    (lease,) = node.granted()
    parent = worker_id(lease.token)
    node.request(parent, 1, key=7)
    assert node.granted() == []
    node.send(m.BlockedChanged(parent, True))
    (grant,) = node.take(m.Grant)
    assert (grant.client, grant.class_key) == (parent, 7)


def test_of_blocked_workers_the_most_deeply_nested_is_served_first() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 1)
    (lease,) = node.granted()
    root = worker_id(lease.token)
    node.request(root, 2)
    node.send(m.BlockedChanged(root, True))
    (lease,) = node.granted(root)
    child = worker_id(lease.token)
    node.request(child, 1)
    node.send(m.BlockedChanged(child, True))
    assert [grant.client for grant in node.take(m.Grant)] == [child], "its parent has waited for longer"


def test_unblocking_oversubscribes_until_a_lease_comes_back() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 1)
    (lease,) = node.granted()
    parent = worker_id(lease.token)
    node.send(m.BlockedChanged(parent, True))
    node.request(B, 2)
    (second,) = node.granted(B)
    node.send(m.BlockedChanged(parent, False))
    assert node.free_cpus() == -1
    node.give_back(B, second.lease_id)
    assert node.granted() == []
    node.give_back(A, lease.lease_id)
    assert len(node.granted(B)) == 1


def test_a_blocked_worker_that_returns_its_lease_leaves_no_oversubscription() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 1)
    (lease,) = node.granted()
    node.send(m.BlockedChanged(worker_id(lease.token), True))
    node.give_back(A, lease.lease_id)
    assert node.free_cpus() == 1
    node.send(m.BlockedChanged(worker_id(lease.token), False))
    assert node.free_cpus() == 1


def test_only_the_cpu_is_lent() -> None:
    node = FakeNode(units(CPU=1, GPU=1))
    node.request(A, 1, CPU=1, GPU=1)
    (lease,) = node.granted()
    node.send(m.BlockedChanged(worker_id(lease.token), True))
    node.request(B, 1, CPU=1, GPU=1)
    assert node.granted(B) == []


def test_a_big_request_is_served_after_it_was_passed_over_often_enough() -> None:
    node = FakeNode(units(CPU=2))
    node.request(A, 1000, job=b"job1")
    held = [lease.lease_id for lease in node.granted(A)]
    node.request(B, 1, job=b"job1", key=2, CPU=2)
    returned = 0
    grants: list[m.Grant] = []
    while not any(grant.client == B for grant in grants):
        held.extend(lease.lease_id for grant in grants for lease in grant.leases)
        node.give_back(A, held.pop(0))
        returned += 1
        grants = node.take(m.Grant)
    assert STARVED_AFTER < returned <= STARVED_AFTER + 3  # two CPUs have to come free then


def test_room_is_not_kept_for_ever_for_a_request_that_cannot_be_served() -> None:
    node = FakeNode(units(CPU=2))
    node.request(C, 1, key=9)  # held for good: the big request can never fit
    node.granted()
    node.request(A, 1000)
    held = [lease.lease_id for lease in node.granted(A)]
    node.request(B, 1, key=2, CPU=2)
    while held:
        node.give_back(A, held.pop(0))
        held.extend(lease.lease_id for lease in node.granted(A))
    assert node.free_cpus() == 1
    node.advance(HOLD_S)
    assert len(node.granted(A)) == 1


def test_dead_worker_loses_the_lease_with_its_cause() -> None:
    node = FakeNode()
    node.request(A, 1)
    (lease,) = node.granted()
    node.die(lease.token)
    (lost,) = node.take(m.TellLost)
    assert (lost.client, lost.lease_id) == (A, lease.lease_id)
    assert lost.cause.kind == Kind.SIGNALED
    assert lost.cause.signal == 11
    assert node.free_cpus() == 2


def test_gone_client_drops_its_requests_and_its_workers_are_killed_as_they_may_run_its_tasks() -> None:
    node = FakeNode(units(CPU=2))
    node.request(A, 10)
    leases = node.granted()
    node.send(m.ClientGone(A))
    ended = node.take(m.EndWorker)
    assert {end.token for end in ended} == {lease.token for lease in leases}
    assert all(end.force for end in ended)
    assert node.take(m.TellLost) == []
    assert node.free_cpus() == 2
    assert node.logic.scheduler.pending() == []


def test_resources_of_a_gone_client_stay_taken_until_its_worker_is_dead() -> None:
    node = FakeNode(units(CPU=1))
    node.deaths_on_end = False
    node.request(A, 1)
    (lease,) = node.granted()
    node.send(m.ClientGone(A))
    assert node.free_cpus() == 0
    node.die(lease.token, signal=9)
    assert node.free_cpus() == 1


def test_kill_needs_the_lease() -> None:
    node = FakeNode()
    node.request(A, 1)
    (lease,) = node.granted()
    node.send(m.KillAsked(B, worker_id(lease.token), lease.lease_id, "no"))
    node.send(m.KillAsked(A, worker_id(lease.token), lease.lease_id + 1, "no"))
    assert node.take(m.EndWorker) == []
    node.send(m.KillAsked(A, worker_id(lease.token), lease.lease_id, "cancelled by force"))
    (lost,) = node.take(m.TellLost)
    assert (lost.cause.kind, lost.cause.message) == (Kind.KILLED, "cancelled by force")


def test_failing_worker_is_not_used_again() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 1)
    (lease,) = node.granted()
    node.send(m.LeasesReturned(A, (lease.lease_id,), frozenset({lease.lease_id})))
    node.request(A, 1)
    (second,) = node.granted()
    assert second.token != lease.token


def test_zero_cpu_requests_are_bounded_by_the_pool() -> None:
    node = FakeNode(limits=PoolLimits(prestart=0, max_workers=5))
    node.request(A, 100, CPU=0)
    assert len(node.granted()) == 5


def test_gpu_instances_are_told() -> None:
    node = FakeNode(units(CPU=4, GPU=2))
    node.request(A, 2, CPU=1, GPU=0.5)
    assert [lease.devices for lease in node.granted()] == [{"GPU": (0,)}, {"GPU": (0,)}]
    node.request(B, 1, CPU=1, GPU=1)
    assert [lease.devices for lease in node.granted()] == [{"GPU": (1,)}]


def test_story_of_a_lease() -> None:
    node = FakeNode()
    node.request(A, 1)
    (lease,) = node.granted()
    node.give_back(A, lease.lease_id)
    events = [what for _, what in node.logic.scheduler.story(lease.lease_id)]
    assert events == [f"granted to {A.hex()[:8]} for f1", "returned"]


@pytest.mark.parametrize("waiting", [1, 1000])
def test_dispatch_cost_does_not_explode_with_waiting_clients(waiting: int) -> None:
    node = FakeNode(units(CPU=1))
    for index in range(waiting):
        node.logic.handle(m.LeasesRequested(b"c%d" % index, 1, 1, units(CPU=1), b"job1", "f"), now=node.now)
    assert sum(count for _, count in node.logic.scheduler.pending()) >= waiting - 1


def test_who_waits_for_a_worker_is_told_when_all_of_them_are_blocked() -> None:
    node = FakeNode(units(CPU=1), limits=PoolLimits(prestart=0, max_workers=2))
    for _ in range(2):
        node.request(A, 1)
        (lease,) = node.granted(A)
        node.send(m.BlockedChanged(worker_id(lease.token), True))
    node.take(m.TellPending)
    node.request(B, 1)
    (told,) = node.take(m.TellPending)
    assert (told.client, told.stuck, told.infeasible) == (B, True, False)
    assert "2 of them wait in get() or wait()" in told.explanation
    assert "raylet.workers.limit" in told.explanation
    node.request(B, 2)
    assert node.take(m.TellPending) == []
