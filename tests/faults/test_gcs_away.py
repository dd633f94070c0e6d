"""The GCS is killed: what goes on without it, what waits for it, and what is right again afterwards."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis._common.paths import SessionPaths
from aktis._common.records import DaemonRecord
from aktis.exceptions import ActorPlacementGroupRemoved
from aktis.util import (
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from aktis.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tests.support.clients import embedded, output, run_program
from tests.support.commands import aktis_command, started_cluster
from tests.support.sandbox import Sandbox, wait_for_exit

AWAY_MS = 3000
"""How long the supervisor leaves the GCS dead: long enough for what a test does meanwhile."""


class Gcs:
    """The GCS of a session directory, to be killed."""

    def __init__(self, session_dir: str) -> None:
        self._record = SessionPaths.in_session(Path(session_dir)).daemon_record("gcs")
        self._killed = 0

    def kill(self) -> None:
        """End it by SIGKILL and wait until it is gone."""
        record = DaemonRecord.read(self._record)
        assert record is not None
        self._killed = record.pid
        os.kill(record.pid, signal.SIGKILL)
        assert wait_for_exit(record.pid, 5)

    @property
    def is_away(self) -> bool:
        """Whether no other has started since."""
        record = DaemonRecord.read(self._record)
        return record is None or record.pid == self._killed


@pytest.fixture
def gcs() -> Iterator[Gcs]:
    """Of an embedded cluster whose supervisor takes its time."""
    settings = {"supervisor.restart_delay_ms": AWAY_MS}
    with embedded(num_cpus=1, namespace="tests", _system_config=settings) as context:
        yield Gcs(context["session_dir"])


@aktis.remote
class Counter:
    def __init__(self, value: int = 0) -> None:
        self.value = value

    def add(self) -> int:
        self.value += 1
        return self.value

    def pid(self) -> int:
        return os.getpid()


@aktis.remote
def read_line(path: str) -> str:
    """Run until somebody writes."""
    with open(path) as file:
        return file.readline()


@aktis.remote
def twice(number: int) -> int:
    return 2 * number


def test_what_runs_ends_and_what_a_worker_knows_runs_without_a_gcs(gcs: Gcs, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert aktis.get(twice.remote(1)) == 2
    running = read_line.remote(str(pipe))
    with pipe.open("w") as file:  # opens when the task has opened it
        gcs.kill()
        file.write("written meanwhile")
    assert aktis.get(running) == "written meanwhile"
    assert aktis.get([twice.remote(number) for number in range(100)]) == list(range(0, 200, 2))
    assert aktis.get(aktis.put([1])) == [1]
    assert gcs.is_away


def test_an_actor_that_dies_meanwhile_restarts_when_the_gcs_is_back(gcs: Gcs) -> None:
    actor = Counter.options(max_restarts=1).remote(10)
    assert aktis.get(actor.add.remote()) == 11
    pid = aktis.get(actor.pid.remote())
    gcs.kill()
    os.kill(pid, signal.SIGKILL)
    assert wait_for_exit(pid, 5)
    call = actor.add.options(max_task_retries=-1).remote()
    assert aktis.wait([call], timeout=0.1) == ([], [call])
    assert gcs.is_away
    assert aktis.get(call, timeout=30) == 11
    assert aktis.get(actor.pid.remote()) != pid


def test_a_death_meanwhile_is_final_when_no_restart_is_left(gcs: Gcs) -> None:
    actor = Counter.remote()
    pid = aktis.get(actor.pid.remote())
    gcs.kill()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(aktis.exceptions.ActorDiedError, match="SIGKILL"):
        aktis.get(actor.add.remote(), timeout=30)


def test_names_and_new_actors_wait_for_the_gcs(gcs: Gcs) -> None:
    kept = Counter.options(name="kept").remote(5)
    assert aktis.get(kept.add.remote()) == 6
    gcs.kill()
    created = Counter.remote(1)  # asked for while nobody can answer
    assert gcs.is_away
    assert aktis.get(aktis.get_actor("kept").add.remote()) == 7
    assert not gcs.is_away
    assert aktis.get(created.add.remote()) == 2
    with pytest.raises(aktis.exceptions.ActorAlreadyExistsError):
        Counter.options(name="kept").remote()
    with pytest.raises(ValueError, match="no actor named 'other'"):
        aktis.get_actor("other")


def test_jobs_after_the_restart_join_and_find_what_was_there(sandbox: Sandbox) -> None:
    with started_cluster(sandbox) as report:
        first = """
import aktis
with aktis.init(namespace="shared"):
    @aktis.remote
    class Kept:
        def value(self): return 42
    kept = Kept.options(name="kept", lifetime="detached").remote()
    print(aktis.get(kept.value.remote()), aktis.get_runtime_context().get_job_id())
"""
        second = """
import aktis
with aktis.init(namespace="shared"):
    kept = aktis.get_actor("kept")
    print(aktis.get(kept.value.remote()), aktis.get_runtime_context().get_job_id())
    @aktis.remote
    def one(): return 1
    print(aktis.get(one.remote()))
    aktis.kill(kept)
"""
        value, first_job = output(run_program(sandbox, first)).split()
        Gcs(report["session_dir"]).kill()
        same_value, second_job, one = output(run_program(sandbox, second)).split()
        assert (value, same_value, one) == ("42", "42", "1")
        assert first_job != second_job
        status = json.loads(aktis_command(sandbox, "status", "--json"))
        assert [node["state"] for node in status["nodes"]] == ["ALIVE"]
        assert status["jobs"] == {"FINISHED": 2}


def call_until_it_fails(actor: Any) -> None:
    """An actor may take another call before it hears of its end."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        aktis.get(actor.pid.remote(), timeout=30)


def test_placement_groups_survive_and_what_was_asked_meanwhile_is_done(gcs: Gcs) -> None:
    kept = placement_group([{"CPU": 0.5}], name="kept")
    waiting = placement_group([{"CPU": 0.9}])
    assert kept.wait(30)
    assert not waiting.wait(0)
    inside = PlacementGroupSchedulingStrategy(kept)
    actor = Counter.options(num_cpus=0.25, scheduling_strategy=inside).remote(1)
    pid = aktis.get(actor.pid.remote())
    gcs.kill()
    task = twice.options(num_cpus=0.25, scheduling_strategy=inside)
    created = placement_group([{"CPU": 0.5}])  # asked for while nobody can answer
    assert gcs.is_away
    assert get_placement_group("kept") == kept  # waits for the GCS
    assert created.wait(30)
    assert aktis.get(actor.pid.remote()) == pid
    assert aktis.get(task.remote(4)) == 8
    assert not waiting.wait(0)
    remove_placement_group(created)
    remove_placement_group(kept)
    with pytest.raises(ActorPlacementGroupRemoved):
        call_until_it_fails(actor)
    assert waiting.wait(30)


def test_a_removal_meanwhile_holds(gcs: Gcs) -> None:
    group = placement_group([{"CPU": 1}], lifetime="detached")
    assert group.wait(30)
    gcs.kill()
    remove_placement_group(group)
    assert gcs.is_away
    assert placement_group_table(group)["state"] == "REMOVED"
    assert placement_group([{"CPU": 1}]).wait(30)
