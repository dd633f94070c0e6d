"""The progress display: values as they are ready, a bar in terminals, lines in logs."""

import io
from collections.abc import Iterator

import aktis
import pytest
from aktis.util.progress import LogLines, progress

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("util")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@aktis.remote
def square(number: int) -> int:
    if number > 100:
        raise ValueError(number)
    return number * number


def test_values_and_a_last_line() -> None:
    log = io.StringIO()
    assert sorted(progress([square.remote(n) for n in range(5)], "squares", file=log)) == [0, 1, 4, 9, 16]
    assert log.getvalue().startswith("squares: 5 of 5 in ")
    assert log.getvalue().count("\n") == 1


def test_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    assert sorted(progress([square.remote(n) for n in range(3)], "[squares]", file=terminal)) == [0, 1, 4]
    assert "[squares]" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


def test_other_things_than_references_are_passed_on() -> None:
    log = io.StringIO()
    assert list(progress(iter("abc"), "letters", file=log)) == ["a", "b", "c"]
    assert log.getvalue().startswith("letters: 3 in ")
    assert list(progress(["a", "b"], total=7, file=log)) == ["a", "b"]
    assert "tasks: 2 of 7 in " in log.getvalue()
    assert list(progress([], file=log)) == []


def test_an_error_ends_the_display() -> None:
    log = io.StringIO()
    with pytest.raises(ValueError, match="101"):
        list(progress([square.remote(101)], file=log))
    assert "tasks: 0 of 1 in " in log.getvalue()
    assert "ended by" in log.getvalue()


def test_lines_come_at_intervals_with_the_time_that_is_left() -> None:
    log = io.StringIO()
    now_s = 100.0
    with LogLines("work", 200, log, 10.0, lambda: now_s) as lines:
        for _ in range(50):
            now_s += 1
            lines.advance()
        now_s += 4000
    assert log.getvalue().splitlines() == [
        "work: 10 of 200 after 10.0 s, 1 per second, 3:10 min left",
        "work: 20 of 200 after 20.0 s, 1 per second, 3:00 min left",
        "work: 30 of 200 after 30.0 s, 1 per second, 2:50 min left",
        "work: 40 of 200 after 40.0 s, 1 per second, 2:40 min left",
        "work: 50 of 200 after 50.0 s, 1 per second, 2:30 min left",
        "work: 50 of 200 in 1:07:30",
    ]
