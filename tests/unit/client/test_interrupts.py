"""KeyboardInterrupt reaches the task that it is for, and nothing else."""

import signal
import threading
from collections.abc import Iterator

import pytest
from aktis._worker.interrupts import MainInterrupts, ThreadInterrupts

TASK, OTHER = b"t" * 16, b"o" * 16


@pytest.fixture
def interrupts() -> Iterator[MainInterrupts]:
    before = signal.getsignal(signal.SIGINT)
    yield MainInterrupts()
    signal.signal(signal.SIGINT, before)


def spin(event: threading.Event) -> None:
    """User code that an interrupt can reach between any two steps; bounded by the interrupt."""
    event.set()
    while True:
        threading.Event().wait(0.001)


def interrupt_when(event: threading.Event, interrupts: MainInterrupts, task_id: bytes) -> threading.Thread:
    def run() -> None:
        event.wait(10)
        interrupts.interrupt(task_id)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_running_task_is_interrupted(interrupts: MainInterrupts) -> None:
    event = threading.Event()
    thread = interrupt_when(event, interrupts, TASK)
    interrupts.begin(TASK)
    with pytest.raises(KeyboardInterrupt):
        spin(event)
    interrupts.end()
    thread.join()


def test_another_task_is_not(interrupts: MainInterrupts) -> None:
    interrupts.begin(OTHER)
    interrupts.interrupt(TASK)
    interrupts.end()
    interrupts.interrupt(OTHER)  # it has ended


def test_a_signal_that_comes_too_late_is_dropped(interrupts: MainInterrupts) -> None:
    event = threading.Event()
    thread = interrupt_when(event, interrupts, TASK)
    interrupts.begin(TASK)
    with pytest.raises(KeyboardInterrupt):
        spin(event)
    thread.join()
    signal.raise_signal(signal.SIGINT)  # the same task: once is enough
    interrupts.end()
    signal.raise_signal(signal.SIGINT)


def test_a_thread_is_interrupted_and_the_others_are_not() -> None:
    interrupts = ThreadInterrupts()
    begun = threading.Event()
    stop = threading.Event()
    outcome: dict[bytes, str] = {}

    def work(task_id: bytes) -> None:
        interrupts.begin(task_id)
        try:
            if task_id == TASK:
                begun.set()
            while not stop.wait(0.001):
                pass
            outcome[task_id] = "finished"
        except KeyboardInterrupt:
            outcome[task_id] = "interrupted"
        finally:
            interrupts.end()

    threads = [threading.Thread(target=work, args=(task_id,)) for task_id in (TASK, OTHER)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    interrupts.interrupt(TASK)
    threads[0].join(10)
    stop.set()
    threads[1].join(10)
    assert outcome == {TASK: "interrupted", OTHER: "finished"}


def test_an_interrupt_that_has_not_arrived_is_taken_back() -> None:
    interrupts = ThreadInterrupts()
    interrupts.begin(TASK)
    # Sent by this thread to itself: it is delivered at the next check, or taken back before.
    try:
        interrupts.interrupt(TASK)
        interrupts.end()
    except KeyboardInterrupt:
        interrupts.end()
    for _ in range(1000):
        pass  # nothing may arrive here any more


def test_a_signal_that_came_to_nothing_is_sent_again(
    interrupts: MainInterrupts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that comes just before a system call begins."""
    send, sent = signal.pthread_kill, list[int]()

    def lose_the_first(thread_id: int, number: int) -> None:
        sent.append(number)
        if len(sent) > 1:
            send(thread_id, number)

    monkeypatch.setattr("signal.pthread_kill", lose_the_first)
    interrupts.begin(TASK)
    interrupts.interrupt(TASK)
    with pytest.raises(KeyboardInterrupt):
        threading.Event().wait(30)
    interrupts.end()
    assert sent == [signal.SIGINT] * 2
