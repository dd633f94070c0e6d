"""Slow calls on threads that exist only while there is something to do."""

import functools
import threading

import pytest
from aktis._runtime.errands import MAX_THREADS, Errands


def test_errands_run_on_other_threads() -> None:
    errands = Errands()
    done = threading.Event()
    threads: list[int] = []

    def errand() -> None:
        threads.append(threading.get_ident())
        done.set()

    errands.run(errand)
    assert done.wait(10)
    assert threads[0] != threading.get_ident()


def test_a_slow_errand_does_not_hold_up_the_others() -> None:
    errands = Errands()
    gate, done = threading.Event(), threading.Event()

    def wait() -> None:
        gate.wait(10)

    for _ in range(MAX_THREADS - 1):
        errands.run(wait)
    errands.run(done.set)
    assert done.wait(10)
    gate.set()


def test_a_failing_errand_is_reported_and_the_next_one_runs(capfd: pytest.CaptureFixture[str]) -> None:
    errands = Errands()
    done = threading.Event()

    def fail() -> None:
        raise ValueError("in an errand")

    errands.run(fail)
    errands.run(done.set)
    assert done.wait(10)
    for thread in threading.enumerate():
        if thread.name == "aktis-errand":
            thread.join(10)
    assert "in an errand" in capfd.readouterr().err


def test_nothing_begins_after_the_end() -> None:
    errands = Errands()
    ran: list[int] = []
    errands.close()
    errands.run(functools.partial(ran.append, 1))
    errands.finish(10)
    assert ran == []


class Held:
    """An errand that takes until it is released."""

    def __init__(self, errands: Errands) -> None:
        self.began, self.gate = threading.Event(), threading.Event()
        errands.run(self._hold)
        assert self.began.wait(10)

    def _hold(self) -> None:
        self.began.set()
        self.gate.wait(10)


def test_one_thread_keeps_the_order_and_the_end_waits_for_it() -> None:
    errands = Errands("print", max_threads=1)
    held = Held(errands)
    seen: list[int] = []
    for number in range(50):
        errands.run(functools.partial(seen.append, number))
    held.gate.set()
    errands.finish(10)
    assert seen == list(range(50))


def test_the_end_does_not_wait_longer_than_it_was_told() -> None:
    errands = Errands(max_threads=1)
    held = Held(errands)
    ran: list[int] = []
    errands.run(functools.partial(ran.append, 1))
    errands.finish(0.01)
    held.gate.set()
    errands.finish(10)
    assert ran == []


def test_too_many_are_refused() -> None:
    errands = Errands("print", max_threads=1, max_queued=2)
    held = Held(errands)
    errands.run(held.gate.wait)
    errands.run(held.gate.wait)
    with pytest.raises(RuntimeError, match="2 calls of the kind 'print'"):
        errands.run(held.gate.wait)
    held.gate.set()


def test_what_was_not_begun_is_handed_back_at_the_end() -> None:
    errands = Errands(max_threads=1)
    entered, gate = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        gate.wait(10)

    def later() -> None: ...

    errands.run(hold)
    assert entered.wait(10)
    errands.run(later)
    assert errands.close() == [later]
    gate.set()
    errands.finish(10)


def test_an_errand_that_ends_its_thread_does_not_stop_the_kind(capfd: pytest.CaptureFixture[str]) -> None:
    errands = Errands(max_threads=1)
    done = threading.Event()

    def leave() -> None:
        raise SystemExit(3)

    errands.run(leave)
    errands.run(done.set)
    assert done.wait(10)
    assert "SystemExit" in capfd.readouterr().err
