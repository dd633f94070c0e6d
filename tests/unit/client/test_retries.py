"""Whether and when a failed task runs again."""

from aktis._runtime.retries import (
    FIRST_PAUSE_MS,
    MAX_PAUSE_MS,
    MAX_TRACKED,
    GiveUp,
    Retry,
    RetryLists,
    RetryPolicy,
    may_retry,
    pause_ms,
)

TASK = b"t" * 16


def test_the_first_retry_comes_at_once_and_the_pause_then_doubles() -> None:
    assert [pause_ms(n) for n in (1, 2, 3, 4)] == [0, FIRST_PAUSE_MS, 2 * FIRST_PAUSE_MS, 4 * FIRST_PAUSE_MS]


def test_pauses_are_bounded_however_often_a_task_fails() -> None:
    assert pause_ms(10_000) == MAX_PAUSE_MS


def test_a_task_without_retries_left_fails_and_says_how_often_it_ran() -> None:
    policy = RetryPolicy()
    assert policy.failed(TASK, 2) == Retry(0)
    assert policy.failed(TASK, 1) == Retry(FIRST_PAUSE_MS)
    assert policy.failed(TASK, 0) == GiveUp(3)


def test_a_task_without_limit_never_fails() -> None:
    policy = RetryPolicy()
    assert all(isinstance(policy.failed(TASK, -1), Retry) for _ in range(100))


def test_tasks_do_not_share_their_failures() -> None:
    policy = RetryPolicy()
    policy.failed(TASK, 1)
    assert policy.failed(b"u" * 16, 0) == GiveUp(1)


def test_what_is_remembered_is_bounded() -> None:
    policy = RetryPolicy()
    for number in range(MAX_TRACKED + 10):
        policy.failed(number.to_bytes(16, "big"), 1)
    assert policy.failed((0).to_bytes(16, "big"), 0) == GiveUp(1)  # forgotten: the oldest go first
    assert policy.failed((MAX_TRACKED + 9).to_bytes(16, "big"), 0) == GiveUp(2)


def test_only_listed_exceptions_are_retried() -> None:
    assert may_retry(KeyError("a"), (LookupError,))
    assert not may_retry(ValueError("a"), (LookupError, OSError))


def test_lists_of_retried_exceptions_are_found_by_their_number() -> None:
    lists = RetryLists()
    assert lists.allowed(0) is None
    first, second = lists.number((KeyError,)), lists.number((KeyError, OSError))
    assert lists.number((KeyError,)) == first
    assert first != second
    assert lists.allowed(first) == (KeyError,)
    assert lists.allowed(second) == (KeyError, OSError)
