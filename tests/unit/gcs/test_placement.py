"""Where actors go, and what is said when they cannot go anywhere."""

import random

from aktis._common.resources import ResourceSet
from aktisd.gcs.actors.placement import SAMPLE, choose, describe, explain, is_feasible
from aktisd.gcs.actors.record import Demand
from aktisd.gcs.resource_view import NodeResources, ResourceView
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gcs_parts import node_id, node_resources

NOTHING = ResourceSet()


def demand(cpus: float = 0, placement: float = 0, **labels: str) -> Demand:
    return Demand(
        ResourceSet.of({"CPU": cpus}), ResourceSet.of({"CPU": placement}), tuple(sorted(labels.items()))
    )


def view_of(*nodes: NodeResources) -> ResourceView:
    view = ResourceView()
    for node in nodes:
        view.add(node)
    return view


def chosen(wanted: Demand, view: ResourceView) -> int | None:
    node = choose(wanted, view, random.Random(0))
    return None if node is None else node.node_id[-1]


def test_least_loaded_node_that_fits() -> None:
    view = view_of(node_resources(1, 4), node_resources(2, 8), node_resources(3, 1))
    assert chosen(demand(2), view) == 2
    view.promise(node_id(2), ResourceSet.of({"CPU": 6}))
    assert chosen(demand(2), view) == 1
    assert chosen(demand(5), view) is None


def test_actors_that_hold_nothing_spread_by_number() -> None:
    view = view_of(node_resources(1, 4), node_resources(2, 4))
    places = []
    for _ in range(4):
        node = choose(demand(), view, random.Random(0))
        assert node is not None
        view.promise(node.node_id, NOTHING)
        places.append(node.node_id[-1])
    assert sorted(places) == [1, 1, 2, 2]


def test_placement_resources_must_exist_and_are_preferred_free() -> None:
    busy, free, small = node_resources(1, 4), node_resources(2, 4), node_resources(3, 0)
    busy.available = NOTHING
    free.actors = 100
    assert chosen(demand(placement=1), view_of(busy, free, small)) == 2
    assert chosen(demand(placement=1), view_of(busy, small)) == 1
    assert chosen(demand(placement=1), view_of(small)) is None
    assert not is_feasible(demand(placement=1), view_of(small))


def test_full_node_is_passed_over() -> None:
    view = view_of(node_resources(1, 4))
    view.refuse(node_id(1))
    assert chosen(demand(), view) is None
    assert is_feasible(demand(), view)


def test_label_selects() -> None:
    view = view_of(node_resources(1, 4, zone="a"), node_resources(2, 4, zone="b"))
    assert chosen(demand(zone="b"), view) == 2
    assert chosen(demand(zone="c"), view) is None


def test_explanation_names_what_each_node_lacks() -> None:
    small, busy, other, full = (node_resources(n, cpus) for n, cpus in ((1, 1), (2, 4), (3, 4), (4, 4)))
    busy.available = ResourceSet.of({"CPU": 0.5})
    busy.labels = other.labels = small.labels = full.labels = {"zone": "a"}
    other.labels = {"zone": "b"}
    full.full = True
    text = explain(demand(2, zone="a"), view_of(small, busy, other, full))
    small_text, busy_text, other_text, full_text = text.split("; ")
    assert "host1" in small_text
    assert "1 CPU too little in all" in small_text
    assert "waits for 1.5 CPU" in busy_text
    assert "'b', wanted 'a'" in other_text
    assert "refused" in full_text


def test_explanation_is_bounded() -> None:
    text = explain(demand(100), view_of(*(node_resources(number, 1) for number in range(50))))
    assert "and 42 more nodes" in text
    assert "no node" in explain(demand(1), ResourceView())


def test_description() -> None:
    assert describe(demand(1, 2, zone="a")) == "1 CPU, a node with 2 CPU, label zone=a"
    assert describe(demand(1, 1)) == "1 CPU"
    assert describe(demand()) == "nothing"


def test_only_node_that_fits_is_found_in_a_large_cluster() -> None:
    nodes = [node_resources(number, 1) for number in range(4 * SAMPLE)]
    nodes[17] = node_resources(17, 9)
    assert chosen(demand(5), view_of(*nodes)) == 17


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=6),
    st.integers(0, 8),
)
def test_chosen_if_and_only_if_one_fits(nodes: list[tuple[int, int]], cpus: int) -> None:
    view = ResourceView()
    for number, (total, promised) in enumerate(nodes):
        view.add(node_resources(number, total))
        view.promise(node_id(number), ResourceSet.of({"CPU": promised}))
    node = choose(demand(cpus), view, random.Random(0))
    fitting = {number for number, (total, promised) in enumerate(nodes) if promised + cpus <= total}
    assert (node is not None) == bool(fitting)
    if node is not None:
        assert node.node_id[-1] in fitting
