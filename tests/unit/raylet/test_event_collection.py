"""Rounds of collecting task events."""

from __future__ import annotations

from aktisd.raylet.event_collection import MAX_ROUNDS, EventCollection


def test_a_round_ends_once_when_all_have_answered_or_gone() -> None:
    done: list[str] = []
    rounds = EventCollection()
    number = rounds.begin([b"a", b"b"], lambda: done.append("x"))
    assert number is not None
    rounds.answered(b"a", number)
    rounds.answered(b"a", number)
    assert done == []
    rounds.gone(b"b")
    assert done == ["x"]
    rounds.expire(number)
    rounds.answered(b"b", number)
    assert done == ["x"]
    assert len(rounds) == 0


def test_a_deadline_ends_only_its_own_round() -> None:
    done: list[int] = []
    rounds = EventCollection()
    first = rounds.begin([b"a"], lambda: done.append(1))
    second = rounds.begin([b"a"], lambda: done.append(2))
    assert first is not None
    assert second is not None
    rounds.expire(second)
    assert done == [2]
    rounds.answered(b"a", first)
    assert done == [2, 1]


def test_without_workers_it_is_over_at_once() -> None:
    done: list[int] = []
    assert EventCollection().begin([], lambda: done.append(1)) is None
    assert done == [1]


def test_too_many_rounds_are_not_begun() -> None:
    rounds = EventCollection()
    for _ in range(MAX_ROUNDS):
        rounds.begin([b"a"], lambda: None)
    done: list[int] = []
    assert rounds.begin([b"a"], lambda: done.append(1)) is None
    assert done == [1]
    assert len(rounds) == MAX_ROUNDS
