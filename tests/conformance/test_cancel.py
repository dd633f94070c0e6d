"""cancel, in each case."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import TaskCancelledError

from tests.conformance.parts import Gate, echo
from tests.conformance.systems import running_cluster

DEADLINE_S = 30


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with running_cluster(num_cpus=2, resources={"one": 1}):
        yield


@pytest.fixture
def gate() -> Iterator[Any]:
    gate = Gate.remote()
    yield gate
    ray.kill(gate)


@ray.remote(num_cpus=0)
def busy(gate: Any, limit_s: float = DEADLINE_S) -> str:
    """Run Python code until it is interrupted."""
    ray.get(gate.wait.remote())
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        pass
    return "was not interrupted"


@ray.remote(num_cpus=0)
def blocked(gate: Any) -> object:
    """Wait for what does not come."""
    return ray.get(gate.wait.remote("let through"))


def arrive(gate: Any) -> None:
    ray.get(gate.arrival.remote(), timeout=DEADLINE_S)


def assert_cancelled(ref: Any) -> None:
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=DEADLINE_S)


@pytest.mark.differs("cancel-before-the-argument", run=False)
def test_a_task_that_waits_for_an_argument_never_runs(gate: Any, tmp_path: Path) -> None:
    @ray.remote(num_cpus=0)
    def leave_trace(_: object) -> None:
        (tmp_path / "ran").touch()

    argument = gate.wait.remote()
    ref = leave_trace.remote(argument)
    ray.cancel(ref)
    assert_cancelled(ref)
    ray.get(gate.open.remote())
    ray.get(argument)
    assert not (tmp_path / "ran").exists()


def test_a_task_that_waits_for_resources_never_runs(gate: Any, tmp_path: Path) -> None:
    @ray.remote(num_cpus=0, resources={"one": 1})
    def leave_trace(name: str, wait: bool) -> None:
        (tmp_path / name).touch()
        if wait:
            ray.get(gate.wait.remote())

    first = leave_trace.remote("first", True)
    arrive(gate)
    second = leave_trace.remote("second", False)
    ray.cancel(second)
    assert_cancelled(second)
    ray.get(gate.open.remote())
    ray.get(first)
    ray.get(leave_trace.remote("third", False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "third"]


def test_a_running_task_is_interrupted(gate: Any) -> None:
    ref = busy.remote(gate)
    arrive(gate)
    ray.get(gate.open.remote())
    ray.cancel(ref)
    assert_cancelled(ref)


def test_a_task_that_is_blocked_in_get_is_interrupted(gate: Any) -> None:
    ref = blocked.remote(gate)
    arrive(gate)
    ray.cancel(ref)
    assert_cancelled(ref)


def test_force_kills_the_worker(gate: Any) -> None:
    @ray.remote(num_cpus=0, max_retries=3)
    def stubborn() -> None:
        while True:
            try:
                ray.get(gate.wait.remote())
                return
            except BaseException:
                pass

    ref = stubborn.remote()
    arrive(gate)
    ray.cancel(ref, force=True)
    with pytest.raises((TaskCancelledError, ray.exceptions.WorkerCrashedError)):
        ray.get(ref, timeout=DEADLINE_S)


def test_a_finished_task_stays_as_it_is() -> None:
    ref = echo.remote("done")
    ray.wait([ref])
    ray.cancel(ref)
    ray.cancel(ref, force=True)
    assert ray.get(ref) == "done"


def test_the_interruption_is_a_keyboard_interrupt(gate: Any) -> None:
    @ray.remote(num_cpus=0)
    def heed() -> str:
        try:
            ray.get(gate.wait.remote())
        except KeyboardInterrupt:
            return "heeded"
        return "not interrupted"

    ref = heed.remote()
    arrive(gate)
    ray.cancel(ref)
    with contextlib.suppress(TaskCancelledError):  # a system need not keep such a result
        assert ray.get(ref, timeout=DEADLINE_S) == "heeded"


def test_children_are_cancelled_too(gate: Any) -> None:
    @ray.remote(num_cpus=0)
    def parent(shared: list[Any]) -> None:
        child = blocked.remote(gate)
        ray.get(shared[0].tell.remote([child]))
        ray.get(child)

    told = Told.remote()
    ref = parent.remote([told])
    (child,) = ray.get(told.heard.remote())
    arrive(gate)
    ray.cancel(ref)
    assert_cancelled(ref)
    assert_cancelled(child)


def test_children_go_on_if_asked_for(gate: Any) -> None:
    @ray.remote(num_cpus=0)
    def parent(shared: list[Any]) -> None:
        child = blocked.remote(gate)
        ray.get(shared[0].tell.remote([child]))
        ray.get(child)

    told = Told.remote()
    ref = parent.remote([told])
    (child,) = ray.get(told.heard.remote())
    arrive(gate)
    ray.cancel(ref, recursive=False)
    assert_cancelled(ref)
    ray.get(gate.open.remote())
    assert ray.get(child, timeout=DEADLINE_S) == "let through"


@ray.remote(num_cpus=0)
class Told:
    """Passes one value on."""

    def __init__(self) -> None:
        self.value: asyncio.Queue[Any] = asyncio.Queue()

    async def tell(self, value: Any) -> None:
        self.value.put_nowait(value)

    async def heard(self) -> Any:
        return await self.value.get()


def test_what_depends_on_a_cancelled_task_fails_too(gate: Any) -> None:
    ref = blocked.remote(gate)
    dependent = echo.remote(ref)
    ray.cancel(ref)
    assert_cancelled(dependent)


def test_a_coroutine_of_an_actor_is_cancelled(gate: Any) -> None:
    ref = gate.wait.remote()
    arrive(gate)
    ray.cancel(ref)
    assert_cancelled(ref)
    again = gate.wait.remote("alive")
    ray.get(gate.open.remote())
    assert ray.get(again) == "alive"


@pytest.mark.differs("queued-calls-are-cancelled")
def test_a_queued_call_of_an_actor_never_runs(gate: Any) -> None:
    @ray.remote(num_cpus=0)
    class Log:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def block(self, gate: Any) -> None:
            ray.get(gate.wait.remote())

        def add(self, name: str) -> list[str]:
            self.calls.append(name)
            return self.calls

    log = Log.remote()
    log.block.remote(gate)
    arrive(gate)
    second = log.add.remote("cancelled")
    third = log.add.remote("third")
    ray.cancel(second)
    ray.get(gate.open.remote())
    assert ray.get(third) == ["third"]
    assert_cancelled(second)


def test_force_is_not_for_actors(gate: Any) -> None:
    ref = gate.wait.remote()
    with pytest.raises(ValueError):
        ray.cancel(ref, force=True)


@pytest.mark.differs("force-is-not-for-calls")
def test_force_is_not_for_borrowed_calls_of_actors(gate: Any) -> None:
    @ray.remote(num_cpus=0)
    def force(box: list[Any]) -> None:
        ray.cancel(box[0], force=True)

    with pytest.raises(ValueError):
        ray.get(force.remote([gate.wait.remote()]))


@pytest.mark.parametrize("value", [1, None, [1]], ids=repr)
def test_cancel_takes_a_reference(value: object) -> None:
    with pytest.raises(TypeError):
        ray.cancel(value)


def test_an_actor_is_not_cancelled_but_killed(gate: Any) -> None:
    with pytest.raises(TypeError):
        ray.cancel(gate)


def test_a_generator_is_cancelled(gate: Any) -> None:
    @ray.remote(num_cpus=0)
    def stream() -> Iterator[Any]:
        yield 1
        yield ray.get(gate.wait.remote())

    generator = stream.remote()
    assert ray.get(next(generator)) == 1
    arrive(gate)
    ray.cancel(generator)
    with pytest.raises(TaskCancelledError):
        ray.get(next(generator), timeout=DEADLINE_S)


def test_a_cancelled_task_is_not_retried(gate: Any, tmp_path: Path) -> None:
    @ray.remote(num_cpus=0, max_retries=5, retry_exceptions=True)
    def f() -> None:
        (tmp_path / str(len(list(tmp_path.iterdir())))).touch()
        ray.get(gate.wait.remote())

    ref = f.remote()
    arrive(gate)
    ray.cancel(ref)
    assert_cancelled(ref)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cancelled_call_can_ask(gate: Any) -> None:
    @ray.remote(num_cpus=0)
    class Asks:
        def ask(self, told: Any) -> None:
            context = ray.get_runtime_context()
            told.tell.remote(context.is_canceled())
            while True:
                try:  # the interrupt may come before the answer, or while it is told
                    if context.is_canceled():
                        told.tell.remote(True)
                        return
                except KeyboardInterrupt:
                    pass

    told = Told.remote()
    ref = Asks.remote().ask.remote(told)
    assert ray.get(told.heard.remote(), timeout=DEADLINE_S) is False
    ray.cancel(ref)
    assert ray.get(told.heard.remote(), timeout=DEADLINE_S) is True
