"""Questions to many at once."""

from __future__ import annotations

from aktis._common.rounds import MAX_ROUNDS, Rounds


def test_a_round_ends_once_when_all_have_answered_or_gone() -> None:
    done: list[str] = []
    rounds = Rounds()
    number = rounds.begin([b"a", b"b"], lambda silent: done.append("x"))
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
    rounds = Rounds()
    first = rounds.begin([b"a"], lambda silent: done.append(1))
    second = rounds.begin([b"a"], lambda silent: done.append(2))
    assert first is not None
    assert second is not None
    rounds.expire(second)
    assert done == [2]
    rounds.answered(b"a", first)
    assert done == [2, 1]


def test_without_anybody_it_is_over_at_once() -> None:
    done: list[int] = []
    assert Rounds().begin([], lambda silent: done.append(1)) is None
    assert done == [1]


def test_too_many_rounds_are_not_begun() -> None:
    rounds = Rounds()
    for _ in range(MAX_ROUNDS):
        rounds.begin([b"a"], lambda silent: None)
    done: list[int] = []
    assert rounds.begin([b"a"], lambda silent: done.append(1)) is None
    assert done == [1]
    assert len(rounds) == MAX_ROUNDS


def test_who_has_not_answered_is_named() -> None:
    done: list[frozenset[bytes]] = []
    rounds = Rounds()
    number = rounds.begin([b"a", b"b", b"c"], done.append)
    assert number is not None
    assert rounds.waits_for(b"a", number)
    assert rounds.answered(b"a", number)
    assert not rounds.answered(b"a", number)
    assert not rounds.answered(b"stranger", number)
    assert not rounds.waits_for(b"a", number)
    rounds.gone(b"b")
    rounds.expire(number)
    assert done == [{b"c"}]
