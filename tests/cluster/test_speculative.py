"""speculative: a task that runs for much longer than its siblings is started once more; one result counts.

The first run of a straggler waits at a gate, which only the test opens.
"""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis._runtime import current
from aktis.exceptions import TaskCancelledError, TaskTimeoutError

from tests.support.clients import embedded
from tests.support.gates import Gate

pytestmark = pytest.mark.xdist_group("speculative")

TIMEOUT_S = 30.0


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2, _system_config={"raylet.workers.timeout_grace_s": 0.3}):
        yield


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Gate(tmp_path) as made:
        yield made


def is_first(directory: Path) -> bool:
    """Whether no run has asked before."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(directory / "first", os.O_CREAT | os.O_EXCL))
        return True
    return False


def work(first: Any = None, later: Any = None, directory: Path | None = None, argument: Any = None) -> Any:
    """Do what the first run of a straggler does, or what the later ones do; siblings do nothing."""
    if directory is None:
        return None
    return first() if is_first(directory) else later()


def speculative(**options: Any) -> Any:
    """A function whose usual run time is known to be short."""
    task = aktis.remote(speculative=True, **options)(work)
    aktis.get([task.remote() for _ in range(5)], timeout=TIMEOUT_S)
    return task


def counted(name: str) -> int:
    return current.require().core.statistics()[name]


def places(ref: Any) -> list[tuple[bytes, int]]:
    return current.require().core.workers_of(ref.task_id().binary())


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Let the process do its work until something is so."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, what
        aktis.wait([current.require().core.pending_object()], timeout=0.01)


def wait_until_ended() -> None:
    """Return when no run of any task is under way."""
    wait_for(lambda: counted("tasks") == 0, "a run has not ended")


def test_a_straggler_runs_again_elsewhere_and_the_first_is_interrupted(gate: Gate, tmp_path: Path) -> None:
    started, won = counted("second_runs"), counted("second_runs_won")
    task = speculative()
    pid = aktis.get(task.remote(gate.enter, os.getpid, tmp_path), timeout=TIMEOUT_S)
    gate.wait_entered()
    assert isinstance(pid, int)
    assert (counted("second_runs"), counted("second_runs_won")) == (started + 1, won + 1)
    wait_until_ended()  # nobody has opened the gate
    assert len(set(aktis.get([task.remote() for _ in range(4)], timeout=TIMEOUT_S))) == 1


def test_the_first_run_may_still_win(gate: Gate, tmp_path: Path) -> None:
    with Gate(tmp_path, "second") as second:

        def wait_at_the_first() -> str:
            gate.enter()
            return "first"

        ref = speculative().remote(wait_at_the_first, second.enter, tmp_path)
        gate.wait_entered()
        second.wait_entered()
        gate.open()
        assert aktis.get(ref, timeout=TIMEOUT_S) == "first"
        wait_until_ended()


def test_large_results_and_arguments_leave_nothing_behind(gate: Gate, tmp_path: Path) -> None:
    before = counted("references")

    def first() -> bytes:
        with contextlib.suppress(KeyboardInterrupt):
            gate.enter()
        return b"1" * 300_000  # stored, although nobody wants it any more

    argument = aktis.put(b"a" * 300_000)
    ref = speculative().remote(first, lambda: b"2" * 300_000, tmp_path, argument)
    assert set(aktis.get(ref, timeout=TIMEOUT_S)) == {ord("2")}
    del ref, argument
    wait_until_ended()
    assert counted("references") == before


def test_what_the_loser_has_submitted_ends_with_it(gate: Gate, tmp_path: Path) -> None:
    with Gate(tmp_path, "child") as child, Gate(tmp_path, "second") as second:

        @aktis.remote(num_cpus=0)
        def wait() -> None:
            try:
                child.enter()
            except KeyboardInterrupt:
                gate.arrive()
                raise

        ref = speculative().remote(lambda: aktis.get(wait.remote()), second.enter, tmp_path)
        child.wait_entered()
        second.open()
        aktis.get(ref, timeout=TIMEOUT_S)
        gate.wait_entered()
        wait_until_ended()


def test_cancelling_ends_both_runs(gate: Gate, tmp_path: Path) -> None:
    with Gate(tmp_path, "second") as second:
        ref = speculative().remote(gate.enter, second.enter, tmp_path)
        gate.wait_entered()
        second.wait_entered()
        aktis.cancel(ref)
        with pytest.raises(TaskCancelledError):
            aktis.get(ref, timeout=TIMEOUT_S)
        wait_until_ended()


def deaf(entered: Gate) -> None:
    """Hold the interpreter for ever: no interrupt comes through."""
    entered.arrive()
    ctypes.PyDLL(None).sleep(10_000)


def test_cancelling_by_force_kills_both_workers(gate: Gate, tmp_path: Path) -> None:
    ref = speculative().remote(lambda: deaf(gate), lambda: deaf(gate), tmp_path)
    gate.wait_entered(2)
    aktis.cancel(ref, force=True)
    with pytest.raises(TaskCancelledError):
        aktis.get(ref, timeout=TIMEOUT_S)
    wait_until_ended()


def test_a_loser_that_does_not_listen_is_killed(gate: Gate, tmp_path: Path) -> None:
    assert aktis.get(speculative().remote(lambda: deaf(gate), lambda: 2, tmp_path), timeout=TIMEOUT_S) == 2
    wait_until_ended()


def test_both_runs_have_the_same_time(gate: Gate, tmp_path: Path) -> None:
    with Gate(tmp_path, "second") as second:
        ref = speculative(timeout_s=1.5).remote(gate.enter, second.enter, tmp_path)
        with pytest.raises(TaskTimeoutError, match=r"timeout_s=1\.5"):
            aktis.get(ref, timeout=TIMEOUT_S)
        second.wait_entered()
        wait_until_ended()


def test_a_worker_that_dies_is_no_retry_while_another_runs(gate: Gate, tmp_path: Path) -> None:
    with Gate(tmp_path, "second") as second:

        def die() -> None:
            gate.enter()
            os._exit(1)

        def later() -> str:
            second.enter()
            return "later"

        ref = speculative(max_retries=1).remote(die, later, tmp_path)
        gate.wait_entered()
        second.wait_entered()
        gate.open()
        wait_for(lambda: len(places(ref)) == 1, "the death of the worker was not noticed")
        second.open()
        assert aktis.get(ref, timeout=TIMEOUT_S) == "later"


def test_an_error_waits_for_the_other_run(gate: Gate, tmp_path: Path) -> None:
    started = counted("second_runs")

    def fail() -> None:
        raise ValueError("only here")

    def first() -> str:
        gate.enter()
        return "first"

    ref = speculative(max_retries=1, retry_exceptions=True).remote(first, fail, tmp_path)
    gate.wait_entered()
    wait_for(lambda: counted("second_runs") > started and len(places(ref)) == 1, "the second did not fail")
    gate.open()
    assert aktis.get(ref, timeout=TIMEOUT_S) == "first"
