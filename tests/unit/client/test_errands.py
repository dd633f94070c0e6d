"""Slow calls on threads that exist only while there is something to do."""

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
    errands.close()
    errands.run(lambda: pytest.fail("it ran"))
