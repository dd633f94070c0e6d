"""Actors on a real cluster: lives, names, order, restarts."""

import gc
import os
import threading
from collections.abc import Iterator
from typing import Any

import aktis
import pytest
from aktis.exceptions import (
    ActorAlreadyExistsError,
    ActorDiedError,
    ActorUnavailableError,
    PendingCallsLimitExceeded,
    TaskError,
)

from tests.support.clients import embedded
from tests.support.sandbox import wait_for_exit

pytestmark = pytest.mark.xdist_group("actors")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2, namespace="tests"):
        yield


class PlainCounter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def increment(self, by: int = 1) -> int:
        self.value += by
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def fail(self) -> None:
        raise ValueError(f"at {self.value}")

    def die(self, code: int = 3) -> None:
        os._exit(code)

    def leave(self) -> None:
        aktis.exit_actor()


Counter = aktis.remote(PlainCounter)


def test_calls_see_the_state_in_order() -> None:
    counter = Counter.remote(10)
    assert aktis.get([counter.increment.remote() for _ in range(500)]) == list(range(11, 511))
    assert aktis.get(counter.increment.remote(by=5)) == 515


def test_an_exception_of_a_method_leaves_the_actor_alive() -> None:
    counter = Counter.remote()
    with pytest.raises(ValueError, match="at 0"):
        aktis.get(counter.fail.remote())
    assert aktis.get(counter.increment.remote()) == 1


def test_an_actor_ends_with_its_last_handle_after_what_was_called() -> None:
    counter = Counter.remote()
    pid = aktis.get(counter.pid.remote())
    last = counter.increment.remote()
    copy = aktis.get(aktis.put([counter]))[0]
    del counter
    assert aktis.get(copy.increment.remote()) == 2
    assert aktis.get(last) == 1
    del copy
    gc.collect()
    assert wait_for_exit(pid, 20)


def test_calls_of_a_handle_that_is_gone_already_still_run() -> None:
    assert aktis.get(Counter.remote(4).increment.remote()) == 5
    assert aktis.get([Counter.remote(n).increment.remote() for n in range(5)]) == [1, 2, 3, 4, 5]


def test_handles_can_be_passed_on() -> None:
    counter = Counter.remote()

    @aktis.remote
    def use(handle: Any, times: int) -> Any:
        return max(aktis.get([handle.increment.remote() for _ in range(times)]))

    assert sorted(aktis.get([use.remote(counter, 1) for _ in range(4)])) == [1, 2, 3, 4]
    (same,) = aktis.get(aktis.put([counter]))
    assert same == counter
    assert len({same, counter}) == 1
    assert same != Counter.remote()


def test_actors_hold_actors() -> None:
    @aktis.remote
    class Parent:
        def __init__(self) -> None:
            self.child = Counter.remote(1)

        def ask(self) -> Any:
            return aktis.get(self.child.increment.remote())

        def give(self) -> Any:
            return self.child

    parent = Parent.remote()
    assert aktis.get(parent.ask.remote()) == 2
    child = aktis.get(parent.give.remote())
    assert aktis.get(child.increment.remote()) == 3


def test_constructor_arguments_may_be_results_of_tasks() -> None:
    @aktis.remote
    def seven() -> int:
        return 7

    assert aktis.get(Counter.remote(seven.remote()).increment.remote()) == 8


def test_named_actors() -> None:
    counter = Counter.options(name="one").remote(1)
    assert aktis.get_actor("one") == counter
    assert aktis.get(aktis.get_actor("one").increment.remote()) == 2
    with pytest.raises(ActorAlreadyExistsError, match="one"):
        Counter.options(name="one").remote()
    assert Counter.options(name="one", get_if_exists=True).remote() == counter
    other = Counter.options(name="one", namespace="elsewhere").remote(5)
    assert other != counter
    assert aktis.get_actor("one", namespace="elsewhere") == other

    @aktis.remote
    def find() -> Any:
        return aktis.get(aktis.get_actor("one").increment.remote())

    assert aktis.get(find.remote()) == 3
    aktis.kill(counter)
    with pytest.raises(ActorDiedError):
        aktis.get(counter.increment.remote())
    with pytest.raises(ValueError, match="no actor named 'one'"):
        aktis.get_actor("one")


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(ValueError, match=r"'nobody'.*'tests'"):
        aktis.get_actor("nobody")
    with pytest.raises(ValueError, match="empty"):
        aktis.get_actor("")
    with pytest.raises(TypeError):
        aktis.get_actor(3)  # type: ignore[arg-type]


def test_kill_says_so_to_waiting_calls() -> None:
    counter = Counter.remote()
    pid = aktis.get(counter.pid.remote())
    aktis.kill(counter)
    with pytest.raises(ActorDiedError, match="PlainCounter"):
        aktis.get(counter.increment.remote())
    assert wait_for_exit(pid, 10)
    aktis.kill(counter)  # a second time does nothing


def test_exit_actor() -> None:
    counter = Counter.options(max_restarts=5).remote()
    pid = aktis.get(counter.pid.remote())
    with pytest.raises(ActorDiedError, match="exit_actor"):
        aktis.get(counter.leave.remote())
    assert wait_for_exit(pid, 10)
    with pytest.raises(ActorDiedError):
        aktis.get(counter.increment.remote())
    with pytest.raises(TypeError, match="runs in an actor"):
        aktis.exit_actor()


def test_a_failing_constructor_is_the_cause_of_every_call() -> None:
    @aktis.remote
    class Broken:
        def __init__(self) -> None:
            raise KeyError("no key")

        def call(self) -> None: ...

    broken = Broken.remote()
    for _ in range(2):
        with pytest.raises(ActorDiedError, match=r"constructor raised KeyError") as caught:
            aktis.get(broken.call.remote())
        assert "no key" in str(caught.value)


def test_the_exit_code_is_in_the_exception() -> None:
    counter = Counter.remote()
    with pytest.raises(ActorDiedError, match="exited with code 3"):
        aktis.get(counter.die.remote())


def test_restarts_begin_anew_and_calls_under_way_are_unavailable() -> None:
    counter = Counter.options(max_restarts=1).remote(10)
    assert aktis.get(counter.increment.remote()) == 11
    with pytest.raises(ActorUnavailableError, match="restarting"):
        aktis.get(counter.die.remote())
    assert aktis.get(counter.increment.remote()) == 11
    with pytest.raises(ActorDiedError):
        aktis.get(counter.die.remote())
    with pytest.raises(ActorDiedError):
        aktis.get(counter.increment.remote())


def test_max_task_retries_repeats_calls_after_a_restart(tmp_path: Any) -> None:
    @aktis.remote(max_restarts=2, max_task_retries=2)
    class Fragile:
        def once(self, marker: str) -> int:
            if not os.path.exists(marker):
                open(marker, "w").close()
                os._exit(1)
            return aktis.get_runtime_context().was_current_actor_reconstructed

    assert aktis.get(Fragile.remote().once.remote(str(tmp_path / "marker"))) is True


def test_methods_may_be_retried_after_their_own_errors(tmp_path: Any) -> None:
    @aktis.remote
    class Flaky:
        def __init__(self) -> None:
            self.calls = 0

        @aktis.method(max_task_retries=3, retry_exceptions=[LookupError])
        def third_time(self) -> int:
            self.calls += 1
            if self.calls < 3:
                raise KeyError(self.calls)
            return self.calls

    assert aktis.get(Flaky.remote().third_time.remote()) == 3


def test_threaded_actors_run_calls_at_once() -> None:
    @aktis.remote(max_concurrency=3)
    class Meeting:
        def __init__(self) -> None:
            self.barrier = threading.Barrier(3, timeout=30)

        def join(self) -> int:
            self.barrier.wait()
            return threading.get_ident()

    meeting = Meeting.remote()
    assert len(set(aktis.get([meeting.join.remote() for _ in range(3)]))) == 3


def test_concurrency_groups_do_not_wait_for_each_other() -> None:
    @aktis.remote(concurrency_groups={"io": 1})
    class Grouped:
        def __init__(self) -> None:
            self.event = threading.Event()

        def wait(self) -> bool:
            return self.event.wait(30)

        @aktis.method(concurrency_group="io")
        def set(self) -> None:
            self.event.set()

    grouped = Grouped.remote()
    waiting = grouped.wait.remote()
    aktis.get(grouped.set.remote())
    assert aktis.get(waiting) is True
    with pytest.raises(ValueError, match="'nope'"):
        aktis.get(grouped.set.options(concurrency_group="nope").remote())


def test_several_returns_of_methods() -> None:
    @aktis.remote
    class Pair:
        @aktis.method(num_returns=2)
        def split(self, pair: tuple[int, int]) -> tuple[int, int]:
            return pair

        def one(self) -> tuple[int, int]:
            return 3, 4

    pair = Pair.remote()
    assert aktis.get(pair.split.remote((1, 2))) == [1, 2]
    assert aktis.get(pair.one.options(num_returns=2).remote()) == [3, 4]


def test_every_actor_has_some_methods_of_ours() -> None:
    counter = Counter.remote(1)
    assert aktis.get(counter.__ray_ready__.remote()) is True
    assert aktis.get(counter.__aktis_call__.remote(lambda self, by: self.value + by, 4)) == 5
    pid = aktis.get(counter.pid.remote())
    counter.__ray_terminate__.remote()
    assert wait_for_exit(pid, 10)


def test_max_pending_calls() -> None:
    @aktis.remote(max_pending_calls=2, max_concurrency=2)
    class Slow:
        def __init__(self) -> None:
            self.event = threading.Event()

        def wait(self) -> bool:
            return self.event.wait(30)

    slow = Slow.remote()
    waiting = [slow.wait.remote() for _ in range(2)]
    with pytest.raises(PendingCallsLimitExceeded, match="max_pending_calls is 2"):
        slow.wait.remote()
    aktis.kill(slow)
    with pytest.raises(ActorDiedError):
        aktis.get(waiting)


def test_inheritance_between_undecorated_classes() -> None:
    class Twice(PlainCounter):
        def increment(self, by: int = 1) -> int:
            return super().increment(2 * by)

    assert aktis.get(aktis.remote(Twice).remote().increment.remote()) == 2
    with pytest.raises(TypeError, match="cannot inherit from the actor class"):

        class Wrong(Counter):  # type: ignore[misc,valid-type]
            pass


def test_what_is_not_possible_says_what_is() -> None:
    counter = Counter.remote()
    with pytest.raises(TypeError, match=r"PlainCounter\.remote\(\)"):
        Counter()  # type: ignore[operator]
    with pytest.raises(TypeError, match=r"\.increment\.remote\(\)"):
        counter.increment()
    with pytest.raises(AttributeError, match=r"no method 'decrement'; it has \['die'"):
        _ = counter.decrement
    with pytest.raises(TypeError, match="increment"):
        counter.increment.remote(1, 2, 3)
    with pytest.raises(TypeError, match="PlainCounter"):
        Counter.remote(1, 2, 3)
    with pytest.raises(ValueError, match="unknown option 'num_returns' for actors"):
        Counter.options(num_returns=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"cancel\(\) is for tasks"):
        aktis.kill(counter.increment.remote())


def test_actor_runtime_context() -> None:
    @aktis.remote
    class Self:
        def facts(self) -> tuple[str | None, str | None, Any]:
            context = aktis.get_runtime_context()
            return context.get_actor_id(), context.get_actor_name(), context.current_actor

    actor = Self.options(name="me").remote()
    actor_id, name, handle = aktis.get(actor.facts.remote())
    assert (name, handle) == ("me", actor)
    assert actor_id in repr(actor)


def test_errors_of_calls_with_failed_arguments() -> None:
    @aktis.remote
    def fail() -> int:
        raise ZeroDivisionError

    counter = Counter.remote()
    with pytest.raises(ZeroDivisionError) as caught:
        aktis.get(counter.increment.remote(fail.remote()))
    assert isinstance(caught.value, TaskError)
    assert aktis.get(counter.increment.remote()) == 1
