"""Causes of death: what is reported when intention and observation differ; the table of those who ask."""

import signal

from aktisd.raylet.causes import Cause, Kind, cause, observed, resolve
from aktisd.raylet.deaths import MAX_ERROR_BYTES, DeathTable


def seen(signal_number: int = 0, exit_code: int = 0) -> Cause:
    return observed(42, exit_code, signal_number, known=True)


def test_sentences_for_people() -> None:
    assert seen(exit_code=3).message == "process 42 exited with code 3"
    assert seen(signal.SIGSEGV).message == "process 42 was killed by SIGSEGV (Segmentation fault)"
    assert "exit status is not known" in observed(42, 0, 0, known=False).message
    assert observed(42, 0, 9, known=True, out_of_memory=True).kind == Kind.OUT_OF_MEMORY


def test_intended_end_wins_over_the_signals_that_carry_it_out() -> None:
    why = cause(Kind.JOB_FINISHED, "job ended")
    for end in (seen(signal.SIGKILL), seen(signal.SIGTERM), seen(exit_code=1)):
        final = resolve(why, end)
        assert (final.kind, final.message, final.pid) == (Kind.JOB_FINISHED, "job ended", 42)


def test_a_crash_wins_over_what_was_intended() -> None:
    assert resolve(cause(Kind.INTENDED, "idle"), seen(signal.SIGSEGV)).kind == Kind.SIGNALED
    assert resolve(None, seen(signal.SIGKILL)).kind == Kind.SIGNALED


def test_known_cause_is_answered_at_once_and_a_later_one_when_it_comes() -> None:
    table = DeathTable(10)
    answers: list[Cause | None] = []
    table.ask(b"w1", answers.append, until=2.0)
    assert answers == []
    table.record(b"w1", seen(9))
    table.ask(b"w1", answers.append, until=None)
    assert [a.signal for a in answers if a] == [9, 9]


def test_those_who_wait_too_long_or_ask_for_strangers_get_nothing() -> None:
    table = DeathTable(10)
    answers: list[Cause | None] = []
    table.ask(b"w1", answers.append, until=2.0)
    table.ask(b"w1", answers.append, until=5.0)
    table.ask(b"stranger", answers.append, until=None)
    table.expire(2.0)
    assert answers == [None, None]
    table.record(b"w1", seen(9))
    assert len(answers) == 3


def test_the_table_is_bounded_in_entries_and_in_bytes() -> None:
    table = DeathTable(2)
    for name in (b"a", b"b", b"c"):
        end = seen(9)
        end.error = b"x" * (MAX_ERROR_BYTES + 1)
        table.record(name, end)
    answers: list[Cause | None] = []
    for name in (b"a", b"c"):
        table.ask(name, answers.append, until=None)
    assert len(table) == 2
    assert answers[0] is None
    assert answers[1] is not None
    assert answers[1].error == b""
