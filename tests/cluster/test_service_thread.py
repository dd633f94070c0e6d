"""Nothing may hold up the thread that grants leases, fails what cannot go on and ends what nobody needs."""

import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis.exceptions import ActorAlreadyExistsError, ActorDiedError, WorkerCrashedError

from tests.support.clients import embedded
from tests.support.sandbox import wait_for_exit

pytestmark = pytest.mark.xdist_group("service_thread")
LIMIT_S = 30.0
WAITING = 8
"""More than there are threads for errands."""


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2, namespace="tests"):
        yield


@aktis.remote
class Keeper:
    def __init__(self, value: Any = None) -> None:
        self.value = value

    def get(self) -> Any:
        return self.value

    def pid(self) -> int:
        return os.getpid()


class Gate:
    """Holds up tasks that open it until the test does: a fifo, so that nobody has to look again and again."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "gate")
        os.mkfifo(self.path)

    def open(self) -> None:
        """Let one task through; waits until there is one."""
        with open(self.path, "w"):
            pass


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@aktis.remote(max_retries=0)
def pass_gate(path: str, crash: bool = False) -> str:
    with open(path) as opened:
        opened.read()
    if crash:
        os._exit(3)
    return "passed"


def in_time(call: Callable[[], Any]) -> Any:
    """The result of a call that should not block; a test fails, instead of hanging, when it does."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "the call blocks"
    if errors:
        raise errors[0]
    return results[0]


def test_actors_whose_arguments_never_come_fail(gate: Gate) -> None:
    argument = pass_gate.remote(gate.path, True)
    keepers = [Keeper.remote(argument) for _ in range(WAITING)]
    calls = [keeper.get.remote() for keeper in keepers]
    gate.open()
    with pytest.raises(WorkerCrashedError, match="exited with code 3"):
        aktis.get(argument, timeout=LIMIT_S)
    for call in calls:
        with pytest.raises(ActorDiedError, match="exited with code 3"):
            aktis.get(call, timeout=LIMIT_S)


def test_actors_whose_arguments_come_late(gate: Gate) -> None:
    argument = pass_gate.remote(gate.path)
    keepers = [Keeper.remote(argument) for _ in range(WAITING)]
    gate.open()
    assert aktis.get([keeper.get.remote() for keeper in keepers], timeout=LIMIT_S) == ["passed"] * WAITING


def test_an_actor_that_nobody_wants_any_more_ends_although_its_arguments_were_late(gate: Gate) -> None:
    keeper = Keeper.options(name="abandoned").remote(pass_gate.remote(gate.path))
    pid = keeper.pid.remote()
    del keeper
    gc.collect()
    gate.open()
    assert wait_for_exit(aktis.get(pid, timeout=LIMIT_S), LIMIT_S)


def test_an_anonymous_actor_dropped_before_its_arguments_came_ends(gate: Gate, tmp_path: Path) -> None:
    born = tmp_path / "born"
    os.mkfifo(born)

    @aktis.remote
    class Reporter:
        def __init__(self, path: str, _late: Any) -> None:
            with open(path, "w") as report:
                report.write(str(os.getpid()))

    Reporter.remote(str(born), pass_gate.remote(gate.path))
    gc.collect()
    gate.open()
    assert wait_for_exit(int(born.read_text()), LIMIT_S)


def test_a_named_actor_has_its_name_before_its_arguments(gate: Gate) -> None:
    keeper = in_time(lambda: Keeper.options(name="late").remote(pass_gate.remote(gate.path)))
    with pytest.raises(ActorAlreadyExistsError, match="late"):
        Keeper.options(name="late").remote()
    found = aktis.get_actor("late")
    assert found == keeper
    assert Keeper.options(name="late", get_if_exists=True).remote() == keeper
    call = found.get.remote()
    gate.open()
    assert aktis.get([call, keeper.get.remote()], timeout=LIMIT_S) == ["passed", "passed"]


def test_the_name_of_an_actor_whose_argument_failed_is_free_again(gate: Gate) -> None:
    keeper = in_time(lambda: Keeper.options(name="doomed").remote(pass_gate.remote(gate.path, True)))
    call = keeper.get.remote()
    gate.open()
    with pytest.raises(ActorDiedError, match="exited with code 3"):
        aktis.get(call, timeout=LIMIT_S)
    successor = Keeper.options(name="doomed").remote(5)
    assert aktis.get(successor.get.remote(), timeout=LIMIT_S) == 5


def test_futures_whose_callbacks_block_do_not_hold_up_the_failure_of_tasks() -> None:
    release = threading.Event()

    @aktis.remote
    def one() -> int:
        return 1

    @aktis.remote(max_retries=0)
    def crash() -> None:
        os._exit(4)

    blocked = threading.Semaphore(0)

    def block(_: Any) -> None:
        blocked.release()
        release.wait(LIMIT_S)

    futures = [one.remote().future() for _ in range(WAITING)]
    for future in futures:
        future.add_done_callback(block)
    try:
        assert blocked.acquire(timeout=LIMIT_S)
        with pytest.raises(WorkerCrashedError):
            aktis.get(crash.remote(), timeout=LIMIT_S)
    finally:
        release.set()


def test_a_list_of_retried_exceptions_does_not_hold_up_decisions(tmp_path: Path) -> None:
    """A thread that waits for room with a task in its hands must not keep the thread out that makes room."""
