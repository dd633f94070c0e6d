"""The tools: pools, queues, metrics, serializers, inspection."""

import asyncio
import io
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.util import ActorPool
from ray.util.metrics import Counter, Gauge, Histogram
from ray.util.multiprocessing import Pool
from ray.util.queue import Empty, Full, Queue

from tests.conformance.parts import Gate, echo, fail
from tests.conformance.systems import running_cluster

DEADLINE_S = 30


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with running_cluster(namespace="mine"):
        yield


# ---- ActorPool ----


@ray.remote(num_cpus=0)
class Doubles:
    def double(self, value: int) -> int:
        return 2 * value

    def after(self, gate: Any, value: int) -> int:
        if gate is not None:
            ray.get(gate.wait.remote())
        return value


@pytest.fixture(scope="module")
def actors(cluster: None) -> list[Any]:
    return [Doubles.remote() for _ in range(2)]


def test_map_over_a_pool_of_actors(actors: list[Any]) -> None:
    pool = ActorPool(actors)
    assert list(pool.map(lambda actor, value: actor.double.remote(value), range(5))) == [0, 2, 4, 6, 8]
    results = pool.map_unordered(lambda actor, value: actor.double.remote(value), range(5))
    assert sorted(results) == [0, 2, 4, 6, 8]


def test_submit_to_a_pool_of_actors(actors: list[Any]) -> None:
    pool = ActorPool(actors)
    assert pool.has_free()
    assert not pool.has_next()
    for value in (1, 2, 3):
        pool.submit(lambda actor, value: actor.double.remote(value), value)
    assert not pool.has_free()
    assert pool.has_next()
    assert [pool.get_next() for _ in range(3)] == [2, 4, 6]
    with pytest.raises(StopIteration):
        pool.get_next()
    with pytest.raises(StopIteration):
        pool.get_next_unordered()


def test_a_pool_of_actors_hands_out_what_is_ready(actors: list[Any]) -> None:
    gate = Gate.remote()
    pool = ActorPool(actors)
    pool.submit(lambda actor, value: actor.after.remote(gate, value), "slow")
    pool.submit(lambda actor, value: actor.after.remote(None, value), "fast")
    assert pool.get_next_unordered(timeout=DEADLINE_S) == "fast"
    with pytest.raises(TimeoutError):
        pool.get_next_unordered(timeout=0.01)
    gate.open.remote()
    assert pool.get_next_unordered(timeout=DEADLINE_S) == "slow"


def test_actors_come_and_go(actors: list[Any]) -> None:
    pool = ActorPool([actors[0]])
    assert pool.pop_idle() == actors[0]
    assert pool.pop_idle() is None
    pool.push(actors[1])
    assert pool.has_free()
    with pytest.raises(ValueError):
        pool.push(actors[1])


# ---- completion ----


def test_as_completed_and_map_unordered() -> None:
    assert sorted(ray.util.as_completed([echo.remote(value) for value in range(5)])) == [0, 1, 2, 3, 4]
    assert sorted(ray.util.map_unordered(echo, range(5))) == [0, 1, 2, 3, 4]
    refs = [echo.remote(1)]
    assert list(ray.util.as_completed(refs, yield_obj_refs=True)) == refs
    with pytest.raises(ValueError, match="in a task"):
        list(ray.util.as_completed([fail.remote("in a task")]))


# ---- Queue ----


@pytest.fixture
def queue() -> Iterator[Any]:
    queue = Queue(maxsize=2, actor_options={"num_cpus": 0})
    yield queue
    queue.shutdown(force=True)


def test_a_queue_is_first_in_first_out(queue: Any) -> None:
    assert queue.empty()
    queue.put(1)
    queue.put(2)
    assert (queue.qsize(), queue.size(), len(queue)) == (2, 2, 2)
    assert queue.full()
    assert [queue.get(), queue.get()] == [1, 2]


def test_a_queue_that_is_full_or_empty(queue: Any) -> None:
    with pytest.raises(Empty):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.get(block=False)
    with pytest.raises(Empty):
        queue.get(timeout=0.01)
    queue.put_nowait_batch([1, 2])
    with pytest.raises(Full):
        queue.put_nowait(3)
    with pytest.raises(Full):
        queue.put(3, timeout=0.01)
    with pytest.raises(Full):
        queue.put_nowait_batch([3])
    assert queue.get_nowait_batch(2) == [1, 2]
    with pytest.raises(Empty):
        queue.get_nowait_batch(1)


def test_wrong_times_of_a_queue(queue: Any) -> None:
    with pytest.raises(ValueError):
        queue.get(timeout=-1)
    with pytest.raises(ValueError):
        queue.put(1, timeout=-1)


def test_a_queue_between_processes(queue: Any) -> None:
    @ray.remote(num_cpus=0)
    def produce(queue: Any) -> None:
        for value in range(5):
            queue.put(value)

    done = produce.remote(queue)
    assert [queue.get(timeout=DEADLINE_S) for _ in range(5)] == [0, 1, 2, 3, 4]
    ray.get(done)


def test_a_queue_in_coroutines(queue: Any) -> None:
    async def main() -> Any:
        await queue.put_async("asynchronous")
        return await queue.get_async()

    assert asyncio.run(main()) == "asynchronous"


def test_errors_of_a_queue_are_those_of_the_standard_library() -> None:
    import queue

    assert issubclass(Empty, queue.Empty)
    assert issubclass(Full, queue.Full)


# ---- metrics ----


def test_metrics() -> None:
    counter = Counter("conformance_counter", description="Counts.", tag_keys=("kind",))
    counter.inc(tags={"kind": "a"})
    counter.inc(2.5, tags={"kind": "b"})
    gauge = Gauge("conformance_gauge")
    gauge.set(-1)
    histogram = Histogram("conformance_histogram", boundaries=[1, 10], tag_keys=("kind",))
    histogram.set_default_tags({"kind": "default"})
    histogram.observe(5)
    assert counter.info["name"] == "conformance_counter"
    assert counter.info["description"] == "Counts."
    assert counter.info["tag_keys"] == ("kind",)
    assert histogram.info["default_tags"] == {"kind": "default"}


def test_wrong_uses_of_metrics() -> None:
    with pytest.raises(ValueError):
        Counter("")
    counter = Counter("conformance_wrong", tag_keys=("kind",))
    with pytest.raises(ValueError):
        counter.inc(0, tags={"kind": "a"})
    with pytest.raises(ValueError):
        counter.inc(1, tags={"other": "a"})
    with pytest.raises(ValueError):
        counter.inc(1)
    with pytest.raises(TypeError):
        counter.inc(1, tags={"kind": 1})
    with pytest.raises(TypeError):
        Counter("conformance_wrong_keys", tag_keys="kind")
    with pytest.raises(ValueError):
        Histogram("conformance_unbounded", boundaries=[])
    with pytest.raises(ValueError):
        Histogram("conformance_negative", boundaries=[-1, 1])


# ---- multiprocessing ----


@pytest.fixture(scope="module")
def pool(cluster: None) -> Iterator[Any]:
    with Pool(2, ray_remote_args={"num_cpus": 0}) as pool:
        yield pool


def add(a: int, b: int = 0) -> int:
    return a + b


def raise_key_error(value: object) -> None:
    raise KeyError(value)


def test_apply(pool: Any) -> None:
    assert pool.apply(add, (1, 2)) == 3
    assert pool.apply(add, (1,), {"b": 5}) == 6
    result = pool.apply_async(add, (1, 2))
    assert result.get(timeout=DEADLINE_S) == 3
    assert result.ready()
    assert result.successful()


def test_maps(pool: Any) -> None:
    assert pool.map(add, range(5)) == [0, 1, 2, 3, 4]
    assert pool.map(add, range(5), chunksize=2) == [0, 1, 2, 3, 4]
    assert pool.starmap(add, [(1, 2), (3, 4)]) == [3, 7]
    assert pool.map_async(add, range(3)).get(timeout=DEADLINE_S) == [0, 1, 2]
    assert list(pool.imap(add, range(3))) == [0, 1, 2]
    assert sorted(pool.imap_unordered(add, range(3), chunksize=2)) == [0, 1, 2]


def test_errors_of_a_pool(pool: Any) -> None:
    with pytest.raises(KeyError):
        pool.apply(raise_key_error, (1,))
    result = pool.map_async(raise_key_error, [1])
    result.wait(DEADLINE_S)
    assert not result.successful()


def test_callbacks_of_a_pool(pool: Any) -> None:
    called, values = threading.Event(), []

    def keep(value: Any) -> None:
        values.append(value)
        called.set()

    pool.apply_async(add, (1, 2), callback=keep)
    assert called.wait(DEADLINE_S)
    assert values == [3]


def test_the_life_of_a_pool() -> None:
    pool = Pool(1, initializer=add, initargs=(1,), ray_remote_args={"num_cpus": 0})
    with pytest.raises(ValueError):
        pool.join()
    pool.close()
    with pytest.raises(ValueError):
        pool.apply(add, (1,))
    pool.join()


def test_joblib() -> None:
    joblib = pytest.importorskip("joblib")  # tidy: allow  the peer may lack it
    from ray.util.joblib import register_ray

    register_ray()
    with joblib.parallel_backend("ray", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(add)(value, 1) for value in range(4)) == [1, 2, 3, 4]


# ---- serialization ----


class Odd:
    """What is not pickled as it is."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.lock = threading.Lock()


@ray.remote(num_cpus=0)
def value_of(odd: Odd) -> int:
    return odd.value


def test_serializers() -> None:
    with pytest.raises(TypeError):
        ray.put(Odd(1))
    ray.util.register_serializer(Odd, serializer=lambda odd: odd.value, deserializer=Odd)
    try:
        assert ray.get(ray.put(Odd(2))).value == 2
        assert ray.get(value_of.remote(Odd(3))) == 3
    finally:
        ray.util.deregister_serializer(Odd)
    with pytest.raises(TypeError):
        ray.put(Odd(4))


def test_inspect_serializability() -> None:
    assert ray.util.inspect_serializability(1, name="one", print_file=io.StringIO()) == (True, set())
    lock = threading.Lock()

    def uses_lock() -> Any:
        return lock

    printed = io.StringIO()
    fine, failures = ray.util.inspect_serializability(uses_lock, name="uses_lock", print_file=printed)
    assert not fine
    assert failures
    assert "lock" in printed.getvalue()


# ---- small ones ----


def test_named_actors_are_listed() -> None:
    mine = Doubles.options(name="listed").remote()
    other = Doubles.options(name="elsewhere", namespace="other").remote()
    ray.get([mine.double.remote(1), other.double.remote(1)])
    assert "listed" in ray.util.list_named_actors()
    assert "elsewhere" not in ray.util.list_named_actors()
    listed = ray.util.list_named_actors(all_namespaces=True)
    assert {"name": "listed", "namespace": "mine"} in listed
    assert {"name": "elsewhere", "namespace": "other"} in listed


def test_log_once() -> None:
    from ray.util.debug import log_once, reset_log_once

    assert [log_once("conformance") for _ in range(2)] == [True, False]
    reset_log_once("conformance")
    assert ray.util.log_once("conformance")


def test_the_address_of_this_node() -> None:
    assert ray.util.get_node_ip_address().count(".") == 3
