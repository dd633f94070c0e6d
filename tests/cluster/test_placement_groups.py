"""Placement groups on a real node: reserving, running inside, what children inherit, removal, names."""

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis._runtime import current
from aktis.exceptions import (
    ActorPlacementGroupRemoved,
    GetTimeoutError,
    TaskPlacementGroupRemoved,
)
from aktis.util import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from aktis.util.placement_group import PlacementGroup
from aktis.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tests.support.clients import embedded, output, run_program
from tests.support.commands import started_cluster
from tests.support.gates import Gate
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.xdist_group("placement_groups")

LIMIT_S = 30.0
LOOKS = 600
PAUSE_S = 0.05


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[aktis.Context]:
    with embedded(num_cpus=4, num_gpus=2, labels={"zone": "a"}, namespace="tests") as context:
        yield context


@pytest.fixture
def pair() -> Iterator[PlacementGroup]:
    """Two bundles of one CPU; one has a GPU too."""
    group = placement_group([{"CPU": 1}, {"CPU": 1, "GPU": 1}])
    assert group.wait(LIMIT_S)
    yield group
    remove_placement_group(group)


def inside(group: PlacementGroup, index: int = -1, captures: bool | None = None) -> dict[str, Any]:
    """Options of what runs in a group."""
    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, index, captures)}


def becomes(condition: Callable[[], bool]) -> bool:
    """Look whether something that nobody is told of has become so, for a while."""
    never = current.require().core.pending_object()
    for _ in range(LOOKS):
        if condition():
            return True
        aktis.wait([never], timeout=PAUSE_S)
    return condition()


def free_cpus_become(wanted: float) -> None:
    """Wait for what a removal gives back; the raylet reports it a moment later."""
    assert becomes(lambda: aktis.available_resources().get("CPU", 0) == wanted)


@aktis.remote
def where() -> tuple[str | None, dict[str, float], str]:
    context = aktis.get_runtime_context()
    return (
        context.get_placement_group_id(),
        context.get_assigned_resources(),
        os.environ["CUDA_VISIBLE_DEVICES"],
    )


@aktis.remote
def hold(gate: Gate) -> None:
    gate.enter()


@aktis.remote(num_cpus=1)
class Member:
    def where(self) -> str | None:
        group = get_current_placement_group()
        return None if group is None else group.id.hex()

    def child(self) -> tuple[str | None, dict[str, float], str]:
        return aktis.get(where.remote())

    def stay(self) -> None:
        threading.Event().wait()


def call_until_it_fails(member: Any) -> None:
    """An actor may take another call before it hears of its end."""
    aktis.get(member.stay.remote(), timeout=LIMIT_S)


# ---- reserving ----


def test_a_group_is_reserved_and_described() -> None:
    group = placement_group([{"CPU": 1}, {"CPU": 0.5, "GPU": 1}], strategy="STRICT_PACK")
    assert aktis.get(group.ready(), timeout=LIMIT_S) == group
    assert group.wait(0)
    assert group.bundle_specs == [{"CPU": 1.0}, {"CPU": 0.5, "GPU": 1.0}]
    assert group.bundle_count == 2
    assert aktis.cluster_resources()["CPU"] == 4
    free_cpus_become(2.5)
    node = aktis.get_runtime_context().get_node_id()
    row = placement_group_table(group)
    assert row["placement_group_id"] == group.id.hex()
    assert row["bundles"] == {0: {"CPU": 1.0}, 1: {"CPU": 0.5, "GPU": 1.0}}
    assert row["bundles_to_node_id"] == {0: node, 1: node}
    assert (row["state"], row["strategy"], row["name"]) == ("CREATED", "STRICT_PACK", "")
    assert placement_group_table()[group.id.hex()] == row
    remove_placement_group(group)
    free_cpus_become(4)
    assert placement_group_table(group)["state"] == "REMOVED"
    remove_placement_group(group)  # again: nothing happens


@pytest.mark.parametrize("strategy", ["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"])
def test_one_node_can_hold_a_bundle_of_any_strategy(strategy: str) -> None:
    group = placement_group([{"CPU": 1}], strategy=strategy)
    assert group.wait(LIMIT_S)
    remove_placement_group(group)


def test_a_handle_can_be_copied_stored_and_passed(pair: PlacementGroup) -> None:
    copy = pickle.loads(pickle.dumps(pair))
    assert copy == pair
    assert hash(copy) == hash(pair)
    assert copy != placement_group_of_nothing()
    assert aktis.get(aktis.put({"group": pair}))["group"].bundle_specs == pair.bundle_specs

    @aktis.remote
    def wait_and_count(group: PlacementGroup) -> int:
        assert group.wait(LIMIT_S)
        return group.bundle_count

    assert aktis.get(wait_and_count.remote(pair)) == 2


def placement_group_of_nothing() -> PlacementGroup:
    empty = PlacementGroup.empty()
    assert empty.is_empty
    assert empty.bundle_count == 0
    return empty


def test_a_group_that_fits_on_no_set_of_nodes_waits_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    group = placement_group([{"CPU": 1}, {"CPU": 1}], strategy="STRICT_SPREAD", name="apart")
    said: list[str] = []

    def is_said() -> bool:
        said.append(capfd.readouterr().err)
        return "STRICT_SPREAD needs a node for each of its 2 bundles, and the cluster has 1" in "".join(said)

    assert becomes(is_said), said
    assert "placement group apart fits on no set of nodes" in "".join(said)
    assert group.wait(0) is False
    with pytest.raises(GetTimeoutError):
        aktis.get(group.ready(), timeout=0)
    row = placement_group_table(group)
    assert row["state"] == "PENDING"
    assert row["stats"]["scheduling_state"] == "INFEASIBLE"
    assert "STRICT_SPREAD" in row["pending_reason"]
    waiting = where.options(**inside(group)).remote()
    assert aktis.wait([waiting], timeout=0.1) == ([], [waiting])
    remove_placement_group(group)
    with pytest.raises(TaskPlacementGroupRemoved, match="was removed"):
        aktis.get(waiting, timeout=LIMIT_S)


def test_nothing_starts_in_a_group_after_its_removal_and_nothing_of_it_is_kept() -> None:
    core = current.require().core
    before = core.statistics()["scheduling_classes"]
    for _ in range(3):
        group = placement_group([{"CPU": 1}])
        task = where.options(**inside(group))
        assert aktis.get(task.remote(), timeout=LIMIT_S) is not None  # its worker is still leased
        remove_placement_group(group)
        for late in (task, where.options(**inside(group))):
            with pytest.raises(TaskPlacementGroupRemoved, match="was removed"):
                aktis.get(late.remote(), timeout=LIMIT_S)
    assert becomes(lambda: core.statistics()["scheduling_classes"] <= before)


def test_labels_that_no_node_has_keep_a_group_waiting() -> None:
    here = placement_group([{"CPU": 1}], bundle_label_selector=[{"zone": "in(a, b)"}])
    there = placement_group([{"CPU": 1}], bundle_label_selector=[{"zone": "!a"}])
    assert here.wait(LIMIT_S)
    assert not there.wait(0)
    assert "zone" in placement_group_table(there)["pending_reason"]
    remove_placement_group(here)
    remove_placement_group(there)


def test_a_group_gets_what_another_gives_back() -> None:
    first, second = (placement_group([{"CPU": 3}]) for _ in range(2))
    assert first.wait(LIMIT_S)
    assert not second.wait(0)
    assert "waits for" in placement_group_table(second)["pending_reason"]
    remove_placement_group(first)
    assert second.wait(LIMIT_S)
    remove_placement_group(second)


def test_idle_leases_make_way_for_a_group() -> None:
    assert len(aktis.get([where.remote() for _ in range(8)])) == 8  # their workers are kept for a second
    group = placement_group([{"CPU": 4}])
    assert group.wait(LIMIT_S)
    remove_placement_group(group)


def test_many_groups_at_once() -> None:
    groups = [placement_group([{"CPU": 0.01}]) for _ in range(100)]
    assert aktis.get([group.ready() for group in groups], timeout=LIMIT_S) == groups
    for group in groups:
        remove_placement_group(group)
    free_cpus_become(4)


# ---- running inside ----


def test_tasks_run_in_the_bundle_that_they_name(pair: PlacementGroup) -> None:
    group_id = pair.id.hex()
    first, second = aktis.get([where.options(**inside(pair, index)).remote() for index in range(2)])
    assert first == (group_id, {"CPU": 1.0}, "")
    assert second[0] == group_id
    with_gpu = where.options(num_gpus=1, **inside(pair, 1))
    assert aktis.get(with_gpu.remote())[1:] == ({"CPU": 1.0, "GPU": 1.0}, with_gpu_name(with_gpu))
    assert aktis.get(where.options(num_gpus=1, **inside(pair)).remote())[0] == group_id  # finds the bundle
    assert aktis.get(where.remote())[0] is None
    assert aktis.get_runtime_context().get_placement_group_id() is None
    assert get_current_placement_group() is None


def with_gpu_name(task: object) -> str:
    """The GPU of the bundle: always the same one."""
    name: str = aktis.get(task.remote())[2]
    assert name in ("0", "1")
    return name


def test_the_older_options_mean_the_same(pair: PlacementGroup) -> None:
    options = {"placement_group": pair, "placement_group_bundle_index": 1}
    assert aktis.get(where.options(**options).remote())[0] == pair.id.hex()  # type: ignore[call-overload]
    member = Member.options(**options).remote()
    assert aktis.get(member.where.remote()) == pair.id.hex()
    aktis.kill(member)


def test_what_is_reserved_is_taken_from_the_others(pair: PlacementGroup) -> None:
    greedy = where.options(num_cpus=3).remote()
    assert aktis.wait([greedy], timeout=0.2) == ([], [greedy])  # two of four are reserved
    third = placement_group([{"CPU": 2}])
    assert third.wait(LIMIT_S)
    assert aktis.get(where.options(num_cpus=2, **inside(third)).remote())[1] == {"CPU": 2.0}
    remove_placement_group(third)
    remove_placement_group(pair)
    assert aktis.get(greedy, timeout=LIMIT_S)[1] == {"CPU": 3.0}


def test_an_actor_waits_for_its_group_and_for_room_in_its_bundle() -> None:
    blocker = placement_group([{"CPU": 4}])
    assert blocker.wait(LIMIT_S)
    group = placement_group([{"CPU": 1}])
    actors = [Member.options(**inside(group)).remote() for _ in range(2)]
    calls = [actor.where.remote() for actor in actors]
    assert aktis.wait(calls, timeout=0.1) == ([], calls)
    remove_placement_group(blocker)
    (ready,), (other,) = aktis.wait(calls, timeout=LIMIT_S)
    assert aktis.get(ready) == group.id.hex()
    assert aktis.wait([other], timeout=0.1) == ([], [other])  # the bundle holds one actor
    aktis.kill(actors[calls.index(ready)])
    assert aktis.get(other, timeout=LIMIT_S) == group.id.hex()
    remove_placement_group(group)


def test_groups_are_made_in_tasks_and_actors_too() -> None:
    @aktis.remote(num_cpus=0)
    def make_and_use() -> bool:
        group = placement_group([{"CPU": 1}])
        seen = aktis.get(where.options(**inside(group)).remote())[0]
        remove_placement_group(group)
        return bool(seen == group.id.hex())

    assert aktis.get(make_and_use.remote())


# ---- what children inherit ----


def test_children_run_in_the_group_if_it_captures_them(pair: PlacementGroup) -> None:
    captured = Member.options(**inside(pair, 0, captures=True), num_cpus=0.5).remote()
    free = Member.options(**inside(pair, 0), num_cpus=0.5).remote()
    assert aktis.get(captured.child.remote())[0] == pair.id.hex()
    assert aktis.get(free.child.remote())[0] is None

    @aktis.remote(num_cpus=0)
    def parent() -> list[str | None]:
        assert aktis.get_runtime_context().should_capture_child_tasks_in_placement_group
        outside = [
            where.options(placement_group=None),
            where.options(scheduling_strategy="DEFAULT"),
            where.options(scheduling_strategy=PlacementGroupSchedulingStrategy(None)),
        ]
        return [aktis.get(task.remote())[0] for task in [where, *outside]]

    capturing = parent.options(**inside(pair, captures=True))
    assert aktis.get(capturing.remote()) == [pair.id.hex(), None, None, None]
    for actor in (captured, free):
        aktis.kill(actor)


# ---- removal ----


def test_removal_ends_what_runs_and_what_waits(tmp_path: Path) -> None:
    group = placement_group([{"CPU": 1}])
    with Gate(tmp_path) as gate:
        refs = [hold.options(**inside(group)).remote(gate) for _ in range(2)]  # the second one waits
        gate.wait_entered()
        end_a_group_in_use(group, refs)
    late = where.options(**inside(group)).remote()
    with pytest.raises(TaskPlacementGroupRemoved):
        aktis.get(late, timeout=LIMIT_S)
    too_late = Member.options(**inside(group)).remote()
    with pytest.raises(ActorPlacementGroupRemoved):
        aktis.get(too_late.where.remote(), timeout=LIMIT_S)
    with pytest.raises(TaskPlacementGroupRemoved):
        aktis.get(group.ready(), timeout=LIMIT_S)
    with pytest.raises(TaskPlacementGroupRemoved):
        group.wait(0)
    free_cpus_become(4)


def end_a_group_in_use(group: PlacementGroup, refs: list[aktis.ObjectRef[None]]) -> None:
    member = Member.options(**inside(group), num_cpus=0).remote()
    assert aktis.get(member.where.remote(), timeout=LIMIT_S) == group.id.hex()
    remove_placement_group(group)
    for ref in refs:
        with pytest.raises(TaskPlacementGroupRemoved, match=group.id.hex()):
            aktis.get(ref, timeout=LIMIT_S)
    with pytest.raises(ActorPlacementGroupRemoved, match="was removed"):
        call_until_it_fails(member)


def test_a_removal_elsewhere_is_noticed_here(pair: PlacementGroup, tmp_path: Path) -> None:
    @aktis.remote(num_cpus=0)
    def remove(group: PlacementGroup) -> None:
        remove_placement_group(group)

    member = Member.options(**inside(pair)).remote()
    assert aktis.get(member.where.remote(), timeout=LIMIT_S) == pair.id.hex()
    with Gate(tmp_path) as gate:
        running = hold.options(**inside(pair)).remote(gate)
        gate.wait_entered()
        aktis.get(remove.remote(pair))
        with pytest.raises(TaskPlacementGroupRemoved):
            aktis.get(running, timeout=LIMIT_S)
    with pytest.raises(ActorPlacementGroupRemoved):
        call_until_it_fails(member)


def test_an_actor_does_not_restart_without_its_group() -> None:
    group = placement_group([{"CPU": 1}])
    member = Member.options(max_restarts=-1, max_task_retries=-1, **inside(group)).remote()
    assert aktis.get(member.where.remote(), timeout=LIMIT_S) == group.id.hex()
    remove_placement_group(group)
    with pytest.raises(ActorPlacementGroupRemoved):
        call_until_it_fails(member)


# ---- names ----


def test_a_name_finds_its_group_until_that_is_removed() -> None:
    group = placement_group([{"CPU": 1}], name="known")
    found = get_placement_group("known")
    assert found == group
    assert found.bundle_specs == [{"CPU": 1.0}]
    with pytest.raises(ValueError, match="'known' is taken in namespace 'tests'"):
        placement_group([{"CPU": 1}], name="known")

    @aktis.remote
    def find(name: str) -> PlacementGroup:
        return get_placement_group(name)

    assert aktis.get(find.remote("known")) == group
    remove_placement_group(group)
    with pytest.raises(ValueError, match="no placement group named 'known'"):
        get_placement_group("known")
    again = placement_group([{"CPU": 1}], name="known")
    assert again != group
    remove_placement_group(again)


# ---- bad input ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bundles": []}, "must not be empty"),
        ({"bundles": {"CPU": 1}}, "must be a list of dicts"),
        ({"bundles": ["CPU"]}, "bundle 0 must be a dict"),
        ({"bundles": [{"CPU": 1}, {}]}, "bundle 1 asks for nothing"),
        ({"bundles": [{"CPU": 0}]}, "bundle 0 asks for nothing"),
        ({"bundles": [{"CPU": -1}]}, "bundle 0 is not valid"),
        ({"bundles": [{"CPU": "1"}]}, "bundle 0 is not valid"),
        ({"bundles": [{"GPU": 1.5}]}, "more than one GPU must be a whole number"),
        ({"bundles": [{"CPU": 1}], "strategy": "TIGHT"}, "strategy must be one of PACK"),
        ({"bundles": [{"CPU": 1}], "lifetime": "long"}, "lifetime must be None or 'detached'"),
        ({"bundles": [{"CPU": 1}], "bundle_label_selector": []}, "0 entries for 1 bundle"),
        ({"bundles": [{"CPU": 1}], "bundle_label_selector": [{"zone": "in()"}]}, "must list values"),
        (
            {"bundles": [{"CPU": 1}], "bundle_label_selector": ["zone"]},
            r"bundle_label_selector\[0\] must be a dict",
        ),
        ({"bundles": [{"CPU": 1}], "topology_strategy": {"rack": "PACK"}}, "topology_strategy"),
    ],
)
def test_groups_that_cannot_be(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        placement_group(**arguments)


def test_wrong_types() -> None:
    with pytest.raises(TypeError, match="name must be a str"):
        placement_group([{"CPU": 1}], name=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a PlacementGroup, got str"):
        remove_placement_group("group")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a str"):
        get_placement_group(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not empty"):
        get_placement_group("")


def test_what_does_not_fit_into_the_group_is_refused_at_once(pair: PlacementGroup) -> None:
    with pytest.raises(ValueError, match="does not fit into any bundle"):
        where.options(num_cpus=2, **inside(pair)).remote()
    with pytest.raises(ValueError, match="does not fit into bundle 0"):
        where.options(num_gpus=1, **inside(pair, 0)).remote()
    with pytest.raises(ValueError, match="has no bundle 2: its bundles are 0 to 1"):
        where.options(**inside(pair, 2)).remote()
    with pytest.raises(ValueError, match="does not fit"):
        Member.options(num_cpus=2, **inside(pair)).remote()
    with pytest.raises(ValueError, match="is in no placement group"):
        where.options(placement_group_bundle_index=0).remote()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"placement_group": "group"}, ValueError, "PlacementGroup, None or 'default'"),
        ({"placement_group": 5}, TypeError, "PlacementGroup, None or 'default'"),
        ({"placement_group_bundle_index": -2}, ValueError, "-1 for any"),
        ({"placement_group_bundle_index": "0"}, TypeError, "an int"),
        ({"placement_group_capture_child_tasks": 1}, TypeError, "placement_group_capture_child_tasks"),
        (inside("group"), ValueError, "PlacementGroup"),  # type: ignore[arg-type]
    ],
)
def test_options_that_are_not_valid(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        where.options(**options)


def test_options_that_exclude_each_other(pair: PlacementGroup) -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        where.options(placement_group=pair, scheduling_strategy="SPREAD")
    with pytest.raises(ValueError, match="is an argument of PlacementGroupSchedulingStrategy too"):
        where.options(placement_group_bundle_index=0, **inside(pair))


# ---- lifetimes: programs of their own ----

MAKE = """
import aktis
from aktis.util import placement_group
with aktis.init(namespace="tests"):
    detached = placement_group([{"CPU": 0.5}], name="stays", lifetime="detached")
    assert detached.wait(30)
    assert placement_group([{"CPU": 0.5}], name="goes").wait(30)
    print(detached.id.hex())
"""
END = """
import aktis
from aktis.util import get_placement_group, placement_group_table, remove_placement_group
with aktis.init(namespace="tests"):
    group = get_placement_group("stays")
    assert group.wait(30)
    never = aktis.remote(resources={"nowhere": 1})(abs).remote(1)
    for _ in range(600):
        states = {row["name"]: row["state"] for row in placement_group_table().values()}
        if states["goes"] == "REMOVED":
            break
        aktis.wait([never], timeout=0.05)
    assert states["goes"] == "REMOVED"
    aktis.cancel(never)
    try:
        get_placement_group("goes")
    except ValueError as error:
        assert "no placement group named 'goes'" in str(error)
    else:
        raise AssertionError("it is still found")
    remove_placement_group(group)  # the last that this program does
    print(group.id.hex())
"""
LOOK = """
import aktis
from aktis.util import placement_group_table
with aktis.init(namespace="tests"):
    print([row["state"] for row in placement_group_table().values()])
"""


def test_a_group_ends_with_its_job_unless_it_is_detached(sandbox: Sandbox) -> None:
    with started_cluster(sandbox):
        made = output(run_program(sandbox, MAKE)).strip()
        assert output(run_program(sandbox, END)).strip() == made
        assert output(run_program(sandbox, LOOK)).strip() == "['REMOVED', 'REMOVED']"


WITHOUT_RAYLET = """
import os, signal
import aktis
from aktis._common.paths import SessionPaths
from aktis._common.records import DaemonRecord
from aktis.exceptions import LocalRayletDiedError
from aktis.util import placement_group, remove_placement_group
from pathlib import Path
from typing import Any

context = aktis.init(address="local", num_cpus=1)
kept, waiting = placement_group([{"CPU": 1}]), placement_group([{"CPU": 1}])
assert kept.wait(30)
ref = waiting.ready()
record = DaemonRecord.read(SessionPaths.in_session(Path(context["session_dir"])).daemon_record("raylet"))
os.kill(record.pid, signal.SIGKILL)
for call in (
    lambda: aktis.get(ref, timeout=30),
    lambda: waiting.wait(30),
    lambda: placement_group([{"CPU": 1}]),
    lambda: remove_placement_group(kept),
):
    try:
        call()
    except LocalRayletDiedError:
        print("told", flush=True)
aktis.shutdown()
"""


def test_whoever_waits_for_a_group_hears_that_the_raylet_is_gone(sandbox: Sandbox) -> None:
    assert output(run_program(sandbox, WITHOUT_RAYLET)).split() == ["told"] * 4
