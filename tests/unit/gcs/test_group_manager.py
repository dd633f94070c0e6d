"""Single scenes of placement groups' lives; `test_group_simulation` plays random ones."""

import pytest
from aktis._proto import common_pb2, gcs_pb2
from aktisd.gcs.effects import SHARED_MESSAGE_ITEMS, Effects
from aktisd.gcs.errors import RequestError
from aktisd.gcs.limits import Limits
from aktisd.gcs.storage.interface import Table

from tests.support.gcs_parts import (
    SimulatedCluster,
    actor_spec,
    answers,
    group_id,
    group_spec,
    node_id,
    ordered,
    process,
    report,
    resources,
    sent,
)

Group = gcs_pb2.PlacementGroup
Report = gcs_pb2.ActorReport
Cause = common_pb2.DeathCause


@pytest.fixture
def cluster() -> SimulatedCluster:
    cluster = SimulatedCluster()
    cluster.register(1)
    cluster.job()
    return cluster


def prepared(cluster: SimulatedCluster, out: Effects, node: int = 1, **fields: object) -> Effects:
    """Answer the one PrepareBundles among the effects."""
    ((to, order),) = ordered(out, "prepare")
    assert to == node_id(node)
    answer = gcs_pb2.BundlesPrepared(
        placement_group_ids=[order.placement_group_id],
        attempt=order.attempt,
        **fields,  # type: ignore[arg-type]
    )
    return cluster.up(node, bundle_answers=answers(answer))


def created(
    cluster: SimulatedCluster, number: int = 1, *bundles: dict[str, float], **fields: object
) -> Effects:
    spec = group_spec(number, "PACK", *(bundles or ({"CPU": 1},)), **fields)
    errors, out = cluster.create_groups(spec)
    assert errors == [""]
    return prepared(cluster, out)


def states(out: Effects) -> list[str]:
    """The states of groups that were published."""
    return [
        Group.State.Name(change.state)
        for publication in out.publications
        for change in publication.placement_groups.changes
        for _ in change.placement_group_ids
    ]


def test_it_is_committed_and_published_when_every_node_is_prepared(cluster: SimulatedCluster) -> None:
    cluster.register(2)
    _, out = cluster.create_groups(group_spec(1, "STRICT_SPREAD", {"CPU": 2}, {"CPU": 3}))
    orders = dict(ordered(out, "prepare"))
    assert orders.keys() == {node_id(1), node_id(2)}
    assert cluster.group(1).state == Group.PREPARING
    attempt = orders[node_id(1)].attempt
    answer = gcs_pb2.BundlesPrepared(placement_group_ids=[group_id(1)], attempt=attempt)
    assert not ordered(cluster.up(1, bundle_answers=answers(answer)), "commit")
    out = cluster.up(2, bundle_answers=answers(answer))
    assert {to for to, _ in ordered(out, "commit")} == {node_id(1), node_id(2)}
    assert states(out) == ["CREATED"]
    assert {place.node_id for place in cluster.group(1).places} == {node_id(1), node_id(2)}


def test_a_refusal_sends_the_others_back_and_is_not_repeated_before_news(cluster: SimulatedCluster) -> None:
    cluster.register(2)
    _, out = cluster.create_groups(group_spec(1, "STRICT_SPREAD", {"CPU": 2}, {"CPU": 2}))
    attempt = ordered(out, "prepare")[0][1].attempt
    refusal = gcs_pb2.BundlesPrepared(
        placement_group_ids=[group_id(1)], attempt=attempt, refused=True, reason="no CPU"
    )
    out = cluster.up(2, bundle_answers=answers(refusal))
    assert [to for to, _ in ordered(out, "give_back")] == [node_id(1)]
    assert not ordered(out, "prepare")
    assert "no CPU" in cluster.group(1).pending_reason
    late = gcs_pb2.BundlesPrepared(placement_group_ids=[group_id(1)], attempt=attempt)
    out = cluster.up(1, bundle_answers=answers(late))
    assert [to for to, _ in ordered(out, "give_back")] == [node_id(1)]
    update = gcs_pb2.ResourceUpdate(total=resources({"CPU": 4}), available=resources({"CPU": 4}))
    assert len(ordered(cluster.up(2, resources=update), "prepare")) == 2


def test_what_is_promised_is_not_given_away_twice(cluster: SimulatedCluster) -> None:
    _, out = cluster.create_groups(group_spec(1, "PACK", {"CPU": 3}), group_spec(2, "PACK", {"CPU": 3}))
    assert len(ordered(out, "prepare")) == 1
    prepared(cluster, out)
    assert cluster.group(2).state == Group.PENDING  # counts until the next report says it
    update = gcs_pb2.ResourceUpdate(total=resources({"CPU": 4}), available=resources({"CPU": 1}))
    assert not ordered(cluster.up(1, resources=update), "prepare")
    cluster.remove_groups(1)
    update = gcs_pb2.ResourceUpdate(total=resources({"CPU": 4}), available=resources({"CPU": 4}))
    assert len(ordered(cluster.up(1, resources=update), "prepare")) == 1


def test_one_that_waits_for_leases_asks_for_room_once_per_report(cluster: SimulatedCluster) -> None:
    update = gcs_pb2.ResourceUpdate(total=resources({"CPU": 4}), available=resources({}))
    cluster.up(1, resources=update)
    _, out = cluster.create_groups(group_spec(1, "PACK", {"CPU": 3}))
    assert [to for to, _ in sent(out, "room_wanted")] == [node_id(1)]
    _, out = cluster.create_groups(group_spec(2, "PACK", {"CPU": 2}))
    assert not sent(out, "room_wanted")
    assert sent(cluster.up(1, resources=update), "room_wanted")


def test_an_infeasible_one_waits_and_its_driver_is_told_once(cluster: SimulatedCluster) -> None:
    _, out = cluster.create_groups(group_spec(1, "STRICT_SPREAD", {"CPU": 1}, {"CPU": 1}))
    (error,) = [p.error for p in out.publications if p.HasField("error")]
    assert error.kind == "infeasible_placement_group"
    assert "the cluster has 1" in error.message
    assert not sent(out, "room_wanted")
    group = cluster.group(1)
    assert (group.state, group.infeasible) == (Group.PENDING, True)
    _, out = cluster.create_groups(group_spec(2, "STRICT_SPREAD", {"CPU": 1}, {"CPU": 1}))
    assert not [p for p in out.publications if p.HasField("error")]
    assert len(ordered(cluster.register(2), "prepare")) == 4


def test_removal_returns_the_bundles_and_ends_the_actors(cluster: SimulatedCluster) -> None:
    created(cluster)
    strategy = common_pb2.SchedulingStrategy(placement_group_id=group_id(1), bundle_index=-1)
    cluster.create(actor_spec(1, resources=resources({"CPU": 1}), strategy=strategy))
    cluster.up(1, actor_report=report(1, 1, Report.ALIVE))
    out = cluster.remove_groups(1)
    assert [to for to, _ in ordered(out, "give_back")] == [node_id(1)]
    assert len(sent(out, "stop_actor")) == 1
    assert states(out) == ["REMOVED"]
    actor = cluster.actor(1)
    assert (actor.state, actor.death_cause.kind) == (gcs_pb2.Actor.DEAD, Cause.PLACEMENT_GROUP_REMOVED)
    out = cluster.remove_groups(1)
    assert not out.messages
    assert not out.publications


def test_actors_wait_for_their_group_and_then_for_their_bundle(cluster: SimulatedCluster) -> None:
    _, out = cluster.create_groups(group_spec(1, "PACK", {"CPU": 1}, {"CPU": 2}))
    strategy = common_pb2.SchedulingStrategy(placement_group_id=group_id(1), bundle_index=1)
    for number in (1, 2, 3):
        _, actors = cluster.create(actor_spec(number, resources=resources({"CPU": 1}), strategy=strategy))
        assert not sent(actors, "start_actor")
    assert "PREPARING" in cluster.actor(1).pending_reason
    started = sent(prepared(cluster, out), "start_actor")
    assert [order.bundle_index for _, order in started] == [1, 1]  # type: ignore[attr-defined]
    assert "bundle 1 on node" in cluster.actor(3).pending_reason
    assert "not bundle 1" in cluster.actor(3).pending_reason
    for number in (1, 2):
        cluster.up(1, actor_report=report(number, 1, Report.ALIVE))
    gone = Cause(kind=Cause.EXITED)
    cluster.up(1, actor_report=report(1, 1, Report.DIED, cause=gone))
    free = gcs_pb2.BundleUsage(placement_group_id=group_id(1), index=1, available=resources({"CPU": 1}))
    update = gcs_pb2.ResourceUpdate(
        total=resources({"CPU": 4}), available=resources({"CPU": 1}), bundles=[free]
    )
    assert len(sent(cluster.up(1, resources=update), "start_actor")) == 1


def test_an_actor_of_a_group_that_is_not_there_is_dead_at_once(cluster: SimulatedCluster) -> None:
    strategy = common_pb2.SchedulingStrategy(placement_group_id=group_id(9), bundle_index=-1)
    cluster.create(actor_spec(1, strategy=strategy))
    assert cluster.actor(1).death_cause.kind == Cause.PLACEMENT_GROUP_REMOVED


def test_a_group_survives_a_restart_and_a_pending_one_is_tried_again(cluster: SimulatedCluster) -> None:
    created(cluster)
    attempt = cluster.group(1).places[0].attempt
    cluster.create_groups(group_spec(2, "PACK", {"CPU": 1}))
    cluster.restart()
    held = gcs_pb2.BundleReport(placement_group_id=group_id(1), attempt=attempt, committed=True)
    stale = gcs_pb2.BundleReport(placement_group_id=group_id(2), attempt=attempt + 1)
    out = cluster.register(1, bundles=[held, stale])
    ((_, returned),) = ordered(out, "give_back")
    assert returned.placement_group_id == group_id(2)
    assert cluster.group(1).state == Group.CREATED
    ((_, order),) = ordered(out, "prepare")
    assert order.attempt > attempt + 1


def test_a_commit_that_was_lost_is_repeated(cluster: SimulatedCluster) -> None:
    created(cluster)
    attempt = cluster.group(1).places[0].attempt
    uncommitted = gcs_pb2.BundleReport(placement_group_id=group_id(1), attempt=attempt)
    out = cluster.register(1, bundles=[uncommitted])
    assert len(ordered(out, "commit")) == 1


def test_bundles_of_a_dead_node_move(cluster: SimulatedCluster) -> None:
    created(cluster, 1, {"CPU": 1}, {"CPU": 1})
    cluster.register(2)
    out = cluster.up(1, leaving=gcs_pb2.NodeLeaving(reason="test"))
    # The driver was there: the group ends with its job.
    assert states(out)[-1] == "REMOVED"
    cluster.job(driver=2, node=2)
    spec = group_spec(3, "STRICT_SPREAD", {"CPU": 1}, {"CPU": 1}, job_id=b"\0\0\0\2", owner=process(2, 2))
    cluster.register(3)
    _, out = cluster.create_groups(spec)
    attempt = ordered(out, "prepare")[0][1].attempt
    answer = gcs_pb2.BundlesPrepared(placement_group_ids=[group_id(3)], attempt=attempt)
    cluster.up(2, bundle_answers=answers(answer))
    cluster.up(3, bundle_answers=answers(answer))
    lost = next(i for i, p in enumerate(cluster.group(3).places) if p.node_id == node_id(3))
    out = cluster.up(3, leaving=gcs_pb2.NodeLeaving(reason="test"))
    assert states(out) == ["RESCHEDULING"]
    out = cluster.register(4)
    ((to, order),) = ordered(out, "prepare")
    assert to == node_id(4)
    assert [item.index for item in order.body.bundles] == [lost]
    answer.attempt = order.attempt
    assert states(cluster.up(4, bundle_answers=answers(answer))) == ["CREATED"]


def test_it_ends_with_its_job_unless_it_is_detached(cluster: SimulatedCluster) -> None:
    created(cluster, 1)
    created(cluster, 2, detached=True)
    out = cluster.up(1, job_ended=gcs_pb2.JobEnded(job_id=b"\0\0\0\1"))
    assert [o.placement_group_id for _, o in ordered(out, "give_back")] == [group_id(1)]
    assert cluster.group(2).state == Group.CREATED


def test_the_group_of_a_detached_actor_ends_with_the_actor(cluster: SimulatedCluster) -> None:
    cluster.create(actor_spec(1, detached=True))
    address = process(50)
    cluster.up(1, actor_report=report(1, 1, Report.ALIVE, address=address))
    created(cluster, 1, owner=address)
    cluster.up(1, job_ended=gcs_pb2.JobEnded(job_id=b"\0\0\0\1"))
    assert cluster.group(1).state == Group.CREATED
    cluster.restart()
    cluster.register(1, running_actors=[report(1, 1, Report.ALIVE, address=address)], bundles=[])
    died = report(1, 1, Report.DIED, cause=Cause(kind=Cause.EXITED))
    cluster.up(1, actor_report=died)
    assert cluster.group(1).state == Group.REMOVED


def test_a_group_that_a_detached_actor_makes_after_its_job_ends_with_the_actor(
    cluster: SimulatedCluster,
) -> None:
    cluster.create(actor_spec(1, detached=True))
    address = process(50)
    cluster.up(1, actor_report=report(1, 1, Report.ALIVE, address=address))
    cluster.up(1, job_ended=gcs_pb2.JobEnded(job_id=b"\0\0\0\1"))
    created(cluster, 1, owner=address)
    assert cluster.group(1).state == Group.CREATED
    cluster.up(1, actor_report=report(1, 1, Report.DIED, cause=Cause(kind=Cause.EXITED)))
    assert cluster.group(1).state == Group.REMOVED


def test_names_are_unique_in_a_namespace_while_the_group_is_there(cluster: SimulatedCluster) -> None:
    created(cluster, 1, name="n", namespace="a")
    (error,), _ = cluster.create_groups(group_spec(2, "PACK", {"CPU": 1}, name="n", namespace="a"))
    assert "is taken" in error
    (error,), _ = cluster.create_groups(group_spec(3, "PACK", {"CPU": 1}, name="n", namespace="b"))
    assert not error
    cluster.remove_groups(1)
    (error,), _ = cluster.create_groups(group_spec(4, "PACK", {"CPU": 1}, name="n", namespace="a"))
    assert not error


def test_the_same_request_again_makes_nothing_new(cluster: SimulatedCluster) -> None:
    created(cluster)
    errors, out = cluster.create_groups(group_spec(1, "PACK", {"CPU": 1}))
    assert errors == [""]
    assert not out.messages


def test_one_request_replaces_groups(cluster: SimulatedCluster) -> None:
    created(cluster, 1, {"CPU": 1}, name="taken", namespace="n")
    errors, out = cluster.create_groups(
        group_spec(2, "PACK", {"CPU": 1}, name="taken", namespace="n"), remove_first=[1, 7]
    )
    assert errors == [""]
    assert states(out) == ["REMOVED"]
    kinds = [orders.orders[0].WhichOneof("order") for _, orders in sent(out, "bundle_orders")]  # type: ignore[attr-defined]
    assert kinds == ["prepare", "give_back"], "what need not be stored first does not wait for it"


def test_what_is_replaced_is_removed_while_nodes_prepare(cluster: SimulatedCluster) -> None:
    created(cluster)
    out = cluster.step()
    request = gcs_pb2.CreatePlacementGroupsRequest(
        specs=[group_spec(2, "PACK", {"CPU": 1})], remove_first=[group_id(1)]
    )
    cluster.state.create_groups(request, out)
    assert cluster.group(1).state == Group.CREATED
    assert cluster.hold(out)
    assert cluster.group(1).state == Group.REMOVED
    assert states(out) == ["REMOVED"]


def test_what_is_replaced_makes_room_for_its_successor() -> None:
    cluster = SimulatedCluster(Limits(placement_groups=1))
    cluster.register(1)
    cluster.job()
    for number in (1, 2, 3):
        errors, _ = cluster.create_groups(group_spec(number, "PACK", {"CPU": 1}), remove_first=[number - 1])
        assert errors == [""]


def test_only_the_first_try_is_early(cluster: SimulatedCluster) -> None:
    out = cluster.step()
    request = gcs_pb2.CreatePlacementGroupsRequest(specs=[group_spec(1, "PACK", {"CPU": 1})])
    cluster.state.create_groups(request, out)
    ((to, early),) = cluster.hold(out)
    assert to == node_id(1)
    assert not cluster.storage.load(Table.PLACEMENT_GROUPS)
    (order,) = early.bundle_orders.orders
    held = gcs_pb2.BundleReport(placement_group_id=group_id(1), attempt=order.attempt)
    out = cluster.register(1, bundles=[held])
    kinds = [o.WhichOneof("order") for _, orders in sent(out, "bundle_orders") for o in orders.orders]  # type: ignore[attr-defined]
    assert kinds.index("prepare") == len(kinds) - 1 > 0, "it must not overtake orders about what is held"


def test_what_is_being_prepared_is_stored_as_waiting(cluster: SimulatedCluster) -> None:
    _, out = cluster.create_groups(group_spec(1, "PACK", {"CPU": 1}))
    assert ordered(out, "prepare")
    row = Group.FromString(cluster.storage.load(Table.PLACEMENT_GROUPS)[group_id(1)])
    assert row.state == Group.PENDING
    assert [place.node_id for place in row.places] == [b""]


def test_a_group_whose_answers_are_waited_for_is_stored_once(cluster: SimulatedCluster) -> None:
    out = cluster.step()
    cluster.state.create_groups(
        gcs_pb2.CreatePlacementGroupsRequest(specs=[group_spec(1, "PACK", {"CPU": 1})]), out
    )
    ((_, early),) = cluster.hold(out)
    (order,) = early.bundle_orders.orders
    answer = gcs_pb2.BundlesPrepared(placement_group_ids=order.placement_group_ids, attempt=order.attempt)
    assert cluster.up(1, bundle_answers=answers(answer)) is out
    row = Group.FromString(cluster.storage.load(Table.PLACEMENT_GROUPS)[group_id(1)])
    assert row.state == Group.CREATED
    assert [place.node_id for place in row.places] == [node_id(1)]
    assert ordered(out, "commit")


def test_a_bundle_order_does_not_overtake_what_was_sent_before() -> None:
    out = Effects()
    for to, number in ((b"node", 1), (b"other", 1), (b"node", 2)):
        out.order(to, group_id(number), ("prepare", 1))
    out.send(b"node", gcs_pb2.NodeDown(room_wanted=gcs_pb2.RoomWanted()))
    for number, attempt in ((1, 2), (2, 2), (1, 3), (2, 2)):
        order = out.order(b"node", group_id(number), ("commit", attempt))
        if order is not None:
            order.attempt = attempt
    kinds = [(to, message.WhichOneof("body")) for to, message in out.messages]
    assert kinds == [
        (b"node", "bundle_orders"),
        (b"other", "bundle_orders"),
        (b"node", "room_wanted"),
        (b"node", "bundle_orders"),
    ]
    orders = [(list(o.placement_group_ids), o.attempt) for o in out.messages[-1][1].bundle_orders.orders]
    assert orders == [([group_id(1), group_id(2)], 2), ([group_id(1)], 3), ([group_id(2)], 2)]


def test_messages_that_are_shared_stay_small() -> None:
    out = Effects()
    for number in range(2 * SHARED_MESSAGE_ITEMS + 1):
        out.order(b"node", group_id(number), ("commit", number // 3))
        out.group_news(group_id(number), Group.CREATED, str(number // 3))
    orders = [[len(o.placement_group_ids) for o in m.bundle_orders.orders] for _, m in out.messages]
    news = [[len(c.placement_group_ids) for c in p.placement_groups.changes] for p in out.publications]
    assert orders == news
    assert [sum(message) for message in orders] == [SHARED_MESSAGE_ITEMS, SHARED_MESSAGE_ITEMS, 1]
    assert orders[0][:3] == [3, 3, 3]


def test_news_stand_in_their_order() -> None:
    out = Effects()
    out.group_news(group_id(1), Group.CREATED, "")
    out.group_news(group_id(2), Group.CREATED, "")
    out.group_news(group_id(1), Group.REMOVED, "a reason")
    out.publish(gcs_pb2.Publication(channel="errors"))
    out.group_news(group_id(2), Group.REMOVED, "a reason")
    assert states(out) == ["CREATED", "CREATED", "REMOVED", "REMOVED"]
    assert [len(publication.placement_groups.changes) for publication in out.publications] == [2, 0, 1]


def test_groups_that_are_placed_together_share_their_messages(cluster: SimulatedCluster) -> None:
    errors, out = cluster.create_groups(*(group_spec(number, "PACK", {"CPU": 1}) for number in (1, 2)))
    assert not any(errors)
    ((_, orders),) = sent(out, "bundle_orders")
    (order,) = orders.orders  # type: ignore[attr-defined]
    assert list(order.placement_group_ids) == [group_id(1), group_id(2)]
    answer = gcs_pb2.BundlesPrepared(placement_group_ids=order.placement_group_ids, attempt=order.attempt)
    out = cluster.up(1, bundle_answers=answers(answer))
    assert states(out) == ["CREATED", "CREATED"]
    ((_, orders),) = sent(out, "bundle_orders")
    assert len(orders.orders) == 1  # type: ignore[attr-defined]


def test_removed_groups_are_forgotten_in_the_end() -> None:
    cluster = SimulatedCluster(Limits(removed_groups=2))
    cluster.register(1)
    cluster.job()
    for number in range(1, 5):
        cluster.create_groups(group_spec(number, "PACK", {"CPU": 1}))
        cluster.remove_groups(number)
    assert cluster.state.groups.table.get(group_id(2)) is None
    assert len(cluster.storage.load(Table.PLACEMENT_GROUPS)) == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"placement_group_id": b"x"}, "placement_group_id"),
        ({"bundles": []}, "bundles are allowed"),
        ({"bundles": [gcs_pb2.Bundle()]}, "asks for nothing"),
        ({"strategy": 0}, "strategy"),
        ({"name": "x" * 1000}, "name"),
    ],
)
def test_malformed_specs(cluster: SimulatedCluster, fields: dict[str, object], words: str) -> None:
    values = {"placement_group_id": group_id(1), "job_id": b"\0\0\0\1", "owner": process(1), "strategy": 1}
    values["bundles"] = [gcs_pb2.Bundle(resources=resources({"CPU": 1}))]
    spec = gcs_pb2.PlacementGroupSpec(**{**values, **fields})  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=words):
        cluster.create_groups(spec)


def test_whose_job_is_over_cannot_create_any(cluster: SimulatedCluster) -> None:
    (error,), _ = cluster.create_groups(group_spec(1, "PACK", {"CPU": 1}, job_id=b"\0\0\0\7"))
    assert "was not created" in error
