"""Ctrl-C is held back where something must not stop halfway, and comes as soon as it may."""

import signal
import threading
from collections.abc import Iterator

import pytest
from aktis._interrupts import HeldInterrupts, interrupts_let_through


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_comes_at_the_end_of_the_block() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), HeldInterrupts() as held:  # noqa: PT012
        interrupt()
        assert held.pending
        steps.append("after it")
    assert steps == ["after it"]


def test_without_an_interrupt_nothing_happens() -> None:
    with HeldInterrupts() as held:
        pass
    assert not held.pending


def test_it_can_be_dropped() -> None:
    with HeldInterrupts(deliver=False):
        interrupt()


def test_an_error_is_not_covered_up() -> None:
    with pytest.raises(ValueError, match="own"), HeldInterrupts():  # noqa: PT012
        interrupt()
        raise ValueError("own")


def test_everyone_is_reported() -> None:
    hurried: list[int] = []
    with HeldInterrupts(on_interrupt=lambda: hurried.append(1), deliver=False):
        interrupt()
        interrupt()
    assert hurried == [1, 1]


def test_blocks_can_be_nested() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), HeldInterrupts():  # noqa: PT012
        with HeldInterrupts():
            interrupt()
        steps.append("between")
    assert steps == ["between"]


def test_it_is_let_through_where_the_block_waits() -> None:
    with pytest.raises(KeyboardInterrupt), HeldInterrupts():  # noqa: PT012
        with interrupts_let_through():
            interrupt()
        pytest.fail("it was held back")


def test_what_was_held_back_comes_before_the_wait() -> None:
    with pytest.raises(KeyboardInterrupt), HeldInterrupts():  # noqa: PT012
        interrupt()
        with interrupts_let_through():
            pytest.fail("it did not come")


def test_letting_through_outside_of_a_block_changes_nothing() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_let_through():
        interrupt()


def test_other_threads_and_other_handlers_are_left_alone() -> None:
    seen: list[object] = []

    def run() -> None:
        with HeldInterrupts(), interrupts_let_through():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with HeldInterrupts():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)
