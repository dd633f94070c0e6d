"""Actors that are killed to come back, that take calls out of order, that nobody can place, that crash."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis.exceptions import ActorDiedError

from tests.support.clients import embedded
from tests.support.sandbox import wait_for_exit

pytestmark = pytest.mark.xdist_group("actor options")

WARNING_LIMIT_S = 20


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@aktis.remote
class Counter:
    def __init__(self) -> None:
        self.value = 0

    def add(self, by: int = 1) -> int:
        self.value += by
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def crash(self) -> None:
        ctypes.string_at(0)


@aktis.remote
def read_number(path: str) -> int:
    with open(path) as pipe:
        return int(pipe.read())


def pending(tmp_path: Path) -> tuple[Path, Any]:
    """Return a pipe, and a result that does not come before a number is written into it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    return pipe, read_number.remote(str(pipe))


def test_a_kill_that_allows_a_restart_ends_only_the_process() -> None:
    counter = Counter.options(max_restarts=1).remote()
    assert aktis.get(counter.add.remote(5)) == 5
    pid = aktis.get(counter.pid.remote())
    aktis.kill(counter, no_restart=False)
    assert wait_for_exit(pid, 10)
    retried = counter.add.options(max_task_retries=-1)
    assert aktis.get(retried.remote()) == 1
    assert aktis.get(counter.pid.remote()) != pid
    aktis.kill(counter, no_restart=False)  # the second time no restart is left
    with pytest.raises(ActorDiedError, match=r"kill\(\)"):
        aktis.get(retried.remote())


def test_a_kill_that_allows_a_restart_is_final_for_an_actor_without_any() -> None:
    counter = Counter.remote()
    assert aktis.get(counter.add.remote()) == 1
    aktis.kill(counter, no_restart=False)
    with pytest.raises(ActorDiedError, match=r"kill\(\)"):
        aktis.get(counter.add.remote())


def test_calls_wait_for_those_before_them(tmp_path: Path) -> None:
    pipe, number = pending(tmp_path)
    counter = Counter.remote()
    first, second = counter.add.remote(number), counter.add.remote()
    assert aktis.wait([second], timeout=0.2) == ([], [second])
    pipe.write_text("10")
    assert aktis.get([first, second]) == [10, 11]


def test_calls_pass_those_that_wait_for_arguments_if_they_may(tmp_path: Path) -> None:
    pipe, number = pending(tmp_path)
    counter = Counter.options(allow_out_of_order_execution=True).remote()
    first, second = counter.add.remote(number), counter.add.remote()
    assert aktis.get(second) == 1
    pipe.write_text("10")
    assert aktis.get(first) == 11


def test_an_actor_that_no_node_can_hold_is_warned_about(capfd: pytest.CaptureFixture[str]) -> None:
    counter = Counter.options(resources={"unobtainium": 1}).remote()
    call = counter.add.remote()
    text = ""
    for _ in range(10 * WARNING_LIMIT_S):
        assert aktis.wait([call], timeout=0.1) == ([], [call])
        text += capfd.readouterr().err
        if "unobtainium" in text:
            break
    assert "Counter" in text
    assert "unobtainium" in text
    aktis.kill(counter)
    with pytest.raises(ActorDiedError):
        aktis.get(call)


def test_the_signal_of_a_crash_and_the_last_words_are_in_the_exception() -> None:
    counter = Counter.remote()
    with pytest.raises(ActorDiedError, match="SIGSEGV") as caught:
        aktis.get(counter.crash.remote())
    assert "Native code crashed" in str(caught.value)
    assert "in crash" in str(caught.value)  # of the fault handler
    with pytest.raises(ActorDiedError, match="SIGSEGV"):
        aktis.get(counter.add.remote())
