"""Nothing leaves before it is stored, and everything leaves in order."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aktis._proto import gcs_pb2
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status
from aktisd.gcs.outbox import Outbox
from aktisd.gcs.storage.interface import StorageError, Table, Writes
from aktisd.gcs.storage.writer import Done


class HeldWriter:
    """Stands for the writer thread; batches are done when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Writes, Done]] = []
        self.was_asked = asyncio.Event()

    def commit(self, writes: Writes, done: Done) -> None:
        self.waiting.append((writes, done))
        self.was_asked.set()

    def finish(self, error: StorageError | None = None) -> None:
        self.waiting.pop(0)[1](error)


class Bench:
    """An outbox whose output is a list."""

    def __init__(self, limit_bytes: int = 1_000) -> None:
        self.writer = HeldWriter()
        self.log: list[str] = []
        self.outbox = Outbox(self.writer, limit_bytes, self.settle, self.advance, self.release)  # type: ignore[arg-type]
        self.there = True

    def settle(self, out: Effects) -> None:
        out.note("settled")

    def advance(self, node_id: bytes, message: gcs_pb2.NodeDown) -> bool:
        if self.there:
            self.log.append(f"early to {node_id.decode()}")
        return self.there

    def release(self, out: Effects) -> None:
        self.log += [note.event for note in out.notes]
        self.log += [f"late to {node_id.decode()}" for node_id, _ in out.messages]

    def do(self, name: str, *, write: bool = False, size: int = 1) -> None:
        out = self.outbox.step()
        out.note(name)
        if write:
            out.write(Table.KV, name.encode(), bytes(size))

    def ask(self, name: str) -> None:
        """Do what a node will answer."""
        self.do(name, write=True)
        self.outbox.step().order(b"node", b"group", ("prepare", 1), early=True)

    def turn(self, name: str, *, write: bool = False, size: int = 1) -> None:
        self.do(name, write=write, size=size)
        self.outbox.flush()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def test_a_turn_is_one_batch() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.do("a", write=True)
        bench.do("b", write=True)
        await asyncio.sleep(0)
        ((writes, _),) = bench.writer.waiting
        assert len(writes) == 2
        assert bench.log == []
        bench.writer.finish()
        assert bench.log == ["a", "b", "settled"]

    run(scenario)


def test_without_writes_and_nothing_before_it_leaves_at_once() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.turn("a")
        assert bench.log == ["a", "settled"]
        assert not bench.writer.waiting

    run(scenario)


def test_order_is_kept_whatever_is_stored_first() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.turn("a", write=True)
        bench.turn("b")
        bench.turn("c", write=True)
        assert bench.log == []
        bench.writer.finish()
        assert bench.log == ["a", "settled", "b", "settled"]
        bench.writer.finish()
        assert bench.log[4:] == ["c", "settled"]

    run(scenario)


def test_callbacks_stand_around_the_effects() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.outbox.after(lambda error: bench.log.append(f"after {error}"))
        bench.outbox.before(lambda: bench.log.append("before"))
        bench.turn("a", write=True)
        bench.writer.finish()
        assert bench.log == ["before", "a", "settled", "after None"]

    run(scenario)


def test_what_is_early_leaves_first_and_the_turn_of_the_answer_is_stored_with_it() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.ask("a")
        await asyncio.sleep(0)
        assert bench.log == ["early to node"]
        assert not bench.writer.waiting
        bench.do("b", write=True)
        await asyncio.sleep(0)
        ((writes, _),) = bench.writer.waiting
        assert len(writes) == 2
        bench.writer.finish()
        assert bench.log == ["early to node", "a", "settled", "b", "settled"]

    run(scenario)


def test_what_is_held_waits_only_a_moment_and_for_one_turn() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.ask("a")
        async with asyncio.timeout(10):
            await bench.writer.was_asked.wait()  # nobody has answered
        assert len(bench.writer.waiting) == 1
        bench.ask("b")
        await asyncio.sleep(0)
        bench.ask("c")
        await asyncio.sleep(0)
        assert len(bench.writer.waiting) == 2
        assert bench.log == ["early to node"] * 3

    run(scenario)


def test_what_is_left_for_later_is_done_after_early_messages_but_before_the_next_step() -> None:
    async def scenario() -> None:
        bench = Bench()
        for turn in ("a", "b"):
            bench.ask(turn)
            bench.outbox.step().later.append(lambda: bench.log.append("later"))
            if turn == "b":
                bench.outbox.step()
                assert bench.log.pop() == "later"
            await asyncio.sleep(0)
            assert bench.log.pop() == "early to node"
            await asyncio.sleep(0)
        assert bench.log == ["later"]

    run(scenario)


def test_a_flush_does_what_was_left_for_later() -> None:
    async def scenario() -> None:
        bench = Bench()
        out = bench.outbox.step()
        out.later.append(lambda: out.note("later"))
        bench.outbox.flush()
        assert bench.log == ["settled", "later", "settled"]

    run(scenario)


def test_what_nobody_answers_is_not_held() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.there = False
        bench.ask("a")
        await asyncio.sleep(0)
        bench.writer.finish()
        assert bench.log == ["a", "settled", "late to node"]

    run(scenario)


def test_a_flush_ends_what_is_held() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.ask("a")
        await asyncio.sleep(0)
        bench.outbox.flush()
        assert len(bench.writer.waiting) == 1
        bench.writer.was_asked.clear()
        bench.do("b")
        await asyncio.sleep(0)
        bench.writer.finish()
        assert bench.log == ["early to node", "a", "settled", "settled", "b", "settled"]
        assert not bench.writer.was_asked.is_set()

    run(scenario)


def test_what_changes_often_is_encoded_once() -> None:
    async def scenario() -> None:
        bench = Bench()
        encoded: list[str] = []

        def encode() -> bytes:
            encoded.append("once")
            return b"value"

        for _ in range(2):
            bench.outbox.step().write(Table.KV, b"key", encode)
        bench.outbox.flush()
        assert encoded == ["once"]
        ((writes, _),) = bench.writer.waiting
        assert writes == {(Table.KV, b"key"): b"value"}

    run(scenario)


def test_after_a_failure_nothing_leaves_any_more() -> None:
    async def scenario() -> None:
        bench = Bench()
        for name in ("a", "b"):
            bench.outbox.after(lambda error, name=name: bench.log.append(f"{name}: {error}"))  # type: ignore[misc]
            bench.turn(name, write=True)
        failure = StorageError("disk full")
        bench.writer.finish(failure)
        bench.writer.finish(failure)
        bench.turn("c")
        assert bench.log == ["a: disk full", "b: disk full"]
        assert await bench.outbox.failed is failure

    run(scenario)


def test_requests_are_refused_while_too_much_waits() -> None:
    async def scenario() -> None:
        bench = Bench(limit_bytes=100)
        bench.outbox.check_room()
        bench.turn("a", write=True, size=200)
        with pytest.raises(RequestError) as caught:
            bench.outbox.check_room()
        assert caught.value.status == Status.RESOURCE_EXHAUSTED
        bench.writer.finish()
        bench.outbox.check_room()

    run(scenario)


def test_flush_of_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.outbox.flush()
        assert bench.log == []

    run(scenario)
