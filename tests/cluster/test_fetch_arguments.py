"""Arguments in shared memory that do not come: tasks give up, are cancelled, and block nobody else."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aktis
import numpy as np
import pytest
from aktis import _core
from aktis._runtime import current
from aktis.exceptions import ObjectFetchTimedOutError, TaskCancelledError

from tests.support.clients import embedded
from tests.support.store_gauges import StoreGauges

pytestmark = pytest.mark.xdist_group("fetch_arguments")
LARGE_BYTES = 1 << 20


@aktis.remote
def size_of(value: Any) -> int:
    return len(value)


@aktis.remote
def known_references() -> list[str]:
    """What the worker holds references to, beside this task's own."""
    core = current.require().core
    return [reference["object_id"].hex() for reference in core.references(1000)]


@aktis.remote(num_cpus=0)
class Plain:
    def __init__(self, value: Any = b"") -> None:
        self.first = len(value)

    def size_of(self, value: Any) -> int:
        return len(value)


@aktis.remote(num_cpus=0)
class Async:
    async def size_of(self, value: Any) -> int:
        return len(value)

    def ping(self) -> str:
        return "pong"


@aktis.remote(num_cpus=0)
def ping(actor: Any) -> str:
    """Another caller of an actor."""
    answer: str = aktis.get(actor.ping.remote())
    return answer


class Stuck:
    """Objects that their owner has, and that somebody makes anew in the store without ever being done."""

    def __init__(self, context: aktis.Context) -> None:
        self._root = context["session_dir"]
        self._makers: list[_core.PlasmaClient] = []

    def new(self) -> Any:
        ref = aktis.put(np.zeros(LARGE_BYTES, dtype=np.uint8))
        token = Path(self._root, "token").read_text().strip()
        maker = _core.PlasmaClient(f"unix:{self._root}/plasma.sock", token=token)
        maker.connect()
        self._makers.append(maker)
        assert maker.get(ref.binary()) is not None  # waits: the seal of a put() may be under way
        maker.delete([ref.binary()])
        maker.create(ref.binary(), LARGE_BYTES)
        return ref

    def close(self) -> None:
        for maker in self._makers:
            maker.close()


@pytest.fixture
def stuck(context: aktis.Context) -> Iterator[Stuck]:
    objects = Stuck(context)
    yield objects
    objects.close()


class TestWithALimit:
    """Tasks wait 300 ms for their arguments."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def context(cls) -> Iterator[aktis.Context]:
        settings = {"core.fetch_timeout_ms": 300}
        with embedded(num_cpus=1, _system_config=settings) as context:
            yield context

    @pytest.mark.parametrize(
        "method",
        [
            lambda ref: size_of.remote(ref),
            lambda ref: Plain.remote().size_of.remote(ref),
            lambda ref: Plain.options(max_concurrency=2).remote().size_of.remote(value=ref),
            lambda ref: Async.remote().size_of.remote(ref),
        ],
        ids=["task", "plain actor", "threaded actor", "async actor"],
    )
    def test_the_error_says_what_did_not_come(
        self, context: aktis.Context, stuck: Stuck, method: Callable[[Any], Any]
    ) -> None:
        ref = stuck.new()
        with pytest.raises(ObjectFetchTimedOutError) as raised:
            aktis.get(method(ref), timeout=30)
        text = str(raised.value)
        assert f"Object {ref.hex()} could not be fetched in time" in text
        assert f"worker {aktis.get_runtime_context().get_worker_id()}, node {context['node_id']}" in text
        assert "was not there within 0.3 s" in text
        assert "core.fetch_timeout_ms" in text

    def test_a_constructor_gives_up_too(self, stuck: Stuck) -> None:
        actor = Plain.remote(stuck.new())
        with pytest.raises(aktis.exceptions.ActorDiedError, match="could not be fetched in time"):
            aktis.get(actor.size_of.remote(b""), timeout=30)

    def test_the_worker_lets_go_of_every_argument(self, stuck: Stuck) -> None:
        @aktis.remote
        def total(*values: Any) -> int:
            return sum(len(value) for value in values)

        there = aktis.put(np.zeros(LARGE_BYTES, dtype=np.uint8))
        gone = stuck.new()
        with pytest.raises(ObjectFetchTimedOutError):
            aktis.get(total.remote(there, gone), timeout=30)
        held = aktis.get(known_references.remote())
        assert there.hex() not in held
        assert gone.hex() not in held
        assert aktis.get(total.remote(there, there)) == 2 * LARGE_BYTES


class TestWithoutALimit:
    """Tasks wait longer than any test."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def context(cls) -> Iterator[aktis.Context]:
        settings = {"core.fetch_timeout_ms": 600_000}
        with embedded(num_cpus=1, _system_config=settings) as context:
            yield context

    @pytest.fixture
    def store(self, context: aktis.Context) -> StoreGauges:
        gauges = StoreGauges(context["session_dir"])
        gauges.wait_for("waiting_gets", 0)
        return gauges

    @pytest.mark.parametrize(
        ("target", "call"),
        [
            (lambda: None, lambda _, ref: size_of.remote(ref)),
            (Plain.remote, lambda actor, ref: actor.size_of.remote(ref)),
            (
                lambda: Plain.options(max_concurrency=2).remote(),
                lambda actor, ref: actor.size_of.remote(ref),
            ),
            (Async.remote, lambda actor, ref: actor.size_of.remote(ref)),
        ],
        ids=["task", "plain actor", "threaded actor", "async actor"],
    )
    def test_a_task_that_waits_for_its_arguments_is_cancelled(
        self,
        stuck: Stuck,
        store: StoreGauges,
        target: Callable[[], Any],
        call: Callable[[Any, Any], Any],
    ) -> None:
        actor = target()
        ref = stuck.new()
        waits = call(actor, ref)
        store.wait_for("waiting_gets", 1)
        aktis.cancel(waits)
        with pytest.raises(TaskCancelledError):
            aktis.get(waits, timeout=30)
        store.wait_for("waiting_gets", 0)  # nobody waits for it any more
        assert aktis.get(call(actor, aktis.put(b"four")), timeout=30) == 4

    def test_the_loop_of_an_async_actor_serves_others_meanwhile(
        self, stuck: Stuck, store: StoreGauges
    ) -> None:
        actor = Async.remote()
        ref = stuck.new()
        waits = actor.size_of.remote(ref)
        store.wait_for("waiting_gets", 1)
        behind = actor.ping.remote()
        assert aktis.get(ping.remote(actor), timeout=30) == "pong"
        assert aktis.wait([behind], timeout=0)[0] == []  # calls of one caller begin in order
        aktis.cancel(waits)
        assert aktis.get(behind, timeout=30) == "pong"

    def test_an_awaited_object_that_does_not_come_blocks_no_loop(
        self, stuck: Stuck, store: StoreGauges
    ) -> None:
        @aktis.remote(num_cpus=0)
        class Waiter:
            async def wait(self, refs: Any) -> Any:
                return await refs[0]

            def ping(self) -> str:
                return "pong"

        waiter = Waiter.remote()
        ref = stuck.new()
        waits = waiter.wait.remote([ref])
        store.wait_for("waiting_gets", 1)
        assert aktis.get(waiter.ping.remote(), timeout=30) == "pong"
        aktis.cancel(waits)
        with pytest.raises(TaskCancelledError):
            aktis.get(waits, timeout=30)
        store.wait_for("waiting_gets", 0)

    def test_a_call_of_a_threaded_actor_that_waits_is_cancelled(self) -> None:
        @aktis.remote(num_cpus=0)
        class Gate:
            def __init__(self) -> None:
                self.begun = asyncio.Event()

            async def never(self) -> None:
                self.begun.set()
                await asyncio.Event().wait()

            async def entered(self) -> None:
                await self.begun.wait()

        @aktis.remote(num_cpus=0, max_concurrency=2)
        class Threaded:
            def wait(self, gate: Any) -> None:
                aktis.get(gate.never.remote())

            def threads(self) -> str:
                return threading.current_thread().name

        gate, threaded = Gate.remote(), Threaded.remote()
        waits = threaded.wait.remote(gate)
        aktis.get(gate.entered.remote())
        aktis.cancel(waits, recursive=False)
        with pytest.raises(TaskCancelledError):
            aktis.get(waits, timeout=30)
        assert "aktis-call" in aktis.get(threaded.threads.remote())
