"""What a process may have under way is bounded by the configuration, and a full bound holds nothing up."""

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis._runtime import current

from tests.support.clients import embedded, start_program
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.xdist_group("bounds")
LIMIT_S = 30.0
ARGUMENT_BYTES = 60_000
IN_FLIGHT_BYTES = 100_000
"""Two such arguments are more."""
WINDOW_BYTES = 250_000
INLINE_BYTES = 70_000


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    limits = {
        "core.in_flight_bytes": IN_FLIGHT_BYTES,
        "core.inline_bytes": INLINE_BYTES,
        "core.actor_window_bytes": WINDOW_BYTES,
    }
    with embedded(num_cpus=2, resources={"special": 1}, _system_config=limits):
        yield


class Gate:
    """A fifo that holds up who opens it for reading, until the test lets all of them through."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._fd = -1

    def open(self) -> None:
        # Reading and writing: it does not wait, and later readers find a writer.
        self._fd = os.open(self.path, os.O_RDWR)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.close()


def pass_gate(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY))


@aktis.remote
def take(path: str, argument: bytes) -> int:
    pass_gate(path)
    return len(argument)


def in_flight() -> int:
    return current.require().core.statistics()["in_flight_bytes"]


class Submitter(threading.Thread):
    """Submits from a thread of its own; `reached` is set before the submission of that number."""

    def __init__(self, function: Any, gate: Gate, count: int, stuck_at: int) -> None:
        super().__init__(daemon=True)
        self._function, self._gate, self._count, self._stuck_at = function, gate, count, stuck_at
        self.reached = threading.Event()
        self.refs: list[Any] = []
        self.most = 0

    def run(self) -> None:
        for number in range(self._count):
            if number == self._stuck_at:
                self.reached.set()
            self.refs.append(self._function.remote(self._gate.path, bytes(ARGUMENT_BYTES)))
            self.most = max(self.most, in_flight())


def test_submitting_waits_for_room(gate: Gate) -> None:
    submitter = Submitter(take, gate, count=30, stuck_at=2)
    submitter.start()
    assert submitter.reached.wait(LIMIT_S)
    gate.open()
    submitter.join(LIMIT_S)
    assert not submitter.is_alive()
    assert aktis.get(submitter.refs, timeout=LIMIT_S) == [ARGUMENT_BYTES] * 30
    assert IN_FLIGHT_BYTES < submitter.most <= IN_FLIGHT_BYTES + ARGUMENT_BYTES + 1000
    assert in_flight() == 0


def test_a_dropped_handle_does_not_stop_leases_when_the_budget_is_full(tmp_path: Path) -> None:
    """The call that marks the end of a handle is made on the thread that handles leases: it must not wait."""
    busy, held = Gate(tmp_path / "busy"), Gate(tmp_path / "held")

    @aktis.remote
    class Actor:
        def work(self, path: str) -> None:
            pass_gate(path)

    @aktis.remote(num_cpus=0, resources={"special": 1})
    def hold(path: str) -> None:
        pass_gate(path)

    @aktis.remote(num_cpus=0, resources={"special": 1})
    def want(argument: bytes) -> int:
        return len(argument)

    actor = Actor.remote()
    call = actor.work.remote(busy.path)
    holder = hold.remote(held.path)
    wanting = [want.remote(bytes(ARGUMENT_BYTES)) for _ in range(2)]
    assert in_flight() > IN_FLIGHT_BYTES
    del actor
    gc.collect()
    held.open()
    assert aktis.get(wanting, timeout=LIMIT_S) == [ARGUMENT_BYTES] * 2
    busy.open()
    aktis.get([call, holder], timeout=LIMIT_S)
    busy.close()
    held.close()


def test_a_decision_about_a_retry_does_not_wait_for_who_waits_for_room(gate: Gate, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    @aktis.remote(max_retries=3, retry_exceptions=[FileExistsError])
    def fail_once(path: str, argument: bytes) -> int:
        pass_gate(path)
        mark = marks / str(aktis.get_runtime_context().get_task_id())
        if not mark.exists():
            mark.touch()
            raise FileExistsError("the first time")
        return len(argument)

    submitter = Submitter(fail_once, gate, count=4, stuck_at=2)
    submitter.start()
    assert submitter.reached.wait(LIMIT_S)
    gate.open()
    submitter.join(LIMIT_S)
    assert not submitter.is_alive()
    assert aktis.get(submitter.refs, timeout=LIMIT_S) == [ARGUMENT_BYTES] * 4
    assert len(list(marks.iterdir())) == 4


def test_limits_reach_the_driver_and_the_workers() -> None:
    def mapped_by_a_put(size: int) -> int:
        core = current.require().core
        before = core.statistics()["mapped_objects"]
        ref = aktis.put(bytes(size))
        return core.statistics()["mapped_objects"] - before + (ref is None)

    on_worker = aktis.remote(mapped_by_a_put)
    for size, expected in ((INLINE_BYTES - 1000, 0), (INLINE_BYTES + 1000, 1)):
        assert mapped_by_a_put(size) == expected
        assert aktis.get(on_worker.remote(size), timeout=LIMIT_S) == expected


def test_calls_on_the_way_to_an_actor_are_bounded_by_their_bytes(gate: Gate) -> None:
    @aktis.remote
    class Slow:
        def take(self, path: str, number: int, argument: bytes) -> int:
            pass_gate(path)
            return number

    shared = aktis.put(bytes(ARGUMENT_BYTES))  # resolved values are sent along, but are not ours to count
    slow = Slow.remote()
    aktis.get(slow.__aktis_ready__.remote(), timeout=LIMIT_S)
    calls = [slow.take.remote(gate.path, number, shared) for number in range(50)]
    assert current.require().core.statistics()["actor_calls_in_flight"] == WINDOW_BYTES // ARGUMENT_BYTES
    gate.open()
    assert aktis.get(calls, timeout=LIMIT_S) == list(range(50))
    assert current.require().core.statistics()["actor_calls_in_flight"] == 0


def test_a_reader_that_does_not_read_holds_up_only_what_is_printed(sandbox: Sandbox, tmp_path: Path) -> None:
    """More is printed than a pipe holds, and nobody reads it before everything else is done."""
    done = tmp_path / "done"
    os.mkfifo(done)
    program = start_program(
        sandbox,
        """
import select, sys
import aktis
aktis.init(address="local", num_cpus=2)
@aktis.remote
def chatter():
    for line in range(1000):
        print(line, "x" * 200)
def go_round(number):
    function = aktis.remote(lambda: number)  # another class, which needs a lease
    assert aktis.get(function.remote(), timeout=20) == number
def pipe_has_room():
    return select.select([], [1], [], 0)[1]
talking = chatter.remote()
rounds = 0
while pipe_has_room() and rounds < 20000:
    go_round(rounds)
    rounds += 1
assert not pipe_has_room()
for number in range(20):  # with a printer that waits
    go_round(rounds + number)
aktis.get(talking, timeout=20)
with open(sys.argv[1], "w") as report:
    report.write("20 rounds")
aktis.shutdown()
""",
        str(done),
    )
    assert done.read_text() == "20 rounds"
    output, errors = program.communicate(timeout=LIMIT_S)
    assert program.returncode == 0, errors
    assert output.count("x" * 200) == 1000
