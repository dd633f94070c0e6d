"""A store without room: who waits for how long, what is raised, and that nothing is lost or left behind."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import numpy as np
import pytest
from aktis.exceptions import ObjectStoreFullError, WorkerCrashedError

from tests.support.clients import embedded
from tests.support.store_gauges import StoreGauges

pytestmark = pytest.mark.xdist_group("store_full")
MIB = 1 << 20
STORE_BYTES = 32 * MIB


def cluster(create_timeout_ms: int) -> Iterator[StoreGauges]:
    with embedded(
        num_cpus=1,
        object_store_memory=STORE_BYTES,
        _system_config={"plasma.create_timeout_ms": create_timeout_ms},
    ) as context:
        yield StoreGauges(context["session_dir"])


def wait_until_empty(store: StoreGauges) -> None:
    gc.collect()  # what raised keeps the references in its traceback
    store.wait_for("used_bytes", 0)


def array(mib: int, value: int = 0) -> Any:
    return np.full(mib * MIB, value, dtype=np.uint8)


@aktis.remote
def make(mib: int) -> Any:
    return array(mib)


@aktis.remote
def size_of(value: Any) -> int:
    return len(value)


class Unpicklable:
    """A result that nobody can have."""

    def __reduce__(self) -> Any:
        raise TypeError("not for others")


class TestWithoutPatience:
    """The store gives up after 200 ms."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def store(cls) -> Iterator[StoreGauges]:
        yield from cluster(200)

    @pytest.fixture
    def held(self, store: StoreGauges) -> Any:
        """Leave less than 10 MiB."""
        wait_until_empty(store)
        return [aktis.put(array(8, n)) for n in range(3)]

    def test_put_says_who_holds_what_and_nothing_is_lost(self, held: Any) -> None:
        owner = aktis.get_runtime_context().get_worker_id()
        with pytest.raises(ObjectStoreFullError, match=r"no room for 10\.0 MiB .* within 200 ms") as raised:
            aktis.put(array(10))
        assert f"Owner {owner}: 24.0 MiB in 3 objects" in str(raised.value)
        assert f"Process {os.getpid()} reads 24.0 MiB" in str(raised.value)
        assert "object_store_memory" in str(raised.value)
        assert [aktis.get(ref)[0] for ref in held] == [0, 1, 2]
        held.pop()  # the one beside the free rest
        assert aktis.get(aktis.put(array(10, 7)))[-1] == 7

    def test_a_put_of_a_coroutine_that_has_to_wait_is_mentioned(self, held: Any) -> None:
        async def put() -> None:
            assert aktis.get(aktis.put(array(1))).size == MIB  # there is room
            with (
                pytest.warns(RuntimeWarning, match=r"waits for room in the object store.*asyncio\.to_thread"),
                pytest.raises(ObjectStoreFullError),
            ):
                aktis.put(array(10))
            with (
                pytest.warns(RuntimeWarning, match=r"waits for room in the object store.*asyncio\.to_thread"),
                pytest.raises(ObjectStoreFullError),
            ):
                aktis.put(array(10))
            with (
                pytest.warns(RuntimeWarning, match="event loop stands still") as warned,
                pytest.raises(ObjectStoreFullError),
            ):
                size_of.remote(array(10))
            assert warned[0].filename == __file__, "it names the line that waits"
            with pytest.raises(ObjectStoreFullError):  # with no warning: the loop goes on
                await asyncio.to_thread(aktis.put, array(10))

        assert len(held) == 3
        asyncio.run(put())

    def test_get_of_a_result_without_room_raises(self, held: Any) -> None:
        with pytest.raises(ObjectStoreFullError, match=r"make .* failed") as raised:
            aktis.get(make.remote(10))
        assert "24.0 MiB in 3 objects" in str(raised.value)
        assert [aktis.get(ref)[0] for ref in held] == [0, 1, 2]
        held.pop()  # the one beside the free rest
        assert len(aktis.get(make.remote(10))) == 10 * MIB

    def test_an_argument_without_room_is_named(self, held: Any) -> None:
        with pytest.raises(ObjectStoreFullError, match=r"argument 0 of .*size_of: object store is full"):
            size_of.remote(array(10))
        with pytest.raises(ObjectStoreFullError, match=r"argument value of .*size_of: object store is full"):
            size_of.remote(value=array(10))
        held.pop()  # the one beside the free rest
        assert aktis.get(size_of.remote(array(10))) == 10 * MIB

    def test_what_is_larger_than_the_store_is_refused(self, store: StoreGauges) -> None:
        too_large = rf"is larger than the whole store \({STORE_BYTES} bytes\): split it"
        with pytest.raises(ObjectStoreFullError, match=too_large):
            aktis.put(array(40))
        with pytest.raises(ObjectStoreFullError, match=too_large):
            aktis.get(make.remote(40))
        with pytest.raises(ObjectStoreFullError, match=r"argument 0 of .*size_of: object of .*" + too_large):
            size_of.remote(array(40))

    @pytest.mark.parametrize("second", ["no pickle", "no room"])
    def test_a_task_that_fails_after_its_first_result_leaves_nothing(
        self, store: StoreGauges, second: str
    ) -> None:
        @aktis.remote(num_returns=2)
        def two(second: str) -> Any:
            return array(8), array(30) if second == "no room" else Unpicklable()

        wait_until_empty(store)
        refs = two.remote(second)
        for ref in refs:
            with pytest.raises(aktis.exceptions.TaskError):
                aktis.get(ref)
        wait_until_empty(store)

    def test_a_method_of_an_async_actor_that_fails_leaves_nothing(self, store: StoreGauges) -> None:
        @aktis.remote
        class Maker:
            @aktis.method(num_returns=2)
            async def two(self) -> Any:
                return array(8), array(30)

        wait_until_empty(store)
        maker = Maker.options(num_cpus=0).remote()
        for ref in maker.two.remote():
            with pytest.raises(ObjectStoreFullError):
                aktis.get(ref)
        wait_until_empty(store)

    @pytest.mark.parametrize("retries", [0, 1])
    def test_what_a_dead_attempt_had_stored_goes_with_the_task(
        self, store: StoreGauges, tmp_path: Path, retries: int
    ) -> None:
        class Last:
            """Ends its process when everything before it is in the store; fails the second time."""

            def __reduce__(self) -> Any:
                mark = tmp_path / "died"
                if mark.exists():
                    raise TypeError("not for others")
                store.wait_for("sealed_objects", 1)
                mark.touch()
                os._exit(1)

        @aktis.remote(num_returns=2, max_retries=retries)
        def two() -> Any:
            return array(8), Last()

        wait_until_empty(store)
        refs = two.remote()
        for ref in refs:
            with pytest.raises(TypeError if retries else WorkerCrashedError):
                aktis.get(ref)
        wait_until_empty(store)


class TestWithPatience:
    """The store waits longer than any test."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def store(cls) -> Iterator[StoreGauges]:
        yield from cluster(600_000)

    @pytest.fixture
    def held(self, store: StoreGauges) -> Any:
        """Leave less than 10 MiB."""
        wait_until_empty(store)
        return [aktis.put(array(8, n)) for n in range(3)]

    def test_put_takes_the_room_that_comes(self, store: StoreGauges, held: Any) -> None:
        def make_room() -> None:
            store.wait_for("waiting_creates", 1)
            held.clear()

        helper = threading.Thread(target=make_room)
        helper.start()
        assert aktis.get(aktis.put(array(10, 5)))[0] == 5
        helper.join()

    def test_ctrl_c_ends_the_wait_and_whoever_stands_behind_goes_on(
        self, store: StoreGauges, held: Any
    ) -> None:
        def interrupt() -> None:
            store.wait_for("waiting_creates", 1)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        helper = threading.Thread(target=interrupt)
        helper.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                aktis.put(array(10))
        finally:
            signal.signal(signal.SIGINT, before)
            helper.join()
        assert store.read("waiting_creates") == 0
        assert aktis.get(aktis.put(array(4, 3)))[0] == 3
        held.clear()
        assert len(aktis.get(aktis.put(array(30)))) == 30 * MIB
        wait_until_empty(store)

    def test_a_task_that_waits_for_room_lends_its_cpu(self, store: StoreGauges, held: Any) -> None:
        waits = make.remote(10)
        store.wait_for("waiting_creates", 1)
        assert aktis.get([size_of.remote("small") for _ in range(5)], timeout=30) == [5] * 5
        held.clear()
        assert len(aktis.get(waits, timeout=30)) == 10 * MIB

    def test_the_loop_of_an_async_actor_goes_on(self, store: StoreGauges, held: Any) -> None:
        @aktis.remote(num_cpus=0)
        class Maker:
            async def make(self, mib: int) -> Any:
                return array(mib)

            async def ping(self) -> str:
                return "pong"

        maker = Maker.remote()
        waits = maker.make.remote(10)
        store.wait_for("waiting_creates", 1)
        assert aktis.get(maker.ping.remote(), timeout=30) == "pong"
        aktis.cancel(waits)  # too late: the method has returned
        assert aktis.get(maker.ping.remote(), timeout=30) == "pong"
        held.clear()
        assert len(aktis.get(waits, timeout=30)) == 10 * MIB

    def test_a_loop_goes_on_while_an_item_of_a_generator_waits_for_room(
        self, store: StoreGauges, held: Any
    ) -> None:
        @aktis.remote(num_cpus=0)
        class Streamer:
            async def items(self) -> Any:
                yield array(1, 1)
                yield array(10, 2)

            async def ping(self) -> str:
                return "pong"

        streamer = Streamer.remote()
        items = streamer.items.options(num_returns="streaming").remote()
        assert aktis.get(next(items))[0] == 1
        store.wait_for("waiting_creates", 1)
        assert aktis.get(streamer.ping.remote(), timeout=30) == "pong"
        held.clear()
        assert aktis.get(next(items))[0] == 2
        assert list(items) == []
