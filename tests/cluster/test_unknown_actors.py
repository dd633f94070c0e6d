"""Handles to actors that the cluster does not know: not yet, not any more, never."""

from collections.abc import Callable, Iterator
from typing import Any

import aktis
import pytest
from aktis.exceptions import ActorDiedError

from tests.support.board import Board
from tests.support.clients import environment
from tests.support.sandbox import new_sandbox

pytestmark = pytest.mark.xdist_group("unknown_actors")
TIMEOUT_S = 30


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with new_sandbox() as sandbox:
        sandbox.added_env["AKTIS_GCS_DEAD_ACTORS_KEPT"] = "1"
        with environment(sandbox):
            aktis.init(address="local", num_cpus=2)
            try:
                yield
            finally:
                aktis.shutdown()


@pytest.fixture
def board() -> Any:
    return Board.remote()


@aktis.remote(num_cpus=0)
class Server:
    def __init__(self, argument: object = None) -> None:
        self.argument = argument

    def ping(self) -> str:
        return "pong"


@aktis.remote(num_cpus=0)
class Maker:
    def make(self, box: list[Any]) -> list[Any]:
        """Return a handle to an actor that this process has created."""
        return [Server.remote(box[0])]

    def ping(self) -> None:
        """Fail when it is dead."""


@aktis.remote(num_cpus=0)
def call(box: list[Any], board: Any = None) -> str:
    """Call an actor that this process has not heard of so far."""
    if board is not None:
        aktis.get(board.say.remote("calling"))
    answer: str = aktis.get(box[0].ping.remote())
    return answer


@aktis.remote(num_cpus=0)
def wait_for(board: Any, word: str, *, fail: bool = False) -> None:
    aktis.get(board.hear.remote(word))
    if fail:
        raise ValueError("no argument")


def end(server: Any) -> None:
    aktis.kill(server)
    with pytest.raises(ActorDiedError):
        aktis.get(server.ping.remote(), timeout=TIMEOUT_S)


def anonymous(*arguments: Any) -> Any:
    return Server.remote(*arguments)


def detached(*arguments: Any) -> Any:
    return Server.options(lifetime="detached").remote(*arguments)


def found_by_name(*arguments: Any) -> Any:
    Server.options(lifetime="detached", name="found").remote(*arguments)
    return aktis.get_actor("found")


@pytest.mark.parametrize("make", [anonymous, detached, found_by_name])
def test_one_that_died_so_long_ago_that_it_is_forgotten_is_dead(make: Callable[..., Any]) -> None:
    server = make()
    for one in (server, Server.remote(), Server.remote()):  # one death is remembered
        assert aktis.get(one.ping.remote(), timeout=TIMEOUT_S) == "pong"  # one that never lived has none
        end(one)
    with pytest.raises(ActorDiedError, match="so long ago that the cluster has forgotten"):
        aktis.get(call.remote([server]), timeout=TIMEOUT_S)


@pytest.mark.parametrize("make", [anonymous, detached, found_by_name])
def test_one_whose_argument_is_not_there_yet_is_waited_for(make: Callable[..., Any], board: Any) -> None:
    server = make(wait_for.remote(board, "go"))
    answer = call.remote([server], board)
    aktis.get(board.hear.remote("calling"), timeout=TIMEOUT_S)
    assert aktis.wait([answer], timeout=0) == ([], [answer])
    aktis.get(board.say.remote("go"))
    assert aktis.get(answer, timeout=TIMEOUT_S) == "pong"
    aktis.kill(server)


@pytest.mark.parametrize("make", [anonymous, detached, found_by_name])
def test_one_that_cannot_be_created_is_dead_everywhere(make: Callable[..., Any], board: Any) -> None:
    server = make(wait_for.remote(board, "go", fail=True))
    early = call.remote([server], board)
    aktis.get(board.hear.remote("calling"), timeout=TIMEOUT_S)
    aktis.get(board.say.remote("go"))
    with pytest.raises(ActorDiedError):
        aktis.get(early, timeout=TIMEOUT_S)
    with pytest.raises(ActorDiedError):
        aktis.get(server.ping.remote(), timeout=TIMEOUT_S)
    with pytest.raises(ActorDiedError):
        aktis.get(call.remote([server]), timeout=TIMEOUT_S)


def test_one_whose_creator_died_before_it_was_created_is_dead(board: Any) -> None:
    maker = Maker.remote()
    (server,) = aktis.get(maker.make.remote([wait_for.remote(board, "never")]), timeout=TIMEOUT_S)
    answers = [server.ping.remote(), call.remote([server], board)]
    aktis.get(board.hear.remote("calling"), timeout=TIMEOUT_S)
    end(maker)
    for answer in answers:
        with pytest.raises(ActorDiedError, match="created it"):
            aktis.get(answer, timeout=TIMEOUT_S)
