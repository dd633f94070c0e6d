"""``multiprocessing.Pool`` over actors, held against the standard library's own."""

import functools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from multiprocessing.pool import ThreadPool
from typing import Any

import aktis
import pytest
from aktis._runtime.serialization import about_to_block
from aktis.exceptions import ActorDiedError
from aktis.util.multiprocessing import Pool
from aktis.util.multiprocessing.dispatch import Dispatcher, Pace

from tests.support.clients import embedded, run_program
from tests.support.sandbox import Sandbox, wait_for_exit

pytestmark = pytest.mark.xdist_group("pool")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


@pytest.fixture(scope="module")
def pool(cluster: None) -> Iterator[Pool]:
    with Pool(2) as pool:
        yield pool


def square(number: int) -> int:
    return number * number


def refuse_two(number: int) -> int:
    if number == 2:
        raise ValueError(f"no {number}")
    return number


def pid(_: object = None) -> int:
    return os.getpid()


@aktis.remote(num_cpus=0, max_concurrency=8)
class Barrier:
    """Lets nobody go before ``parties`` have come."""

    def __init__(self, parties: int) -> None:
        self.barrier = threading.Barrier(parties)

    def wait(self) -> None:
        self.barrier.wait(30)


CALLS: dict[str, Callable[[Any], Any]] = {
    "apply": lambda pool: pool.apply(pow, (2, 5)),
    "apply with keywords": lambda pool: pool.apply(int, ("ff",), {"base": 16}),
    "apply_async": lambda pool: pool.apply_async(pow, (2, 5)).get(),
    "map": lambda pool: pool.map(square, range(23)),
    "map of nothing": lambda pool: pool.map(square, []),
    "map in chunks": lambda pool: pool.map(square, iter(range(23)), 5),
    "map_async": lambda pool: pool.map_async(square, range(23)).get(),
    "starmap": lambda pool: pool.starmap(pow, [(2, 3), (3, 2)]),
    "starmap_async": lambda pool: pool.starmap_async(pow, [(2, 3), (3, 2)]).get(),
    "imap": lambda pool: list(pool.imap(square, range(23))),
    "imap in chunks": lambda pool: list(pool.imap(square, range(23), 4)),
    "imap_unordered": lambda pool: sorted(pool.imap_unordered(square, range(23), chunksize=3)),
    "an error": lambda pool: pool.apply(refuse_two, (2,)),
    "an error in map": lambda pool: pool.map(refuse_two, range(5)),
    "an error in imap": lambda pool: list(pool.imap(refuse_two, range(5))),
    "not an iterable": lambda pool: pool.map(square, 5),
    "join of a running pool": lambda pool: pool.join(),
}


@pytest.fixture(scope="module")
def reference() -> Iterator[Any]:
    with ThreadPool(2) as pool:  # the standard library's code, without processes
        yield pool


def outcome(call: Callable[[Any], Any], pool: Any) -> tuple[str, Any]:
    try:
        return "value", call(pool)
    except Exception as error:
        return type(error).__name__, str(error) if type(error) is ValueError and "no 2" in str(error) else ""


@pytest.mark.parametrize("name", CALLS)
def test_calls_do_what_the_standard_library_does(name: str, pool: Pool, reference: Any) -> None:
    assert outcome(CALLS[name], pool) == outcome(CALLS[name], reference)


def test_functions_may_be_closures(pool: Pool) -> None:
    offset = 10
    assert pool.map(lambda number: number + offset, range(3)) == [10, 11, 12]


def test_an_error_has_the_remote_traceback_as_its_cause(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no 2") as caught:
        pool.apply(refuse_two, (2,))
    assert type(caught.value) is ValueError
    assert "in refuse_two" in str(caught.value.__cause__)


def test_the_state_of_a_result(pool: Pool) -> None:
    barrier = Barrier.remote(2)
    result = pool.apply_async(lambda: aktis.get(barrier.wait.remote()))
    assert not result.ready()
    result.wait(0.01)
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    aktis.get(barrier.wait.remote())
    result.wait(30)
    assert result.ready()
    assert result.successful()
    failed = pool.apply_async(refuse_two, (2,))
    failed.wait(30)
    assert not failed.successful()


def test_callbacks_get_the_value_or_the_exception(pool: Pool) -> None:
    values: list[Any] = []
    errors: list[BaseException] = []
    given: dict[str, Any] = {"callback": values.append, "error_callback": errors.append}
    pool.map_async(square, range(5), 2, **given).wait(30)
    pool.apply_async(square, (3,), **given).wait(30)
    pool.starmap_async(pow, [(2, 3)], **given).wait(30)
    assert values == [[0, 1, 4, 9, 16], 9, [8]]
    assert not errors
    pool.map_async(refuse_two, range(5), 1, **given).wait(30)
    assert len(values) == 3
    assert [(type(error), error.args) for error in errors] == [(ValueError, ("no 2",))]


def test_a_callback_that_fails_does_not_stop_the_pool(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    pool.apply_async(square, (3,), callback=lambda value: {}[value]).wait(30)
    assert pool.map(square, [4]) == [16]  # on the thread of the callback
    assert "callback failed" in caplog.text


def test_a_call_needs_nobody_but_an_idle_process(pool: Pool) -> None:
    entered, may_go = threading.Event(), threading.Event()
    waited: list[bool] = []

    def callback(_: int) -> None:
        entered.set()
        waited.append(may_go.wait(20))

    pool.apply_async(square, (3,), callback=callback)
    assert entered.wait(30)
    assert [pool.apply(square, (n,)) for n in range(3)] == [0, 1, 4]
    assert pool.apply_async(square, (4,)).get(30) == 16
    with pytest.raises(ValueError, match="no 2"):
        pool.apply(refuse_two, (2,))
    waiting = pool.map_async(square, [5])
    assert not waiting.ready()
    may_go.set()
    assert waiting.get(30) == [25]
    assert waited == [True]


def test_functions_see_globals_as_they_are_when_they_are_called(pool: Pool) -> None:
    names: dict[str, Any] = {"__name__": "__main__", "step": 1}
    exec("def add(number): return number + step", names)
    exec("def count():\n global step\n step += 1\n return step", names)
    assert [pool.apply(names["add"], (1,)) for _ in range(3)] == [2, 2, 2]
    names["step"] = 10
    assert [pool.apply(names["add"], (1,)) for _ in range(3)] == [11, 11, 11]
    assert {pool.apply(names["count"]) for _ in range(4)} == {11}


def test_a_callback_may_wait_for_room_in_the_object_store(pool: Pool) -> None:
    done = threading.Event()

    def callback(_: int) -> None:
        about_to_block("for room in the object store")  # says that it does not become an event loop
        done.set()

    pool.apply_async(square, (1,), callback=callback)
    assert done.wait(30)


def test_imap_goes_on_after_an_error(pool: Pool) -> None:
    results = pool.imap(refuse_two, range(4))
    assert [results.next(), results.next(timeout=30)] == [0, 1]
    with pytest.raises(ValueError, match="no 2"):
        next(results)
    assert list(results) == [3]
    with pytest.raises(StopIteration):
        next(results)


def test_imap_takes_an_endless_source_as_it_goes(pool: Pool) -> None:
    source = count()
    results = pool.imap(square, source)
    assert [next(results) for _ in range(100)] == [n * n for n in range(100)]
    assert next(source) < 200


def test_imap_raises_what_its_source_raises_after_what_came_before(pool: Pool) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("source")

    results = pool.imap(square, source())
    assert next(results) == 1
    with pytest.raises(KeyError, match="source"):
        next(results)


def test_imap_has_a_timeout(pool: Pool) -> None:
    barrier = Barrier.remote(2)
    results = pool.imap(lambda _: aktis.get(barrier.wait.remote()), [0])
    with pytest.raises(multiprocessing.TimeoutError):
        results.next(timeout=0.01)
    aktis.get(barrier.wait.remote())
    assert results.next() is None


def test_what_is_quick_comes_first_from_imap_unordered(pool: Pool) -> None:
    barrier = Barrier.remote(2)
    calls = [functools.partial(aktis.get, barrier.wait.remote()), functools.partial(square, 3)]
    results = pool.imap_unordered(lambda call: call(), calls)
    assert next(results) == 9
    aktis.get(barrier.wait.remote())
    assert next(results) is None


def test_jobs_that_wait_for_one_another_do_not_queue_on_one_worker(pool: Pool) -> None:
    assert pool.map(square, range(200), 1) == [n * n for n in range(200)]  # quick ones are pipelined
    barrier = Barrier.remote(2)
    assert pool.map(lambda _: aktis.get(barrier.wait.remote()), range(6), 1) == [None] * 6


def test_what_cannot_be_sent_fails_alone(pool: Pool) -> None:
    result = pool.apply_async(square, (threading.Lock(),))
    with pytest.raises(TypeError, match="cannot serialize"):
        result.get(30)
    with pytest.raises(TypeError, match="cannot serialize"):
        pool.map(lambda _: threading.Lock(), [1])
    assert pool.apply(square, (2,)) == 4


@pytest.mark.parametrize("chunksize", [0, -1])
def test_chunks_have_a_size(pool: Pool, chunksize: int) -> None:
    for call in (pool.map, pool.imap):
        with pytest.raises(ValueError, match="chunksize"):
            call(square, range(4), chunksize)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"processes": 0}, ValueError),
        ({"processes": "two"}, TypeError),
        ({"maxtasksperchild": 0}, ValueError),
        ({"initializer": 3}, TypeError),
        ({"nonsense": 3}, TypeError),
        ({"remote_args": {}, "ray_remote_args": {}}, TypeError),
        ({"remote_args": {"nonsense": 1}}, ValueError),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Pool(**arguments)


def test_a_pool_has_as_many_processes_as_the_cluster_has_cpus() -> None:
    barrier = Barrier.remote(2)

    def meet(_: int) -> int:
        aktis.get(barrier.wait.remote())
        return os.getpid()

    with Pool() as pool:
        assert len(set(pool.map(meet, range(2), 1))) == 2


def test_the_initializer_runs_in_every_process() -> None:
    def prepare(name: str, value: str) -> None:
        os.environ[name] = value

    with Pool(2, prepare, ("POOL_TEST", "ready")) as pool:
        assert set(pool.map(lambda _: os.environ.get("POOL_TEST"), range(8), 1)) == {"ready"}


def test_an_initializer_that_fails_is_said_by_every_call() -> None:
    def prepare() -> None:
        raise KeyError("not prepared")

    with Pool(1, prepare) as pool, pytest.raises(ActorDiedError, match="not prepared"):
        pool.map(square, [1])


def test_a_process_is_replaced_after_its_share() -> None:
    with Pool(1, maxtasksperchild=2) as pool:
        assert len(set(pool.map(pid, range(6), 1))) == 3


def test_single_calls_count_as_well() -> None:
    with Pool(1, maxtasksperchild=2) as pool:
        processes = [pool.apply(pid) for _ in range(6)]
        with pytest.raises(TypeError, match="lock"):
            pool.apply(pid, (threading.Lock(),))
        processes += [pool.apply(pid) for _ in range(2)]
        assert processes[::2] == processes[1::2]
        assert len(set(processes)) == 4


def test_a_process_that_dies_is_replaced() -> None:
    with Pool(1) as pool:
        before = pool.apply(pid)
        with pytest.raises(ActorDiedError):
            pool.apply(os._exit, (3,))
        assert pool.apply(pid) != before


def test_close_lets_the_calls_finish() -> None:
    pool = Pool(1)
    process = pool.apply(pid)
    results = [pool.apply_async(square, (n,)) for n in range(50)]
    pool.close()
    for call in (pool.apply, pool.map, pool.imap):
        with pytest.raises(ValueError, match="not running"):
            call(square, [1])
    pool.join()
    assert [result.get(0) for result in results] == [n * n for n in range(50)]
    assert wait_for_exit(process, 20)
    pool.terminate()


@pytest.mark.parametrize("joined", [True, False])
def test_iterators_go_on_after_close(joined: bool) -> None:
    pool = Pool(2)
    processes = set(pool.map(pid, range(2), 1))
    ordered, unordered = pool.imap(square, range(100)), pool.imap_unordered(square, range(100))
    dropped = pool.imap(square, range(100))
    pool.close()
    if joined:
        pool.join()
    assert list(ordered) == sorted(unordered) == [n * n for n in range(100)]
    del dropped
    pool.join()
    assert all(wait_for_exit(process, 20) for process in processes)


def test_a_source_that_fails_while_the_pool_is_joined_is_said_by_the_iterator() -> None:
    def numbers() -> Iterator[int]:
        yield from range(50)
        raise LookupError("the source")

    pool = Pool(1)
    results = pool.imap(square, numbers())
    pool.close()
    pool.join()
    assert [next(results) for _ in range(50)] == [n * n for n in range(50)]
    with pytest.raises(LookupError, match="the source"):
        next(results)


def test_an_initializer_that_cannot_be_sent_is_said_at_once() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match="lock"):
        Pool(1, print, (lock,))


def test_a_process_that_cannot_be_replaced_ends_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(1, maxtasksperchild=1)
    barrier = Barrier.remote(2)
    first = pool.apply_async(lambda: aktis.get(barrier.wait.remote()))
    waiting = pool.map_async(square, range(3))

    def refuse(_: Dispatcher) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(Dispatcher, "_new_worker", refuse)
    aktis.get(barrier.wait.remote())
    assert first.get(30) is None
    for result in (waiting, pool.apply_async(square, (1,))):
        with pytest.raises(RuntimeError, match="could not be replaced: no more processes") as caught:
            result.get(30)
        assert isinstance(caught.value.__cause__, OSError)
    pool.terminate()


def test_a_process_that_died_while_idle_fails_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with Pool(1) as pool:
        process = pool.apply(pid)
        (idle,) = pool._dispatcher._idle
        os.kill(process, signal.SIGKILL)
        with pytest.raises(ActorDiedError):  # known from now on
            aktis.get(idle.actor.apply.remote(pid, (), {}), timeout=30)
        assert pool.apply_async(pid).get(30) != process

        def refuse(_: Dispatcher) -> None:
            raise OSError("no more processes")

        (idle,) = pool._dispatcher._idle
        aktis.kill(idle.actor)
        with pytest.raises(ActorDiedError):
            aktis.get(idle.actor.apply.remote(pid, (), {}), timeout=30)
        monkeypatch.setattr(Dispatcher, "_new_worker", refuse)
        with pytest.raises(RuntimeError, match="could not be replaced: no more processes"):
            pool.apply_async(pid).get(30)


def test_a_callback_that_ends_the_thread_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", ended.append)
    pool = Pool(1)
    pool.apply_async(square, (1,), callback=lambda _: sys.exit("the callback"))
    with pytest.raises(RuntimeError, match="terminated"):
        pool.map_async(square, range(3)).get(30)
    pool.terminate()
    assert [end.exc_type for end in ended] == [SystemExit]


def test_terminate_ends_what_is_under_way() -> None:
    pool = Pool(1)
    process = pool.apply(pid)
    barrier = Barrier.remote(2)
    running = pool.apply_async(lambda: aktis.get(barrier.wait.remote()))
    waiting = pool.map_async(square, range(3))
    ahead = pool.imap(square, range(3))
    pool.terminate()
    pool.join()
    for take in (running.get, waiting.get, ahead.next):
        with pytest.raises(RuntimeError, match="terminated"):
            take(timeout=30)
    assert wait_for_exit(process, 20)


def test_a_callback_may_terminate_the_pool() -> None:
    pool = Pool(1)
    failed = pool.apply_async(refuse_two, (2,), error_callback=lambda _: pool.terminate())
    waiting = pool.apply_async(square, (3,))
    failed.wait(30)
    with pytest.raises(RuntimeError, match="terminated"):
        waiting.get(30)
    pool.join()


def test_a_pool_that_outlives_the_session_starts_no_other(sandbox: Sandbox) -> None:
    program = """
import aktis
from aktis.util.multiprocessing import Pool
aktis.init(num_cpus=1)
pool = Pool(1)
assert pool.apply(abs, (-1,)) == 1
renewing = Pool(1, maxtasksperchild=1)
running = renewing.apply_async(__import__("time").sleep, (100,))
waiting = renewing.apply_async(abs, (-1,))
aktis.shutdown()
for result in (running, waiting):
    try:
        result.get(30)
    except (aktis.exceptions.SessionEndedError, RuntimeError) as error:
        assert "session" in str(error)
    else:
        raise AssertionError("it ran after the session")
renewing.terminate()
pool.terminate()
assert not aktis.is_initialized()
"""
    finished = run_program(sandbox, program)
    assert finished.returncode == 0, finished.stderr


def test_a_pool_that_nobody_has_any_more_ends() -> None:
    pool = Pool(1)
    process = pool.apply(pid)
    result = pool.map_async(square, range(50))
    del pool
    assert result.get(30) == [n * n for n in range(50)], "its results keep it"
    del result
    assert wait_for_exit(process, 20)


def test_a_pool_stays_where_it_is(pool: Pool) -> None:
    with pytest.raises(NotImplementedError):
        pickle.dumps(pool)


def test_slowness_is_believed_at_once_and_quickness_by_and_by() -> None:
    pace = Pace()
    assert pace.jobs_at_once() == 1
    pace.add(0.0001)
    assert pace.jobs_at_once() == 20
    pace.add(1.0)
    assert pace.jobs_at_once() == 1
    for _ in range(10):
        pace.add(0.0)
    assert pace.jobs_at_once() == 1
    for _ in range(200):
        pace.add(0.0)
    assert pace.jobs_at_once() == 64
