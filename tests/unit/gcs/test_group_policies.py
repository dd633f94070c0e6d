"""Where bundles go: what each strategy promises, whatever the nodes; and the words when there is no room."""

import copy
import itertools
from collections import Counter

import pytest
from aktis._common.resources import ResourceSet
from aktis._proto import gcs_pb2
from aktisd.gcs.placement_groups.policies import Room, Wish, assign, explain, is_feasible
from hypothesis import given
from hypothesis import strategies as st

Spec = gcs_pb2.PlacementGroupSpec


def room(number: int, cpus: float, free: float | None = None, gpus: float = 0, **labels: str) -> Room:
    total = ResourceSet.of({"CPU": cpus, "GPU": gpus})
    available = ResourceSet.of({"CPU": cpus if free is None else free, "GPU": gpus})
    return Room(b"%d" % number, f"node {number}", total, available, labels)


def wishes(*cpus: float) -> dict[int, Wish]:
    return {index: Wish(ResourceSet.of({"CPU": amount})) for index, amount in enumerate(cpus)}


rooms_of = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), max_size=5)
sizes = st.lists(st.integers(1, 5), min_size=1, max_size=5)
strategies = st.sampled_from([Spec.PACK, Spec.SPREAD, Spec.STRICT_PACK, Spec.STRICT_SPREAD])


@given(strategies, rooms_of, sizes)
def test_what_is_assigned_fits_and_keeps_the_promise(
    strategy: "Spec.Strategy.ValueType", nodes: list[tuple[int, int]], cpus: list[int]
) -> None:
    rooms = [room(n, total, min(total, free)) for n, (total, free) in enumerate(nodes)]
    before = {r.node_id: r.free["CPU"] for r in rooms}
    wanted = wishes(*cpus)
    assignment = assign(strategy, wanted, rooms, {})
    if assignment is None:
        assert not (strategy == Spec.STRICT_PACK and any(sum(cpus) * 10_000 <= f for f in before.values()))
        return
    assert assignment.keys() == wanted.keys()
    used: Counter[bytes] = Counter()
    for index, node in assignment.items():
        used[node] += wanted[index].resources["CPU"]
    assert all(used[node] <= before[node] for node in used)
    assert {r.node_id: r.free["CPU"] for r in rooms} == {n: f - used[n] for n, f in before.items()}
    if strategy == Spec.STRICT_PACK:
        assert len(set(assignment.values())) == 1
    if strategy == Spec.STRICT_SPREAD:
        assert len(set(assignment.values())) == len(wanted)


@given(rooms_of, sizes)
def test_strict_spread_finds_a_way_whenever_there_is_one(
    nodes: list[tuple[int, int]], cpus: list[int]
) -> None:
    free = [min(total, left) for total, left in nodes]
    possible = any(
        all(need <= free[node] for need, node in zip(cpus, chosen, strict=True))
        for chosen in itertools.permutations(range(len(free)), len(cpus))
    )
    rooms = [room(n, total, left) for n, ((total, _), left) in enumerate(zip(nodes, free, strict=True))]
    assert (assign(Spec.STRICT_SPREAD, wishes(*cpus), rooms, {}) is not None) == possible


def test_pack_takes_as_few_nodes_as_it_can_see() -> None:
    rooms = [room(1, 2), room(2, 4), room(3, 2)]
    assert set((assign(Spec.PACK, wishes(1, 1, 2), rooms, {}) or {}).values()) == {b"2"}
    rooms = [room(1, 2), room(2, 4), room(3, 2)]
    assert Counter((assign(Spec.PACK, wishes(2, 2, 2), rooms, {}) or {}).values())[b"2"] == 2


def test_pack_may_split_and_strict_pack_may_not() -> None:
    assert assign(Spec.PACK, wishes(2, 2), [room(1, 2), room(2, 2)], {}) is not None
    assert assign(Spec.STRICT_PACK, wishes(2, 2), [room(1, 2), room(2, 2)], {}) is None


def test_spread_uses_every_node_before_one_twice() -> None:
    assignment = assign(Spec.SPREAD, wishes(1, 1, 1), [room(1, 8), room(2, 2)], {})
    assert Counter((assignment or {}).values()) == {b"1": 2, b"2": 1}


def test_lost_bundles_are_placed_with_regard_to_those_that_stay() -> None:
    lost = {1: Wish(ResourceSet.of({"CPU": 1}))}
    nodes = [room(1, 4), room(2, 4)]
    assert assign(Spec.STRICT_SPREAD, lost, nodes, {0: b"1"}) == {1: b"2"}
    assert assign(Spec.STRICT_PACK, lost, nodes, {0: b"1"}) == {1: b"1"}
    assert assign(Spec.PACK, lost, nodes, {0: b"2"}) == {1: b"2"}
    assert assign(Spec.SPREAD, lost, nodes, {0: b"2"}) == {1: b"1"}
    assert assign(Spec.STRICT_PACK, lost, [room(2, 4)], {0: b"1"}) is None


def test_labels_choose_the_node_of_a_bundle() -> None:
    wanted = {
        0: Wish(ResourceSet.of({"CPU": 1}), (("zone", "in(b, c)"),)),
        1: Wish(ResourceSet.of({"CPU": 1})),
    }
    assignment = assign(Spec.PACK, wanted, [room(1, 4, zone="a"), room(2, 1, zone="b")], {})
    assert assignment == {0: b"2", 1: b"1"}
    assert assign(Spec.PACK, wanted, [room(1, 4, zone="a")], {}) is None


@pytest.mark.parametrize(
    ("strategy", "cpus", "nodes", "words", "feasible"),
    [
        (
            Spec.STRICT_SPREAD,
            (1, 1),
            [room(1, 4)],
            "a node for each of its 2 bundles, and the cluster has 1",
            False,
        ),
        (
            Spec.STRICT_PACK,
            (3, 3),
            [room(1, 4)],
            "STRICT_PACK needs 6 CPU on one node; node 1 has 2 CPU",
            False,
        ),
        (Spec.PACK, (5,), [room(1, 4)], "bundle 0 needs 5 CPU; node 1 has 1 CPU too little in all", False),
        (Spec.PACK, (2,), [room(1, 4, 1)], "node 1 waits for 1 CPU to become free", True),
        (Spec.PACK, (3, 3), [room(1, 4)], "each bundle would fit, but not all: they need 6 CPU", False),
        (Spec.SPREAD, (1,), [], "no node is connected", False),
    ],
)
def test_why_there_is_no_room(
    strategy: "Spec.Strategy.ValueType", cpus: tuple[int, ...], nodes: list[Room], words: str, feasible: bool
) -> None:
    assert assign(strategy, wishes(*cpus), copy.deepcopy(nodes), {}) is None
    assert words in explain(strategy, wishes(*cpus), nodes, {})
    assert is_feasible(strategy, wishes(*cpus), nodes, {}) is feasible
