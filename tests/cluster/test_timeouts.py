"""timeout_s: a task that runs for too long is cancelled, with its children, and killed if it goes on."""

import contextlib
import ctypes
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis.exceptions import TaskCancelledError, TaskTimeoutError, WorkerCrashedError

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("timeouts")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2, _system_config={"raylet.workers.timeout_grace_s": 0.3}):
        yield


def spin() -> None:
    """Run for ever."""
    while True:
        pass


def test_a_task_beyond_its_time_is_interrupted_and_named() -> None:
    task = aktis.remote(timeout_s=0.1)(spin)
    with pytest.raises(TaskTimeoutError, match=r"\(spin\) was cancelled .*timeout_s=0\.1") as caught:
        aktis.get(task.remote(), timeout=30)
    assert isinstance(caught.value, TaskCancelledError)


def test_it_is_not_run_again(tmp_path: Path) -> None:
    @aktis.remote(timeout_s=1, max_retries=5, retry_exceptions=True)
    def count(directory: str) -> None:
        tempfile.mkstemp(dir=directory)
        spin()

    with pytest.raises(TaskTimeoutError):
        aktis.get(count.remote(str(tmp_path)), timeout=30)
    assert len(list(tmp_path.iterdir())) == 1


def test_one_that_sleeps_is_interrupted() -> None:
    @aktis.remote(timeout_s=0.1)
    def sleep() -> None:
        time.sleep(1000)  # tidy: allow  it is what has to be interrupted

    with pytest.raises(TaskTimeoutError):
        aktis.get(sleep.remote(), timeout=30)


def test_one_that_waits_for_others_is_interrupted_with_its_children() -> None:
    @aktis.remote(timeout_s=0.3)
    def wait() -> None:
        aktis.get(aktis.remote(spin).remote())

    with pytest.raises(TaskTimeoutError):
        aktis.get(wait.remote(), timeout=30)
    assert aktis.get([aktis.remote(lambda: 1).remote() for _ in range(2)], timeout=30) == [1, 1]


@pytest.mark.parametrize("how", ["ignores interrupts", "holds the interpreter"])
def test_one_that_goes_on_is_killed_after_the_grace(how: str) -> None:
    @aktis.remote(timeout_s=0.1)
    def stubborn() -> None:
        if how == "holds the interpreter":
            ctypes.PyDLL(None).sleep(1000)
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(1000)  # tidy: allow  it is what has to be killed

    with pytest.raises(TaskTimeoutError, match=r"timeout_s=0\.1"):
        aktis.get(stubborn.remote(), timeout=30)


def test_tasks_in_time_are_left_alone() -> None:
    """Also those that wait behind one that is not: their time begins when they do."""

    @aktis.remote(timeout_s=20)
    def quick(i: int) -> int:
        return i

    assert aktis.get([quick.remote(i) for i in range(200)], timeout=30) == list(range(200))
    blocked = aktis.remote(timeout_s=0.5, num_cpus=2)(spin).remote()
    late = [quick.options(timeout_s=0.4).remote(i) for i in range(20)]
    assert aktis.get(late, timeout=30) == list(range(20))
    with pytest.raises(TaskTimeoutError):
        aktis.get(blocked, timeout=30)


def test_generators_and_what_depends_on_a_timeout() -> None:
    @aktis.remote(timeout_s=1.5)
    def items() -> Iterator[int]:
        yield 1
        spin()

    @aktis.remote
    def use(value: Any) -> Any:
        return value

    stream = items.remote()
    assert aktis.get(next(stream)) == 1
    with pytest.raises(TaskTimeoutError):
        aktis.get(list(stream), timeout=30)
    with pytest.raises(TaskTimeoutError):
        aktis.get(use.remote(aktis.remote(timeout_s=0.1)(spin).remote()), timeout=30)


def test_a_worker_that_dies_by_itself_is_no_timeout() -> None:
    @aktis.remote(timeout_s=30, max_retries=0)
    def die() -> None:
        os._exit(3)

    with pytest.raises(WorkerCrashedError):
        aktis.get(die.remote(), timeout=30)
