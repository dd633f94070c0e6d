"""Placement groups and scheduling strategies, as far as one node shows them."""

from collections.abc import Iterator
from typing import Any

import pytest
import ray

from tests.conformance.parts import until_it_fails
from tests.conformance.systems import running_cluster

DEADLINE_S = 30


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with running_cluster(num_cpus=2, resources={"special": 2}, labels={"zone": "a"}):
        yield


@ray.remote(num_cpus=0)
def where() -> str:
    return str(ray.get_runtime_context().get_node_id())


@ray.remote
def assigned() -> Any:
    context = ray.get_runtime_context()
    return context.get_assigned_resources(), context.get_placement_group_id()


def strategy(group: Any, **more: Any) -> Any:
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    return PlacementGroupSchedulingStrategy(group, **more)


@pytest.fixture
def group() -> Iterator[Any]:
    group = ray.util.placement_group([{"CPU": 1}, {"special": 1}], strategy="PACK", name="group")
    yield group
    ray.util.remove_placement_group(group)


def test_a_group_is_ready(group: Any) -> None:
    assert group.wait(DEADLINE_S)
    ray.get(group.ready(), timeout=DEADLINE_S)
    assert group.bundle_specs == [{"CPU": 1}, {"special": 1}]
    assert group.bundle_count == 2
    assert bytes.fromhex(group.id.hex())


def test_a_task_in_a_group(group: Any) -> None:
    task = assigned.options(scheduling_strategy=strategy(group, placement_group_bundle_index=0))
    resources, inside = ray.get(task.remote(), timeout=DEADLINE_S)
    assert resources["CPU"] == 1
    assert inside == group.id.hex()
    task = assigned.options(num_cpus=0, resources={"special": 1}, scheduling_strategy=strategy(group))
    assert ray.get(task.remote(), timeout=DEADLINE_S)[0]["special"] == 1


def test_an_actor_in_a_group(group: Any) -> None:
    @ray.remote(num_cpus=1)
    class Inside:
        def group(self) -> Any:
            return ray.get_runtime_context().get_placement_group_id()

    actor = Inside.options(scheduling_strategy=strategy(group)).remote()
    assert ray.get(actor.group.remote(), timeout=DEADLINE_S) == group.id.hex()


def test_children_are_captured_if_asked_for(group: Any) -> None:
    @ray.remote(num_cpus=0)
    def parent() -> Any:
        current = ray.util.get_current_placement_group()
        return current.id.hex(), ray.get(assigned.remote())[1]

    inside = strategy(group, placement_group_capture_child_tasks=True)
    own, child = ray.get(parent.options(scheduling_strategy=inside).remote(), timeout=DEADLINE_S)
    assert own == child == group.id.hex()


def test_a_group_by_its_name(group: Any) -> None:
    assert group.wait(DEADLINE_S)
    assert ray.util.get_placement_group("group").id == group.id
    with pytest.raises(ValueError):
        ray.util.get_placement_group("nobody has it")


def test_the_table(group: Any) -> None:
    assert group.wait(DEADLINE_S)
    row = ray.util.placement_group_table(group)
    assert row["state"] == "CREATED"
    assert row["strategy"] == "PACK"
    assert row["name"] == "group"
    assert row["placement_group_id"] == group.id.hex()
    assert group.id.hex() in ray.util.placement_group_table()


def test_a_group_that_does_not_fit_waits() -> None:
    group = ray.util.placement_group([{"CPU": 100}])
    assert not group.wait(0.1)
    ray.util.remove_placement_group(group)


def test_a_removed_group() -> None:
    group = ray.util.placement_group([{"CPU": 1}])
    assert group.wait(DEADLINE_S)
    ray.util.remove_placement_group(group)
    while ray.util.placement_group_table(group)["state"] != "REMOVED":
        ray.cluster_resources()
    assert ray.util.get_current_placement_group() is None


@pytest.mark.differs("waiting-in-a-removed-group")
def test_what_waits_in_a_group_that_is_removed_fails() -> None:
    group = ray.util.placement_group([{"CPU": 100}])
    ref = assigned.options(scheduling_strategy=strategy(group)).remote()
    ray.util.remove_placement_group(group)
    with pytest.raises(ray.exceptions.TaskPlacementGroupRemoved):
        ray.get(ref, timeout=10)


def test_an_actor_ends_with_its_group() -> None:
    @ray.remote(num_cpus=1)
    class Inside:
        def call(self) -> None: ...

    group = ray.util.placement_group([{"CPU": 1}])
    actor = Inside.options(scheduling_strategy=strategy(group)).remote()
    ray.get(actor.call.remote(), timeout=DEADLINE_S)
    ray.util.remove_placement_group(group)
    with pytest.raises(ray.exceptions.RayError):
        until_it_fails(actor.call.remote)


def test_a_task_that_asks_for_more_than_its_bundle_has() -> None:
    group = ray.util.placement_group([{"CPU": 1}])
    task = assigned.options(num_cpus=2, scheduling_strategy=strategy(group))
    with pytest.raises(ValueError):
        task.remote()
    with pytest.raises(ValueError):
        assigned.options(scheduling_strategy=strategy(group, placement_group_bundle_index=1)).remote()
    ray.util.remove_placement_group(group)


@pytest.mark.parametrize(
    ("bundles", "more"),
    [
        ([], {}),
        ([{}], {}),
        ([{"CPU": 0}], {}),
        ("CPU", {}),
        ([{"CPU": 1}], {"strategy": "EVERYWHERE"}),
        ([{"CPU": 1}], {"lifetime": "long"}),
    ],
    ids=str,
)
def test_wrong_groups(bundles: Any, more: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ray.util.placement_group(bundles, **more)


def test_a_node_by_its_id() -> None:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    for soft in (True, False):
        affinity = NodeAffinitySchedulingStrategy(here, soft=soft)
        assert ray.get(where.options(scheduling_strategy=affinity).remote(), timeout=DEADLINE_S) == here


def test_a_node_that_is_not_there() -> None:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nowhere = ray.NodeID.from_random().hex()
    soft = NodeAffinitySchedulingStrategy(nowhere, soft=True)
    ray.get(where.options(scheduling_strategy=soft).remote(), timeout=DEADLINE_S)
    hard = NodeAffinitySchedulingStrategy(nowhere, soft=False)
    with pytest.raises(ray.exceptions.TaskUnschedulableError):
        ray.get(where.options(scheduling_strategy=hard).remote(), timeout=DEADLINE_S)


def test_an_actor_on_a_node_that_is_not_there() -> None:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=0)
    class Somewhere:
        def call(self) -> None: ...

    hard = NodeAffinitySchedulingStrategy(ray.NodeID.from_random().hex(), soft=False)
    actor = Somewhere.options(scheduling_strategy=hard).remote()
    with pytest.raises(ray.exceptions.ActorUnschedulableError):
        ray.get(actor.call.remote(), timeout=DEADLINE_S)


def test_nodes_by_their_labels() -> None:
    from ray.util.scheduling_strategies import Exists, In, NodeLabelSchedulingStrategy

    labels = NodeLabelSchedulingStrategy(hard={"zone": In("a", "b")}, soft={"zone": Exists()})
    ray.get(where.options(scheduling_strategy=labels).remote(), timeout=DEADLINE_S)


@pytest.mark.parametrize("selector", ["in(a,b)", "!b", "!in(b,c)"])
def test_labels_choose_nodes(selector: str) -> None:
    ref = where.options(label_selector={"zone": selector}).remote()
    assert ray.wait([ref], timeout=5)[0] == [ref]


def test_fallbacks() -> None:
    task = where.options(
        label_selector={"zone": "nowhere"}, fallback_strategy=[{"label_selector": {"zone": "a"}}]
    )
    ray.get(task.remote(), timeout=DEADLINE_S)
