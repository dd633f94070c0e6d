"""Reports, promises and refusals of the resource view."""

from aktis._common.resources import ResourceSet
from aktisd.gcs.resource_view import ResourceView

from tests.support.gcs_parts import node_id, node_resources

ONE, THREE, FOUR = (ResourceSet.of({"CPU": cpus}) for cpus in (1, 3, 4))
NODE = node_id(1)


def view_of_four() -> ResourceView:
    view = ResourceView()
    view.add(node_resources(1, 4))
    return view


def has_room(view: ResourceView, demand: ResourceSet) -> bool:
    node = view.get(NODE)
    assert node is not None
    return node.has_room(demand)


def test_promises_count_until_they_are_settled() -> None:
    view = view_of_four()
    reports = view.promise(NODE, THREE)
    assert has_room(view, ONE)
    assert not has_room(view, ResourceSet.of({"CPU": 2}))
    before = view.version
    view.settle(NODE, THREE, started=False, reports=reports)
    assert view.version > before
    assert has_room(view, THREE)


def test_started_actor_counts_until_a_report_can_contain_it() -> None:
    view = view_of_four()
    reports = view.promise(NODE, THREE)
    view.settle(NODE, THREE, started=True, reports=reports)
    assert not has_room(view, THREE)
    view.report(NODE, FOUR, ONE)
    assert has_room(view, ONE)
    assert not has_room(view, THREE)


def test_report_during_the_start_contains_it_already() -> None:
    view = view_of_four()
    reports = view.promise(NODE, ONE)
    view.report(NODE, FOUR, THREE)
    view.settle(NODE, ONE, started=True, reports=reports)
    assert has_room(view, THREE)


def test_heartbeat_ends_what_waits_for_a_report() -> None:
    view = view_of_four()
    view.settle(NODE, ONE, started=True, reports=view.promise(NODE, ONE))
    view.refuse(NODE)
    before = view.version
    view.heartbeat(NODE)
    assert view.version > before
    assert has_room(view, FOUR)
    before = view.version
    view.heartbeat(NODE)
    assert view.version == before


def test_report_replaces_and_lifts_a_refusal() -> None:
    view = view_of_four()
    view.refuse(NODE)
    assert not has_room(view, ResourceSet())
    before = view.version
    view.report(NODE, THREE, ONE)
    assert view.version > before
    assert has_room(view, ONE)
    assert not has_room(view, THREE)


def test_promises_of_nothing_change_no_version() -> None:
    view = view_of_four()
    before = view.version
    view.settle(NODE, ResourceSet(), started=False, reports=view.promise(NODE, ResourceSet()))
    assert view.version == before


def test_actors_are_counted() -> None:
    view = view_of_four()
    reports = view.promise(NODE, ONE)
    view.occupy(NODE)
    node = view.get(NODE)
    assert node is not None
    assert node.actors == 2
    view.settle(NODE, ONE, started=False, reports=reports)
    view.leave(NODE)
    assert node.actors == 0


def test_disconnected_node_is_ignored() -> None:
    view = view_of_four()
    view.remove(NODE)
    assert view.promise(NODE, ONE) == 0
    view.settle(NODE, ONE, started=True, reports=0)
    view.heartbeat(NODE)
    view.occupy(NODE)
    view.leave(NODE)
    view.refuse(NODE)
    view.report(NODE, ONE, ONE)
    assert len(view) == 0
    assert list(view) == []
