"""Where a cancel may find a task: waiting for arguments, sent ahead, blocked, in an actor, in a generator."""

import contextlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis.exceptions import TaskCancelledError, WorkerCrashedError

from tests.support.board import Board
from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("cancel_cases")
TIMEOUT_S = 30


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@pytest.fixture
def board() -> Any:
    return Board.remote()


def hear(board: Any, word: str) -> None:
    aktis.get(board.hear.remote(word), timeout=TIMEOUT_S)


def said(board: Any) -> list[str]:
    words: list[str] = aktis.get(board.all.remote())
    return words


def assert_cancelled(*refs: Any) -> None:
    for ref in refs:
        with pytest.raises(TaskCancelledError):
            aktis.get(ref, timeout=TIMEOUT_S)


@aktis.remote
def wait_at(board: Any, gate: str) -> str:
    """Say that it began, then wait until somebody says ``gate``."""
    aktis.get(board.say.remote(f"at {gate}"))
    aktis.get(board.hear.remote(gate))
    return gate


@aktis.remote
def use(*values: Any) -> int:
    """Depend on values."""
    return len(values)


class TestTasks:
    def test_one_that_waits_for_its_arguments(self, board: Any) -> None:
        needed = wait_at.remote(board, "gate")
        ref = use.remote(needed)
        aktis.cancel(ref)
        assert_cancelled(ref)
        aktis.get(board.say.remote("gate"))
        assert aktis.get(needed, timeout=TIMEOUT_S) == "gate"

    def test_ones_sent_ahead_of_a_running_one(self, tmp_path: Path) -> None:
        """They lie in a worker's queue behind it. Once it is cancelled the rest goes on."""
        begin, end = tmp_path / "begin", tmp_path / "end"
        os.mkfifo(begin)
        os.mkfifo(end)

        @aktis.remote(num_cpus=2)
        def step(path: str) -> int:
            if path:
                begin.write_text("")
                end.read_text()
            return 7

        aktis.get([step.remote("") for _ in range(200)])  # they are quick: many are sent ahead
        refs = (
            [step.remote("") for _ in range(20)]
            + [step.remote("path")]
            + [step.remote("") for _ in range(20)]
        )
        begin.read_text()
        for ref in refs[21:31]:
            aktis.cancel(ref)
        assert_cancelled(*refs[21:31])
        aktis.cancel(refs[20])
        assert_cancelled(refs[20])
        assert aktis.get(refs[:20] + refs[31:], timeout=TIMEOUT_S) == [7] * 30

    @pytest.mark.parametrize("where", ["get", "wait", "a system call", "the interpreter"])
    def test_one_that_is_blocked(self, board: Any, where: str) -> None:
        @aktis.remote
        def block(board: Any) -> None:
            never = board.hear.remote("never")
            aktis.get(board.say.remote("blocked"))
            if where == "get":
                aktis.get(never)
            elif where == "wait":
                aktis.wait([never])
            elif where == "a system call":
                os.read(os.pipe()[0], 1)
            else:
                threading.Event().wait()

        ref = block.remote(board)
        hear(board, "blocked")
        aktis.cancel(ref, recursive=False)
        assert_cancelled(ref)

    def test_one_that_ignores_it_ends_as_it_likes(self, board: Any) -> None:
        @aktis.remote
        def stubborn(board: Any, result: str) -> str:
            with contextlib.suppress(KeyboardInterrupt):
                aktis.get(board.say.remote(f"began {result}"))
                aktis.get(board.hear.remote("never"))
            if result == "error":
                raise LookupError(result)
            return result

        value, error = stubborn.remote(board, "value"), stubborn.remote(board, "error")
        for ref, name in ((value, "value"), (error, "error")):
            hear(board, f"began {name}")
            aktis.cancel(ref, recursive=False)
        assert aktis.get(value, timeout=TIMEOUT_S) == "value"
        with pytest.raises(LookupError):
            aktis.get(error, timeout=TIMEOUT_S)

    def test_force_ends_one_that_ignores_it_and_no_other(self, board: Any) -> None:
        @aktis.remote(max_retries=5)
        def stubborn(board: Any) -> None:
            aktis.get(board.say.remote("stubborn"))
            while True:
                with contextlib.suppress(KeyboardInterrupt):
                    threading.Event().wait()

        ref, other = stubborn.remote(board), wait_at.remote(board, "other")
        hear(board, "stubborn")
        hear(board, "at other")
        aktis.cancel(ref)
        aktis.cancel(ref, force=True)
        assert_cancelled(ref)
        aktis.get(board.say.remote("other"))
        assert aktis.get(other, timeout=TIMEOUT_S) == "other"
        assert said(board).count("stubborn") == 1

    def test_children_of_children(self, board: Any) -> None:
        @aktis.remote
        def nest(board: Any, depth: int) -> None:
            if depth:
                aktis.get(nest.remote(board, depth - 1))
            try:
                aktis.get(wait_at.remote(board, "bottom"))
            except TaskCancelledError:
                aktis.get(board.say.remote("unwound"))
                raise

        ref = nest.remote(board, 3)
        hear(board, "at bottom")
        aktis.cancel(ref)
        assert_cancelled(ref)
        assert aktis.get(use.remote(), timeout=TIMEOUT_S) == 0

    def test_children_are_spared_if_asked_for(self, board: Any) -> None:
        @aktis.remote
        def parent(board: Any) -> None:
            child = wait_at.remote(board, "gate")
            aktis.get(child)

        ref = parent.remote(board)
        hear(board, "at gate")
        aktis.cancel(ref, recursive=False)
        assert_cancelled(ref)
        aktis.get(board.say.remote("gate"))
        hear(board, "gate")

    def test_another_process_may_cancel_what_it_borrows(self, board: Any) -> None:
        @aktis.remote
        def cancel(box: list[Any], force: bool) -> None:
            aktis.cancel(box[0], force=force)

        for force in (False, True):
            ref = wait_at.remote(board, f"gate {force}")
            hear(board, f"at gate {force}")
            aktis.get(cancel.options(num_cpus=0).remote([ref], force))
            assert_cancelled(ref)

    def test_a_borrowed_call_of_an_actor_is_not_forced_either(self, board: Any) -> None:
        @aktis.remote(num_cpus=0)
        def force(box: list[Any]) -> None:
            aktis.cancel(box[0], force=True)

        @aktis.remote(num_cpus=0)
        def force_what_is_known(box: list[Any]) -> str:
            answer: str = aktis.get(box[0])
            aktis.cancel(box[0], force=True)
            return answer

        ref = aktis.remote(Calls).remote().wait_at.remote(board, "gate")
        hear(board, "at gate")
        with pytest.raises(ValueError, match=r"kill\(\)"):
            aktis.get(force.remote([ref]), timeout=TIMEOUT_S)
        aktis.get(board.say.remote("gate"))
        assert aktis.get(force_what_is_known.remote([ref]), timeout=TIMEOUT_S) == "gate"

    def test_a_finished_one_keeps_its_value_and_its_children(self, board: Any) -> None:
        @aktis.remote
        def leave(board: Any) -> list[Any]:
            return [wait_at.remote(board, "later")]

        ref = leave.remote(board)
        (child,) = aktis.get(ref)
        hear(board, "at later")
        aktis.cancel(ref, force=True)
        aktis.get(board.say.remote("later"))
        assert aktis.get(child, timeout=TIMEOUT_S) == "later"

    def test_one_that_has_died_stays_as_it_is(self) -> None:
        @aktis.remote(max_retries=0)
        def die() -> None:
            os._exit(1)

        ref = die.remote()
        with pytest.raises(WorkerCrashedError):
            aktis.get(ref, timeout=TIMEOUT_S)
        aktis.cancel(ref)
        with pytest.raises(WorkerCrashedError):
            aktis.get(ref)


class TestGenerators:
    @pytest.mark.parametrize("limit", [-1, 1])
    def test_in_mid_stream(self, board: Any, limit: int) -> None:
        """Also one that waits for its consumer."""

        @aktis.remote(generator_backpressure_num_objects=limit)
        def count(board: Any) -> Iterator[int]:
            try:
                yield 0
                yield 1
                aktis.get(board.hear.remote("never"))
            except KeyboardInterrupt:
                aktis.get(board.say.remote("interrupted"))
                raise

        stream = count.remote(board)
        assert aktis.get(next(stream), timeout=TIMEOUT_S) == 0
        aktis.cancel(stream, recursive=False)
        assert_cancelled(stream.completed())
        with pytest.raises(TaskCancelledError):
            aktis.get(list(stream), timeout=TIMEOUT_S)

    def test_of_an_async_actor(self, board: Any) -> None:
        @aktis.remote
        class Source:
            @aktis.method(generator_backpressure_num_objects=1)
            async def count(self, board: Any) -> AsyncIterator[int]:
                try:
                    for i in range(10):
                        yield i
                finally:
                    await board.say.remote("closed")

            async def ping(self) -> str:
                return "pong"

        source: Any = Source.remote()
        stream = source.count.remote(board)
        assert aktis.get(next(stream), timeout=TIMEOUT_S) == 0
        aktis.cancel(stream)
        assert_cancelled(stream.completed())
        hear(board, "closed")
        assert aktis.get(source.ping.remote(), timeout=TIMEOUT_S) == "pong"


class Calls:
    """Methods for actors of every kind."""

    def wait_at(self, board: Any, gate: str) -> str:
        aktis.get(board.say.remote(f"at {gate}"))
        aktis.get(board.hear.remote(gate))
        return gate

    def ping(self, board: Any) -> str:
        aktis.get(board.say.remote("ping"))
        return "pong"


class AsyncCalls:
    """The same as coroutines."""

    async def wait_at(self, board: Any, gate: str) -> str:
        await board.say.remote(f"at {gate}")
        await board.hear.remote(gate)
        return gate

    async def ping(self, board: Any) -> str:
        await board.say.remote("ping")
        return "pong"


@pytest.mark.parametrize(("cls", "concurrency"), [(Calls, 1), (Calls, 2), (AsyncCalls, 1), (AsyncCalls, 2)])
class TestActors:
    def test_running_and_queued_calls(self, board: Any, cls: Any, concurrency: int) -> None:
        actor = aktis.remote(max_concurrency=concurrency)(cls).remote()
        running = [actor.wait_at.remote(board, f"gate {i}") for i in range(concurrency)]
        for i in range(concurrency):
            hear(board, f"at gate {i}")
        queued, after = actor.ping.remote(board), actor.wait_at.remote(board, "open")
        with pytest.raises(ValueError, match=r"kill\(\)"):
            aktis.cancel(queued, force=True)
        aktis.cancel(queued)
        assert_cancelled(queued)
        assert "ping" not in said(board)
        aktis.get(board.say.remote("open"))
        aktis.cancel(running[0], recursive=False)
        assert_cancelled(running[0])
        assert aktis.get(after, timeout=TIMEOUT_S) == "open"
        assert "ping" not in said(board)
        for i in range(1, concurrency):
            aktis.get(board.say.remote(f"gate {i}"))
        assert aktis.get(running[1:], timeout=TIMEOUT_S) == [f"gate {i}" for i in range(1, concurrency)]

    def test_calls_that_wait_for_arguments_or_for_the_actor(
        self, board: Any, cls: Any, concurrency: int
    ) -> None:
        needed = wait_at.remote(board, "argument")
        actor = aktis.remote(max_concurrency=concurrency)(cls).remote()
        waiting, after = actor.wait_at.remote(board, needed), actor.ping.remote(board)
        aktis.cancel(waiting)
        assert_cancelled(waiting)
        assert aktis.get(after, timeout=TIMEOUT_S) == "pong"
        aktis.get(board.say.remote("argument"))
        aktis.get(needed)
        nowhere = aktis.remote(resources={"nowhere": 1})(cls).remote()
        call = nowhere.ping.remote(board)
        aktis.cancel(call)
        assert_cancelled(call)


def test_a_call_that_waits_for_its_turn_on_an_event_loop(board: Any) -> None:
    """The loop has taken it from the core; a call of another group that came later has run already."""
    actor = aktis.remote(max_concurrency=1, concurrency_groups={"other": 1})(AsyncCalls).remote()
    running = actor.wait_at.remote(board, "gate")
    hear(board, "at gate")
    queued, after = actor.wait_at.remote(board, "queued"), actor.ping.remote(board)
    assert aktis.get(actor.ping.options(concurrency_group="other").remote(board)) == "pong"
    aktis.cancel(queued)
    assert_cancelled(queued)
    aktis.get(board.say.remote("gate"))
    assert aktis.get([running, after], timeout=TIMEOUT_S) == ["gate", "pong"]
    assert "at queued" not in said(board)
