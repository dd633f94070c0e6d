"""How actors end, come back, and how many of them there may be."""

import asyncio
import atexit
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis.exceptions import ActorDiedError, ActorUnavailableError

from tests.support.board import Board
from tests.support.clients import embedded
from tests.support.sandbox import wait_for_exit

pytestmark = pytest.mark.xdist_group("actor_ends")
TIMEOUT_S = 30
MANY = 150


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


def get(ref: Any) -> Any:
    return aktis.get(ref, timeout=TIMEOUT_S)


@aktis.remote(num_cpus=0)
class Taker:
    def __init__(self, argument: Any, path: str) -> None:
        Path(path).touch()

    def call(self) -> None: ...


@aktis.remote(num_cpus=0)
class LeavesAtOnce:
    """An async actor whose constructor ends it."""

    def __init__(self, path: Path) -> None:
        with path.open("a") as runs:
            runs.write("x")
        aktis.exit_actor()

    async def call(self) -> None: ...


class Plain:
    """Ends in various ways."""

    def __init__(self, path: str = "") -> None:
        if path:
            atexit.register(Path(path).write_text, "at exit")

    def pid(self) -> int:
        return os.getpid()

    def leave(self) -> None:
        aktis.exit_actor()

    def leave_below(self) -> None:
        try:
            aktis.exit_actor()
        except Exception as error:  # not what it is
            raise AssertionError from error

    def leave_in_a_stream(self) -> Iterator[int]:
        yield 1
        aktis.exit_actor()

    def crash_until(self, directory: str, runs: int) -> int:
        ran = len(os.listdir(directory))
        (Path(directory) / str(ran)).touch()
        if ran < runs:
            os._exit(1)
        return ran

    def reconstructed(self) -> bool:
        return aktis.get_runtime_context().was_current_actor_reconstructed


class Async(Plain):
    """The same with an event loop."""

    async def leave(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        aktis.exit_actor()


@pytest.mark.parametrize("method", ["leave", "leave_below", "__ray_terminate__", "__aktis_terminate__"])
@pytest.mark.parametrize(("cls", "concurrency"), [(Plain, 1), (Plain, 3), (Async, 10)])
def test_an_actor_that_leaves_does_not_come_back(
    tmp_path: Path, cls: Any, concurrency: int, method: str
) -> None:
    left = tmp_path / "left"
    actor = aktis.remote(max_restarts=-1, max_concurrency=concurrency)(cls).remote(str(left))
    pid = get(actor.pid.remote())
    with pytest.raises(ActorDiedError, match=r"exit_actor\(\) was called"):
        get(getattr(actor, method).remote())
    with pytest.raises(ActorDiedError):
        get(actor.pid.remote())
    assert wait_for_exit(pid, TIMEOUT_S)
    assert left.read_text() == "at exit"


def test_leaving_in_mid_stream_keeps_what_came_before() -> None:
    actor: Any = aktis.remote(Plain).remote()
    stream = actor.leave_in_a_stream.remote()
    assert get(next(stream)) == 1
    with pytest.raises(ActorDiedError):
        aktis.get(list(stream), timeout=TIMEOUT_S)


def test_the_last_handle_lets_the_actor_end_as_programs_do(tmp_path: Path) -> None:
    left = tmp_path / "left"
    actor: Any = aktis.remote(Plain).remote(str(left))
    holder: Any = aktis.remote(Holder).remote()
    pid = get(actor.pid.remote())
    get(holder.keep.remote({"deep": [actor]}))
    del actor
    assert get(holder.pid.remote()) == pid
    get(holder.keep.remote(None))
    assert wait_for_exit(pid, TIMEOUT_S)
    assert left.read_text() == "at exit"


class Holder:
    """Has the handle of another actor."""

    def keep(self, box: Any) -> None:
        self.box = box

    def pid(self) -> Any:
        return aktis.get(self.box["deep"][0].pid.remote())


@pytest.mark.parametrize("retries", [-1, 5])
@pytest.mark.parametrize("where", ["actor", "call"])
def test_calls_are_repeated_after_restarts(tmp_path: Path, retries: int, where: str) -> None:
    options: dict[str, Any] = {"max_task_retries": retries}
    actor = aktis.remote(max_restarts=-1, **(options if where == "actor" else {}))(Plain).remote()
    assert get(actor.reconstructed.remote()) is False
    method = actor.crash_until if where == "actor" else actor.crash_until.options(**options)
    assert get(method.remote(str(tmp_path), 2)) == 2
    assert get(actor.reconstructed.remote()) is True


def test_restarts_and_retries_run_out(tmp_path: Path) -> None:
    actor: Any = aktis.remote(max_restarts=1, max_task_retries=-1)(Plain).remote()
    with pytest.raises(ActorDiedError):
        get(actor.crash_until.remote(str(tmp_path), 9))
    assert len(os.listdir(tmp_path)) == 2
    other: Any = aktis.remote(max_restarts=-1, max_task_retries=1)(Plain).remote()
    with pytest.raises(ActorUnavailableError):
        get(other.crash_until.remote(str(tmp_path), 9))
    assert len(os.listdir(tmp_path)) == 4
    assert get(other.pid.remote()) > 0


def test_many_actors_at_a_time() -> None:
    """They need no CPU each, run in processes of their own, and go when nobody has them any more."""

    @aktis.remote
    class Member:
        def __init__(self, number: int) -> None:
            self.number = number

        def get(self) -> tuple[int, int]:
            return self.number, os.getpid()

    members = [Member.remote(i) for i in range(MANY)]
    answers = aktis.get([member.get.remote() for member in members], timeout=60)
    assert [number for number, _ in answers] == list(range(MANY))
    pids = {pid for _, pid in answers}
    assert len(pids) == MANY
    del members
    assert all(wait_for_exit(pid, TIMEOUT_S) for pid in pids)


def test_what_an_actor_holds_of_the_node() -> None:
    """By default nothing, but it is placed where there is a CPU; what is asked for is held."""

    @aktis.remote
    class Held:
        def resources(self) -> dict[str, float]:
            return aktis.get_runtime_context().get_assigned_resources()

    assert get(Held.remote().resources.remote()) == {}
    assert get(Held.options(num_cpus=2).remote().resources.remote()) == {"CPU": 2}
    assert get(Held.options(num_cpus=0).remote().resources.remote()) == {}


def test_groups_given_when_the_actor_is_made() -> None:
    class Meeting:
        def __init__(self) -> None:
            self.barrier = threading.Barrier(2)

        @aktis.method(concurrency_group="io")
        def meet(self) -> str:
            self.barrier.wait(TIMEOUT_S)
            return threading.current_thread().name

        def ping(self) -> str:
            return "pong"

    made = aktis.remote(concurrency_groups={"io": 2})(Meeting).remote()
    assert len(set(aktis.get([made.meet.remote(), made.meet.remote()], timeout=TIMEOUT_S))) == 2
    alone = made.meet.remote()
    assert get(made.ping.remote()) == "pong"
    assert get(made.meet.options(concurrency_group="io").remote())
    get(alone)
    with pytest.raises(ValueError, match="'cpu'"):
        made.ping.options(concurrency_group="cpu").remote()


@pytest.mark.parametrize("name", ["", "taken"])
def test_an_actor_can_be_killed_before_it_has_been_made(tmp_path: Path, name: str) -> None:
    """Its argument is not there yet; its calls fail at once, and it never lives."""
    board: Any = Board.remote()
    made = tmp_path / "made"
    options: dict[str, Any] = {"name": name} if name else {}
    actor: Any = Taker.options(**options).remote(board.hear.remote("go"), str(made))
    waiting = actor.call.remote()
    aktis.kill(actor)
    for ref in (waiting, actor.call.remote()):
        with pytest.raises(ActorDiedError, match=r"killed by kill\(\)"):
            get(ref)
    get(board.say.remote("go"))
    get(Taker.remote(None, str(tmp_path / "other")).call.remote())  # one that was asked for later is there
    assert not made.exists()


def test_an_async_actor_that_leaves_in_its_constructor_is_not_restarted(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    leaves: Any = LeavesAtOnce.options(max_restarts=3).remote(runs)
    with pytest.raises(ActorDiedError, match=r"exit_actor\(\) was called"):
        get(leaves.call.remote())
    assert runs.read_text() == "x"
