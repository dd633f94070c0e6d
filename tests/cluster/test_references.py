"""Reference counting on a real cluster: the cases of the simulator (references_cases_test.cc) by their names.

Each ends with an owner whose table has forgotten the object, and, for an object in shared memory, with room
in the store that was not there before.
"""

import gc
import os
import signal
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis._runtime import current
from aktis.exceptions import GetTimeoutError, ObjectLostError, OwnerDiedError, TaskCancelledError
from aktis.util import state

from tests.support.clients import embedded, run_program
from tests.support.gates import Gate
from tests.support.keepers import (
    LARGE,
    SMALL,
    STORE_BYTES,
    TIMEOUT_S,
    Keeper,
    Refs,
    assert_room_in_store,
    call,
    check,
    make,
    pass_back,
)
from tests.support.references import Freed
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.xdist_group("references")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[aktis.Context]:
    with embedded(num_cpus=2, object_store_memory=STORE_BYTES) as context:
        yield context


@pytest.fixture(params=[SMALL, LARGE], ids=["inline", "stored"])
def size(request: pytest.FixtureRequest) -> Iterator[int]:
    """Bytes of the object that the test is about; nothing of it may be left in the store."""
    yield request.param
    if request.param == LARGE:
        assert_room_in_store()


@aktis.remote(num_cpus=2, max_retries=0)
def wait_at(gate: Gate, refs: Refs) -> Refs:
    gate.enter()
    return refs


# ---- where a reference can be ----


def test_returned_by_a_task_that_only_borrowed_it(size: int) -> None:
    ref = aktis.put(make(size))
    freed = Freed(ref)
    back = aktis.get(pass_back.remote([ref]), timeout=TIMEOUT_S)
    del ref
    check(back[0], size)
    assert not freed.is_set
    del back
    assert freed.wait()


def test_inside_a_returned_object(size: int) -> None:
    keeper = Keeper.remote()
    result = keeper.make.remote(size)
    call(keeper.let_go)
    refs = aktis.get(result)
    del result
    check(refs[0], size)
    del refs
    assert call(keeper.were_freed)


def test_inside_a_put_object(size: int) -> None:
    keeper = Keeper.remote()
    inner = aktis.put(make(size))
    outer = aktis.put([inner])
    freed = Freed(inner), Freed(outer)
    del inner
    call(keeper.keep, [outer])
    del outer
    call(keeper.read_inner, size)
    assert not any(one.is_set for one in freed)
    call(keeper.let_go)
    assert all(one.wait() for one in freed)


def test_inside_an_object_put_by_a_borrower(size: int) -> None:
    @aktis.remote
    def wrap(refs: Refs) -> Refs:
        return [aktis.put(refs)]

    inner = aktis.put(make(size))
    freed = Freed(inner)
    outer = aktis.get(wrap.remote([inner]), timeout=TIMEOUT_S)
    del inner
    check(aktis.get(outer[0])[0], size)
    assert not freed.is_set
    del outer
    assert freed.wait()


def test_captured_in_an_actors_state(size: int) -> None:
    keeper = Keeper.remote()
    ref = aktis.put(make(size))
    freed = Freed(ref)
    call(keeper.keep, [ref])
    del ref
    call(keeper.read, size)
    assert not freed.is_set
    call(keeper.let_go)
    assert freed.wait()


def test_captured_in_a_closure(size: int) -> None:
    @aktis.remote
    def call_it(function: Any) -> Any:
        return function()

    def closure_over(ref: Any) -> Any:
        return lambda: check(ref, size)

    ref = aktis.put(make(size))
    freed = Freed(ref)
    stored = aktis.put(closure_over(ref))
    argument = call_it.remote(closure_over(ref))
    del ref
    aktis.get(argument, timeout=TIMEOUT_S)
    aktis.get(call_it.remote(stored), timeout=TIMEOUT_S)
    assert not freed.is_set
    del stored, argument
    assert freed.wait()


def test_captured_in_a_class(size: int) -> None:
    def class_over(ref: Any) -> Any:
        class Holder:
            attribute = ref

            def read(self) -> None:
                check(self.attribute, size)
                check(ref, size)

        return Holder

    @aktis.remote(num_cpus=2)
    def use(holder: Any) -> None:
        holder().read()

    @aktis.remote(num_cpus=2)
    def collect_garbage() -> None:
        gc.collect()  # classes are part of cycles

    ref = aktis.put(make(size))
    freed = Freed(ref)
    argument, stored = use.remote(class_over(ref)), aktis.put(class_over(ref))
    del ref
    aktis.get([argument, use.remote(stored)], timeout=TIMEOUT_S)
    assert not freed.is_set
    del stored, argument
    gc.collect()
    aktis.get(collect_garbage.remote(), timeout=TIMEOUT_S)
    assert freed.wait()


def test_captured_in_an_actors_class_it_lives_as_long_as_that_can_be_made(
    cluster: aktis.Context, sandbox: Sandbox
) -> None:
    program = """
import sys, aktis
aktis.init(address=sys.argv[1])
def actor_over(ref):
    @aktis.remote
    class Reader:
        attribute = ref
        def read(self):
            return len(aktis.get(ref)) + len(aktis.get(self.attribute))
    return Reader
Reader = actor_over(aktis.put(bytes(int(sys.argv[2]))))
print(aktis.get(Reader.remote().read.remote()), aktis.get(Reader.remote().read.remote()))
"""
    finished = run_program(sandbox, program, cluster["raylet_address"], str(LARGE))
    assert finished.stdout.split() == [str(2 * LARGE)] * 2, finished.stderr
    assert_room_in_store()


def test_captured_in_a_remote_function_it_lives_as_long_as_that_can_be_called(
    cluster: aktis.Context, sandbox: Sandbox
) -> None:
    program = """
import sys, aktis
aktis.init(address=sys.argv[1])
ref = aktis.put(bytes(int(sys.argv[2])))
@aktis.remote
def read():
    return len(aktis.get(ref))
first = read.remote()
del ref
print(aktis.get(first), aktis.get(read.remote()), aktis.get(aktis.remote(lambda: 1).remote()))
"""
    finished = run_program(sandbox, program, cluster["raylet_address"], str(LARGE))
    assert finished.stdout.split() == [str(LARGE), str(LARGE), "1"], finished.stderr
    assert_room_in_store()


def test_captured_in_a_global(size: int) -> None:
    kept: dict[str, Refs] = {}

    @aktis.remote(num_cpus=2)
    def remember(refs: Refs | None) -> int:
        if refs is not None:
            kept["global"] = refs
        elif kept:
            check(kept.pop("global")[0], size)
        return os.getpid()

    ref = aktis.put(make(size))
    freed = Freed(ref)
    pid = aktis.get(remember.remote([ref]), timeout=TIMEOUT_S)
    del ref
    assert not freed.is_set
    assert aktis.get(remember.remote(None), timeout=TIMEOUT_S) == pid
    assert freed.wait()


# ---- ways that a reference can take ----


def test_passed_on_by_a_borrower_after_its_task_ended(size: int) -> None:
    keeper, other = Keeper.remote(), Keeper.remote()
    ref = aktis.put(make(size))
    freed = Freed(ref)
    call(keeper.keep, [ref])
    del ref
    call(keeper.pass_on, other)
    call(keeper.let_go)
    call(other.read, size)
    assert not freed.is_set
    call(other.let_go)
    assert freed.wait()


def test_sent_twice_by_different_paths(size: int) -> None:
    keeper, other = Keeper.remote(), Keeper.remote()
    ref = aktis.put(make(size))
    freed = Freed(ref)
    call(keeper.keep, [ref])
    direct, passed_on = other.keep.remote([ref]), keeper.pass_on.remote(other)
    del ref
    aktis.get([direct, passed_on], timeout=TIMEOUT_S)
    call(keeper.let_go)
    call(other.read, size)
    assert not freed.is_set
    call(other.let_go)
    assert freed.wait()


@pytest.mark.parametrize("again", [False, True])
def test_dropped_while_the_borrowers_registration_is_under_way(again: bool) -> None:
    """The owner is stopped, so that the registration stays under way for as long as the test wants."""
    keeper, other = Keeper.remote(), Keeper.remote()
    pid = call(keeper.__aktis_call__, lambda _: os.getpid())
    refs = call(keeper.make, SMALL)
    call(keeper.let_go)
    os.kill(pid, signal.SIGSTOP)
    try:
        kept = keep_unacknowledged(other, refs)
        call(other.let_go)
        aktis.get(kept, timeout=TIMEOUT_S)  # nothing is left to wait for
        if again:
            kept = keep_unacknowledged(other, refs)
        refs.clear()
    finally:
        os.kill(pid, signal.SIGCONT)
    aktis.get(kept, timeout=TIMEOUT_S)
    if again:
        call(other.read, SMALL)
        call(other.let_go)
    assert call(keeper.were_freed)


def keep_unacknowledged(keeper: Any, refs: Refs) -> Any:
    kept = keeper.keep.remote(refs)
    assert call(keeper.knows, refs[0].binary())  # answered later than the first call, if that were answered
    assert not aktis.wait([kept], timeout=0)[0], "it does not wait for its registration"
    return kept


# ---- deaths ----


def test_its_owner_dies(size: int) -> None:
    keeper, other = Keeper.remote(), Keeper.remote()
    refs = call(keeper.make, size)
    object_id = refs[0].binary()
    call(other.keep, refs)
    aktis.kill(keeper)
    with pytest.raises(OwnerDiedError):
        call(other.read, size)
    with pytest.raises(OwnerDiedError):
        aktis.get(refs[0], timeout=TIMEOUT_S)
    freed = Freed(refs[0])
    refs.clear()
    assert freed.wait()
    call(other.let_go)
    assert not call(other.knows, object_id)


def test_its_borrower_dies(size: int) -> None:
    keeper = Keeper.remote()
    ref = aktis.put(make(size))
    freed = Freed(ref)
    call(keeper.keep, [ref])
    del ref
    call(keeper.read, size)
    assert not freed.is_set
    aktis.kill(keeper)
    assert freed.wait()


def test_the_borrower_that_passed_it_on_dies(size: int) -> None:
    keeper, other = Keeper.remote(), Keeper.remote()
    ref = aktis.put(make(size))
    freed = Freed(ref)
    call(keeper.keep, [ref])
    del ref
    call(keeper.pass_on, other)
    aktis.kill(keeper)
    call(other.read, size)
    call(other.let_go)
    assert freed.wait()


# ---- attempts ----


def test_argument_of_a_retried_task(tmp_path: Path, size: int) -> None:
    @aktis.remote(max_retries=1)
    def die_once(refs: Refs, marker: Path, size: int) -> None:
        if not marker.exists():
            marker.touch()
            os._exit(1)
        check(refs[0], size)

    ref = aktis.put(make(size))
    freed = Freed(ref)
    task = die_once.remote([ref], tmp_path / "marker", size)
    del ref
    aktis.get(task, timeout=TIMEOUT_S)
    del task
    assert freed.wait()


@pytest.mark.parametrize("running", [True, False])
def test_argument_of_a_cancelled_task(tmp_path: Path, size: int, running: bool) -> None:
    ref = aktis.put(make(size))
    freed = Freed(ref)
    with Gate(tmp_path) as gate:
        blocks = wait_at.remote(gate, [ref] if running else [])
        gate.wait_entered()
        task = blocks if running else wait_at.remote(gate, [ref])
        del ref
        assert not freed.is_set
        aktis.cancel(task)
        with pytest.raises(TaskCancelledError):
            aktis.get(task, timeout=TIMEOUT_S)
        del task, blocks
        assert freed.wait()


def get_or_explain(refs: Refs) -> list[Any]:
    """Get the results of tasks; if they do not come, the error has what the cluster knows of those left."""
    try:
        return aktis.get(refs, timeout=TIMEOUT_S)
    except GetTimeoutError as error:
        error.add_note(f"core: {current.require().core.statistics()}")
        error.add_note(f"free: {aktis.available_resources()}")
        for task in state.list_tasks(filters=[("state", "!=", "FINISHED")], limit=1000):
            error.add_note(f"{task.state}: {task.name} {task.task_id} in process {task.worker_pid}")
        raise


def test_argument_of_a_stolen_task(tmp_path: Path, size: int) -> None:
    @aktis.remote
    def work(refs: Refs, gate: Gate | None, size: int) -> int:
        if gate is not None:
            gate.enter()
        for ref in refs:
            check(ref, size)
        return os.getpid()

    aktis.get([work.remote([], None, 0) for _ in range(300)], timeout=TIMEOUT_S)
    ref = aktis.put(make(size))
    freed = Freed(ref)
    with Gate(tmp_path) as gate:
        long = work.remote([], gate, 0)
        short = [work.remote([ref], None, size) for _ in range(20)]
        gate.wait_entered()
        del ref
        pids = set(get_or_explain(short))
        del short
        assert freed.wait()
        gate.open()
        assert aktis.get(long, timeout=TIMEOUT_S) not in pids


class LooksLate:
    """A result that looks, when it is sent, whether an argument of its task is still there."""

    def __init__(self, argument: set[int]) -> None:
        self.argument = weakref.ref(argument)

    def __reduce__(self) -> tuple[Any, ...]:
        return bool, (self.argument() is not None,)


@aktis.remote
def look(argument: set[int]) -> LooksLate:
    return LooksLate(argument)


@aktis.remote(num_cpus=0)
class Looker:
    def look(self, argument: set[int]) -> LooksLate:
        return LooksLate(argument)


@aktis.remote(num_cpus=0)
class AsyncLooker:
    async def look(self, argument: set[int]) -> LooksLate:
        return LooksLate(argument)


def test_what_a_task_has_not_kept_of_its_arguments_is_gone_before_it_answers() -> None:
    """Else each reference among them would be registered with its owner, only to be dropped at once."""
    actor, async_actor = Looker.remote(), AsyncLooker.remote()
    late = [look.remote({1}), actor.look.remote({1}), async_actor.look.remote({1})]
    assert aktis.get(late, timeout=TIMEOUT_S) == [False] * 3


# ---- outside Aktis ----


def test_pickled_outside_and_loaded_back(tmp_path: Path, size: int) -> None:
    keeper, other = Keeper.remote(), Keeper.remote()
    ref = aktis.put(make(size))
    freed = Freed(ref)
    call(keeper.keep, [ref])
    del ref
    call(keeper.pickle_to, tmp_path / "refs")
    call(keeper.let_go)
    call(other.load_from, tmp_path / "refs")
    call(other.read, size)
    aktis.kill(keeper)  # with it the pickle ceases to count
    call(other.read, size)
    assert not freed.is_set
    call(other.let_go)
    assert freed.wait()


def test_pickled_outside_and_never_loaded(tmp_path: Path, size: int) -> None:
    keeper = Keeper.remote()
    ref = aktis.put(make(size))
    freed = Freed(ref)
    call(keeper.keep, [ref])
    object_id = ref.binary()
    del ref
    call(keeper.pickle_to, tmp_path / "refs")
    call(keeper.let_go)
    assert call(keeper.knows, object_id)
    assert not freed.is_set
    aktis.kill(keeper)
    assert freed.wait()


def test_loaded_after_it_was_freed(tmp_path: Path) -> None:
    keeper, other = Keeper.remote(), Keeper.remote()
    refs = call(keeper.make, SMALL)
    call(other.keep, refs)
    call(other.pickle_to, tmp_path / "refs")
    aktis.kill(other)
    refs.clear()
    call(keeper.let_go)
    assert call(keeper.were_freed)
    late = Keeper.remote()
    call(late.load_from, tmp_path / "refs")
    with pytest.raises(ObjectLostError):
        call(late.read, SMALL)
