"""`aktis list`, `get` and `summary` on a cluster that `aktis start` left running."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aktis.util.state import list_actors, list_tasks

from tests.support.clients import environment, output, run_program
from tests.support.commands import aktis_command, started_cluster
from tests.support.sandbox import Sandbox, new_sandbox

pytestmark = pytest.mark.xdist_group("state_commands")

PROGRAM = """
import aktis

aktis.init(address="auto")

@aktis.remote(num_cpus=0)
class Clerk:
    def ready(self):
        return True

clerk = Clerk.options(name="clerk", namespace="office", lifetime="detached").remote()
aktis.get(clerk.ready.remote())
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A cluster on which a program has left an actor."""
    with new_sandbox() as box, started_cluster(box):
        output(run_program(box, PROGRAM))
        yield box


def as_json(sandbox: Sandbox, *arguments: str) -> Any:
    return json.loads(aktis_command(sandbox, *arguments, "--json"))


def test_actors_are_listed_and_shown(sandbox: Sandbox) -> None:
    (actor,) = as_json(sandbox, "list", "actors", "--filter", "state=ALIVE", "--filter", "name!=x")
    assert (actor["name"], actor["namespace"]) == ("clerk", "office")
    assert as_json(sandbox, "list", "actors", "--filter", "name != clerk") == []
    table = aktis_command(sandbox, "list", "actors")
    assert "Clerk" in table
    assert "death_cause" not in table
    assert "death_cause" in aktis_command(sandbox, "list", "actors", "--detail")
    assert as_json(sandbox, "get", "actor", actor["actor_id"]) == [actor]
    assert "office" in aktis_command(sandbox, "get", "actor", actor["actor_id"])
    assert as_json(sandbox, "summary", "actors")["summary"]["Clerk"]["state_counts"] == {"ALIVE": 1}
    assert "ALIVE: 1" in aktis_command(sandbox, "summary", "actors")


def test_asking_is_no_job(sandbox: Sandbox) -> None:
    (job,) = as_json(sandbox, "list", "jobs")
    assert job["status"] == "FINISHED"
    workers = as_json(sandbox, "list", "workers", "--filter", "worker_type=DRIVER")
    assert [worker["is_alive"] for worker in workers] == [False]
    with environment(sandbox):
        assert [actor.name for actor in list_actors()] == ["clerk"]
        assert "Clerk.ready" in [task.name for task in list_tasks(address="auto")]
    assert len(as_json(sandbox, "list", "jobs")) == 1


def test_what_is_left_out_is_said(sandbox: Sandbox) -> None:
    told = aktis_command(sandbox, "list", "tasks", "--limit", "1")
    assert "more are left out" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list", "elephants"), "there are actors, nodes, jobs, placement_groups, tasks, objects"),
        (("list", "tasks", "--filter", "colour=red"), "there are task_id, attempt_number, name"),
        (("list", "tasks", "--filter", "red"), "must be FIELD=VALUE"),
        (("list", "tasks", "--limit", "0"), "limit must be 1 to 10000"),
        (("get", "worker", "ff"), "see `aktis list workers`"),
        (("list", "nodes", "--address", "nowhere"), "address must be"),
    ],
)
def test_errors_say_what_there_is(sandbox: Sandbox, arguments: tuple[str, ...], words: str) -> None:
    assert words in aktis_command(sandbox, *arguments, code=1)


def test_without_a_cluster() -> None:
    with new_sandbox() as nothing:
        assert "no cluster of this user is running" in aktis_command(nothing, "list", "nodes", code=1)
        assert "no cluster of this user is running" in aktis_command(nothing, "summary", "tasks", code=1)
