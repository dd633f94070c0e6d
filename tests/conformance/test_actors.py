"""Actors: order, ends, restarts, names, handles."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError

from tests.conformance.parts import Gate, echo, fail, until_it_fails
from tests.conformance.systems import running_cluster

DEADLINE_S = 30


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with running_cluster(namespace="mine"):
        yield


class PlainCounter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, n: int = 1) -> int:
        self.value += n
        return self.value

    def pid(self) -> int:
        return os.getpid()

    def fail(self) -> None:
        raise ValueError("on purpose")

    def die(self) -> None:
        os._exit(1)

    def leave(self) -> None:
        ray.actor.exit_actor()

    def other(self) -> Any:
        return ray.get_runtime_context().current_actor


Counter = ray.remote(num_cpus=0)(PlainCounter)


def assert_dead(actor: Any) -> None:
    """Wait for its end."""
    while True:
        try:
            ray.get(actor.pid.remote(), timeout=DEADLINE_S)
        except RayActorError:
            return


# ---- calls ----


def test_calls_of_one_caller_run_in_order() -> None:
    counter = Counter.remote(10)
    assert ray.get([counter.add.remote() for _ in range(50)]) == list(range(11, 61))


def test_a_call_that_waits_for_its_argument_holds_back_those_behind_it() -> None:
    gate, counter = Gate.remote(), Counter.remote()
    first = counter.add.remote(gate.wait.remote(100))
    second = counter.add.remote()
    gate.open.remote()
    assert ray.get([first, second]) == [100, 101]


def test_calls_out_of_order_if_allowed() -> None:
    gate = Gate.remote()
    counter = Counter.options(allow_out_of_order_execution=True).remote()
    first = counter.add.remote(gate.wait.remote(100))
    assert ray.get(counter.add.remote(), timeout=DEADLINE_S) == 1
    gate.open.remote()
    assert ray.get(first) == 101


def test_an_error_of_a_method_leaves_the_actor_alive() -> None:
    counter = Counter.remote()
    with pytest.raises(ValueError, match="on purpose"):
        ray.get(counter.fail.remote())
    assert ray.get(counter.add.remote()) == 1


def test_keyword_arguments_and_references() -> None:
    counter = Counter.remote(start=ray.put(5))
    assert ray.get(counter.add.remote(n=echo.remote(2))) == 7


def test_calls_that_do_not_fit() -> None:
    counter = Counter.remote()
    with pytest.raises(TypeError):
        counter.add.remote(1, 2)
    with pytest.raises(TypeError):
        Counter.remote(1, 2)
    with pytest.raises(AttributeError):
        counter.no_such_method.remote()


def test_direct_calls_are_refused() -> None:
    counter = Counter.remote()
    with pytest.raises(TypeError, match=r"\.remote\(\)"):
        Counter()
    with pytest.raises(TypeError, match=r"\.remote\(\)"):
        counter.add()


def test_a_class_that_is_remote_cannot_be_inherited_from() -> None:
    with pytest.raises(TypeError):

        class Derived(Counter):  # type: ignore[misc, valid-type]
            pass


def test_inheritance_between_plain_classes() -> None:
    class Derived(PlainCounter):
        def add(self, n: int = 1) -> int:
            return super().add(2 * n)

    assert ray.get(ray.remote(Derived).remote(1).add.remote(3)) == 7


def test_several_results_of_a_method() -> None:
    @ray.remote
    class Pairs:
        @ray.method(num_returns=2)
        def pair(self) -> Any:
            return 1, 2

        def one(self) -> Any:
            return 3, 4

    pairs = Pairs.remote()
    assert ray.get(pairs.pair.remote()) == [1, 2]
    assert ray.get(pairs.one.options(num_returns=2).remote()) == [3, 4]
    assert ray.get(pairs.one.remote()) == (3, 4)


def test_methods_that_every_actor_has() -> None:
    counter = Counter.remote(1)
    ray.get(counter.__ray_ready__.remote(), timeout=DEADLINE_S)
    assert ray.get(counter.__ray_call__.remote(lambda self, n: self.value + n, 2)) == 3
    counter.__ray_terminate__.remote()
    assert_dead(counter)


# ---- ends ----


def test_an_actor_ends_with_its_last_handle_after_what_was_called() -> None:
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    last = counter.add.remote()
    del counter
    assert ray.get(last, timeout=DEADLINE_S) == 1
    wait_for_end(pid)


def wait_for_end(pid: int) -> None:
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], DEADLINE_S)[0]
    finally:
        os.close(descriptor)


def test_kill() -> None:
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    ray.kill(counter)
    wait_for_end(pid)
    with pytest.raises(ActorDiedError):
        ray.get(counter.add.remote(), timeout=DEADLINE_S)
    ray.kill(counter)  # does nothing


@pytest.mark.parametrize("value", [1, None, "name"], ids=repr)
def test_kill_takes_a_handle(value: object) -> None:
    with pytest.raises(ValueError):
        ray.kill(value)


def test_an_actor_may_leave() -> None:
    counter = Counter.remote()
    with pytest.raises(ActorDiedError):
        ray.get(counter.leave.remote(), timeout=DEADLINE_S)
    with pytest.raises(ActorDiedError):
        ray.get(counter.add.remote(), timeout=DEADLINE_S)


def test_leaving_is_for_actors() -> None:
    with pytest.raises(TypeError):
        ray.actor.exit_actor()


def test_a_crash_is_the_end() -> None:
    counter = Counter.remote()
    with pytest.raises(ActorDiedError):
        ray.get(counter.die.remote(), timeout=DEADLINE_S)
    with pytest.raises(ActorDiedError) as caught:
        ray.get(counter.add.remote(), timeout=DEADLINE_S)
    assert caught.value.actor_id in repr(counter)


def test_a_constructor_that_fails() -> None:
    @ray.remote
    class Broken:
        def __init__(self) -> None:
            raise ValueError("from the constructor")

        def call(self) -> None: ...

    with pytest.raises(RayActorError, match="from the constructor"):
        ray.get(Broken.remote().call.remote(), timeout=DEADLINE_S)


def test_a_constructor_whose_argument_fails() -> None:
    counter = Counter.remote(fail.remote("the argument"))
    with pytest.raises(RayActorError):
        ray.get(counter.add.remote(), timeout=DEADLINE_S)


def test_an_object_whose_owner_has_died() -> None:
    @ray.remote(num_cpus=0)
    class Owner:
        def make(self) -> Any:
            return [ray.put(bytes(1_000_000))]

    owner = Owner.remote()
    (ref,) = ray.get(owner.make.remote())
    ray.kill(owner)
    with pytest.raises(ActorDiedError):
        ray.get(owner.make.remote(), timeout=DEADLINE_S)
    with pytest.raises(ray.exceptions.OwnerDiedError):
        until_it_fails(lambda: echo.remote(ref))  # a copy may be there until the death is known


# ---- restarts ----


def test_a_restarted_actor_begins_anew() -> None:
    counter = Counter.options(max_restarts=1).remote(5)
    first = ray.get(counter.pid.remote())
    assert ray.get(counter.add.remote()) == 6
    with pytest.raises(RayActorError):
        ray.get(counter.die.remote(), timeout=DEADLINE_S)
    counter2 = retried(counter.add)
    assert counter2 == 6
    assert ray.get(counter.pid.remote()) != first
    with pytest.raises(RayActorError):
        ray.get(counter.die.remote(), timeout=DEADLINE_S)
    assert_dead(counter)


def retried(method: Any) -> Any:
    """Call a method until the actor is there again."""
    while True:
        try:
            return ray.get(method.remote(), timeout=DEADLINE_S)
        except ActorUnavailableError:
            pass


def test_a_call_that_was_under_way_in_a_crash_that_is_survived() -> None:
    counter = Counter.options(max_restarts=1).remote()
    with pytest.raises(ActorUnavailableError):
        ray.get(counter.die.remote(), timeout=DEADLINE_S)


def test_kill_that_allows_a_restart() -> None:
    counter = Counter.options(max_restarts=1, max_task_retries=-1).remote()
    first = ray.get(counter.pid.remote())
    ray.kill(counter, no_restart=False)
    wait_for_end(first)
    assert ray.get(counter.pid.remote(), timeout=DEADLINE_S) != first


def test_calls_are_repeated_if_allowed(tmp_path: Any) -> None:
    @ray.remote(num_cpus=0, max_restarts=1, max_task_retries=1)
    class Phoenix:
        def once(self) -> str:
            if not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os._exit(1)
            return "alive"

        def restarted(self) -> bool:
            return bool(ray.get_runtime_context().was_current_actor_reconstructed)

    phoenix = Phoenix.remote()
    assert ray.get(phoenix.restarted.remote()) is False
    assert ray.get(phoenix.once.remote(), timeout=DEADLINE_S) == "alive"
    assert ray.get(phoenix.restarted.remote()) is True


def test_exceptions_of_methods_are_retried_if_asked_for() -> None:
    @ray.remote(num_cpus=0, max_task_retries=3)
    class Flaky:
        def __init__(self) -> None:
            self.calls = 0

        @ray.method(retry_exceptions=[KeyError])
        def third_time(self) -> int:
            self.calls += 1
            if self.calls < 3:
                raise KeyError(self.calls)
            return self.calls

    assert ray.get(Flaky.remote().third_time.remote()) == 3


# ---- names ----


def test_a_named_actor_is_found() -> None:
    counter = Counter.options(name="found").remote(1)
    assert ray.get(ray.get_actor("found").add.remote()) == 2
    assert ray.get_actor("found") == counter
    assert ray.get(ray.get_actor("found", namespace="mine").add.remote()) == 3


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(ValueError):
        ray.get_actor("nobody")
    with pytest.raises(ValueError):
        ray.get_actor("")


def test_a_name_is_taken() -> None:
    counter = Counter.options(name="taken").remote()
    with pytest.raises(ValueError) as caught:
        Counter.options(name="taken").remote()
    assert isinstance(caught.value, ray.exceptions.ActorAlreadyExistsError)
    del counter


def test_get_if_exists() -> None:
    options = Counter.options(name="once", get_if_exists=True)
    first = options.remote(1)
    assert ray.get(first.add.remote()) == 2
    second = options.remote(100)
    assert ray.get(second.add.remote()) == 3
    assert first == second


def test_namespaces_keep_names_apart() -> None:
    mine = Counter.options(name="same").remote(1)
    other = Counter.options(name="same", namespace="other").remote(2)
    assert ray.get([mine.add.remote(), other.add.remote()]) == [2, 3]
    assert ray.get_actor("same", namespace="other") == other
    with pytest.raises(ValueError):
        ray.get_actor("same", namespace="a third")


def test_a_name_is_free_after_the_end() -> None:
    counter = Counter.options(name="free").remote()
    ray.get(counter.pid.remote())
    ray.kill(counter)
    assert_dead(counter)
    again = Counter.options(name="free").remote(7)
    assert ray.get(again.add.remote()) == 8


def test_a_detached_actor_outlives_its_handles() -> None:
    Counter.options(name="kept", lifetime="detached").remote(1)
    assert ray.get(ray.get_actor("kept").add.remote()) == 2
    assert ray.get(ray.get_actor("kept").add.remote()) == 3
    ray.kill(ray.get_actor("kept"))


def test_a_lifetime_without_a_name() -> None:
    counter = Counter.options(lifetime="detached").remote(1)
    assert ray.get(counter.add.remote()) == 2
    ray.kill(counter)


# ---- handles ----


def test_handles_are_values() -> None:
    @ray.remote
    def use(counter: Any, nested: dict[str, Any]) -> Any:
        assert nested["counter"] == counter
        return ray.get([counter.add.remote(), nested["counter"].add.remote()])

    counter = Counter.remote()
    assert ray.get(use.remote(counter, {"counter": counter})) == [1, 2]
    (copy,) = ray.get(ray.put([counter]))
    assert copy == counter
    assert hash(copy) == hash(counter)
    assert copy != Counter.remote()
    assert ray.get(copy.add.remote()) == 3


def test_a_handle_that_was_passed_on_keeps_the_actor_alive() -> None:
    counter = Counter.remote(1)
    ref = ray.put([counter])
    del counter
    assert ray.get(ray.get(ref)[0].add.remote(), timeout=DEADLINE_S) == 2


def test_an_actor_knows_itself() -> None:
    counter = Counter.remote(1)
    assert ray.get(counter.other.remote()) == counter


def test_actors_of_actors() -> None:
    @ray.remote(num_cpus=0)
    class Parent:
        def __init__(self) -> None:
            self.child = Counter.remote(10)

        def add(self) -> int:
            return int(ray.get(self.child.add.remote()))

        def get_child(self) -> Any:
            return self.child

    parent = Parent.remote()
    assert ray.get(parent.add.remote()) == 11
    child = ray.get(parent.get_child.remote())
    assert ray.get(child.add.remote()) == 12


def test_attributes_of_a_handle_are_methods() -> None:
    counter = Counter.remote()
    assert isinstance(counter, ray.actor.ActorHandle)
    assert {"add", "pid", "fail"} <= set(dir(counter))
    assert "PlainCounter" in repr(counter)


def test_pending_calls_are_limited_if_asked_for() -> None:
    gate = Gate.remote()

    @ray.remote(num_cpus=0, max_pending_calls=2)
    class Slow:
        def wait(self) -> None:
            ray.get(gate.wait.remote())

    slow = Slow.remote()
    waiting = [slow.wait.remote() for _ in range(2)]
    with pytest.raises(ray.exceptions.PendingCallsLimitExceeded):
        slow.wait.remote()
    gate.open.remote()
    ray.get(waiting)
    ray.get(slow.wait.remote())
