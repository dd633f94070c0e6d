"""The cluster's directory, seen from a program."""

import os
from collections.abc import Iterator
from typing import Any

import aktis
import pytest
from aktis.util import placement_group, remove_placement_group, state

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("state")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=1, labels={"zone": "a"}):
        yield


@aktis.remote(num_cpus=0.25)
class Clerk:
    def pid(self) -> int:
        return os.getpid()


@aktis.remote(num_cpus=0)
class Broken:
    def __init__(self) -> None:
        raise RuntimeError("never works")

    def call(self) -> None:
        """Is never reached."""


@pytest.fixture(scope="module")
def actors(cluster: None) -> Iterator[list[Any]]:
    """One that lives, one that cannot be placed, one that is dead."""
    made = [Clerk.options(name="clerk").remote(), Clerk.options(num_cpus=99).remote(), Broken.remote()]
    aktis.get(made[0].pid.remote())
    with pytest.raises(aktis.exceptions.ActorDiedError):
        aktis.get(made[2].call.remote())
    yield made
    for actor in made:
        aktis.kill(actor)


def test_actors_are_described(actors: list[Any]) -> None:
    alive = state.get_actor(actors[0]._actor_id.hex())
    assert alive is not None
    context = aktis.get_runtime_context()
    assert (alive.state, alive.class_name, alive.name) == ("ALIVE", "Clerk", "clerk")
    assert (alive.job_id, alive.node_id) == (context.get_job_id(), context.get_node_id())
    assert alive.pid == aktis.get(actors[0].pid.remote())
    assert alive.required_resources == {"CPU": 0.25}
    assert alive["namespace"] == context.namespace
    assert alive.death_cause is None
    waiting = state.get_actor(actors[1]._actor_id.hex())
    assert waiting is not None
    assert (waiting["state"], waiting["pid"]) == ("PENDING_CREATION", None)
    dead = state.get_actor(actors[2]._actor_id.hex())
    assert dead is not None
    assert dead.state == "DEAD"
    assert "constructor" in (dead.death_cause or "")
    assert dead.get("nothing", 3) == 3
    with pytest.raises(KeyError):
        dead["nothing"]
    assert dead.asdict()["class_name"] == "Broken"
    assert state.get_actor("00" * 16) is None


def test_filters_choose(actors: list[Any]) -> None:
    def classes(*filters: Any, **options: Any) -> list[str]:
        return sorted(actor.class_name for actor in state.list_actors(filters=filters, **options))

    assert classes() == ["Broken", "Clerk", "Clerk"]
    assert classes(("state", "=", "alive")) == ["Clerk"]
    assert classes(("state", "!=", "ALIVE")) == ["Broken", "Clerk"]
    assert classes(("class_name", "=", "Clerk"), ("state", "!=", "ALIVE")) == ["Clerk"]
    assert classes(("is_detached", "=", False), limit=2, detail=True) == classes(limit=2)
    assert len(classes(limit=2)) == 2
    namespace = aktis.get_runtime_context().namespace
    assert len(classes(("ray_namespace", "=", namespace))) == 3


def test_actors_are_counted(actors: list[Any]) -> None:
    assert state.summarize_actors()["cluster"] == {
        "summary": {
            "Broken": {"class_name": "Broken", "state_counts": {"DEAD": 1}},
            "Clerk": {"class_name": "Clerk", "state_counts": {"ALIVE": 1, "PENDING_CREATION": 1}},
        },
        "total_actors": 3,
        "summary_by": "class",
    }


def test_nodes_and_jobs_are_described() -> None:
    context = aktis.get_runtime_context()
    (node,) = state.list_nodes()
    assert (node.node_id, node.state, node.is_head_node) == (context.get_node_id(), "ALIVE", True)
    assert node.resources_total["CPU"] == 1
    assert node.labels["zone"] == "a"
    assert state.get_node(node.node_id) == node
    job = state.get_job(context.get_job_id())
    assert job is not None
    assert (job.status, job.driver_pid) == ("RUNNING", os.getpid())
    assert state.list_jobs(filters=[("status", "=", "FINISHED")]) == []


def test_placement_groups_are_described() -> None:
    group = placement_group([{"CPU": 0.5}], name="the group")
    assert group.wait(20)
    found = state.get_placement_group(group.id.hex())
    assert found is not None
    assert (found.name, found.state, found.strategy) == ("the group", "CREATED", "PACK")
    assert list(found.bundles_to_node_id.values()) == [aktis.get_runtime_context().get_node_id()]
    remove_placement_group(group)
    assert state.list_placement_groups(filters=[("state", "=", "CREATED")]) == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"filters": [("colour", "=", "red")]}, ValueError, "nothing called 'colour'"),
        ({"filters": [("state", ">", "ALIVE")]}, ValueError, 'is "=" or "!="'),
        ({"filters": [("state", "ALIVE")]}, ValueError, "a filter is"),
        ({"limit": 0}, ValueError, "1 to 10000"),
        ({"limit": "all"}, TypeError, "must be an int"),
        ({"address": "127.0.0.1:1"}, ConnectionError, "127.0.0.1:1"),
        ({"address": "nowhere"}, ValueError, "address must be"),
    ],
)
def test_what_is_wrong_with_a_question_is_said(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        state.list_actors(**options)
