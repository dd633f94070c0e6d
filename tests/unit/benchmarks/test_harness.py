"""A system's process seen from the harness: answers, errors, crashes, hangs, leftovers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.harness import Outcome, run_system
from benchmarks.protocol import Event, Request
from benchmarks.run import turn_order
from benchmarks.systems.registry import SYSTEMS, select_systems

PYTHON = Path(sys.executable)


def request_for(system: str, *rows: str) -> Request:
    return Request(system, rows, seconds=0.01, warmup_s=0.0, clients=2, num_cpus=2)


def run(request: Request, tmp_path: Path) -> tuple[Outcome, list[Event]]:
    events: list[Event] = []
    return run_system(PYTHON, request, tmp_path / "log", 20.0, events.append), events


def test_request_and_event_survive_json() -> None:
    request = request_for("limit", "a, b", "c")
    assert Request.from_json(request.to_json()) == request
    event = Event("failed", "a, b", text="line one\nline two")
    assert Event.from_json(event.to_json()) == event


def test_limits_are_measured_and_nothing_is_left(tmp_path: Path) -> None:
    rows = ("tasks, synchronous", "tasks, asynchronous", "put, GB/s", "put, several clients, GB/s")
    outcome, events = run(request_for("limit", *rows, "init, seconds"), tmp_path)
    assert outcome.crash is None
    assert outcome.failures == {}
    assert outcome.values.keys() == set(rows)  # no limit is known for the last row asked for
    assert all(value > 0 for value in outcome.values.values())
    assert outcome.left_behind == []
    assert [event.row for event in events if event.kind == "started"] == list(rows)


@pytest.mark.parametrize("system", ["multiprocessing", "futures"])
def test_pools_are_measured(system: str, tmp_path: Path) -> None:
    outcome, _ = run(request_for(system, "tasks, synchronous", "tasks, asynchronous"), tmp_path)
    assert outcome.crash is None
    assert outcome.values.keys() == {"tasks, synchronous", "tasks, asynchronous"}


def test_a_process_that_dies_is_a_crash_that_names_the_log(tmp_path: Path) -> None:
    outcome, _ = run(request_for("no such system", "tasks, synchronous"), tmp_path)
    assert outcome.crash is not None
    assert "the process ended while starting, exit status 1" in outcome.crash
    assert str(tmp_path / "log") in outcome.crash
    assert "KeyError" in (tmp_path / "log").read_text()


def test_a_process_that_does_not_answer_is_killed(tmp_path: Path) -> None:
    outcome = run_system(
        PYTHON, request_for("limit", "tasks, synchronous"), tmp_path / "log", 0.001, lambda event: None
    )
    assert outcome.crash is not None
    assert "no answer within 0.001 s while starting" in outcome.crash


def test_each_round_begins_with_the_next_system() -> None:
    systems = select_systems("aktis, ray,limit")
    assert [system.name for system in turn_order(systems, 1)] == ["aktis", "ray", "limit"]
    assert [system.name for system in turn_order(systems, 2)] == ["ray", "limit", "aktis"]
    assert turn_order(systems, 4) == systems


def test_an_unknown_system_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no system 'rya'; the systems are: aktis, ray, "):
        select_systems("rya")


def test_every_other_system_has_a_measurer() -> None:
    for system in SYSTEMS.values():
        if system.module is not None:
            assert callable(system.measurer())
