"""What a caller concludes from news about actors that may be late, repeated, or in the wrong order."""

import pytest
from aktis._runtime.actor_table import (
    ActorTable,
    Connect,
    Die,
    Effect,
    FailCall,
    Inquire,
    Pause,
    Resubmit,
    Stage,
)
from hypothesis import given
from hypothesis import strategies as st

ACTOR = b"a" * 16
FIRST, SECOND = b"1" * 16, b"2" * 16
CALL = b"c" * 16


@pytest.fixture
def table() -> ActorTable:
    made = ActorTable()
    assert made.track(ACTOR)
    return made


def alive(table: ActorTable, incarnation: int = 1, worker: bytes = FIRST) -> list[Effect]:
    return table.heard(ACTOR, incarnation, Stage.ALIVE, worker, "unix:/a")


def test_an_actor_that_comes_to_life_is_connected(table: ActorTable) -> None:
    assert table.heard(ACTOR, 0, Stage.PENDING) == [Pause(ACTOR)]
    assert table.heard(ACTOR, 1, Stage.STARTING) == [Pause(ACTOR)]
    assert alive(table) == [Connect(ACTOR, 1, FIRST, "unix:/a")]


def test_old_and_repeated_news_have_no_effect(table: ActorTable) -> None:
    alive(table)
    assert alive(table) == []
    assert table.heard(ACTOR, 1, Stage.STARTING) == []
    assert table.heard(ACTOR, 0, Stage.PENDING) == []


def test_nothing_is_done_for_actors_that_nobody_cares_about(table: ActorTable) -> None:
    assert table.heard(b"x" * 16, 1, Stage.ALIVE, FIRST, "unix:/a") == []


def test_a_restart_pauses_and_the_next_incarnation_connects(table: ActorTable) -> None:
    alive(table)
    assert table.heard(ACTOR, 1, Stage.RESTARTING) == [Pause(ACTOR)]
    assert alive(table, 2, SECOND) == [Connect(ACTOR, 2, SECOND, "unix:/a")]


def test_death_is_final(table: ActorTable) -> None:
    alive(table)
    assert table.heard(ACTOR, 1, Stage.DEAD) == [Die(ACTOR)]
    assert alive(table, 2, SECOND) == []
    assert table.stage(ACTOR) is Stage.DEAD
    assert table.tracked() == []


def test_a_lost_call_waits_for_what_became_of_its_actor(table: ActorTable) -> None:
    alive(table)
    assert table.call_lost(CALL, ACTOR, FIRST, 0) == []
    assert table.heard(ACTOR, 1, Stage.DEAD) == [FailCall(CALL, ACTOR, dead=True), Die(ACTOR)]


def test_a_lost_call_of_a_restarting_actor_fails_as_unavailable(table: ActorTable) -> None:
    alive(table)
    table.call_lost(CALL, ACTOR, FIRST, 0)
    assert table.heard(ACTOR, 1, Stage.RESTARTING) == [FailCall(CALL, ACTOR, dead=False), Pause(ACTOR)]


def test_a_call_that_is_lost_after_the_news_fails_at_once(table: ActorTable) -> None:
    alive(table)
    table.heard(ACTOR, 1, Stage.RESTARTING)
    assert table.call_lost(CALL, ACTOR, FIRST, 0) == [FailCall(CALL, ACTOR, dead=False)]
    table.heard(ACTOR, 1, Stage.DEAD)
    assert table.call_lost(CALL, ACTOR, FIRST, 5) == [FailCall(CALL, ACTOR, dead=True)]


def test_a_call_with_retries_is_sent_again(table: ActorTable) -> None:
    alive(table)
    assert table.call_lost(CALL, ACTOR, FIRST, 1) == [Resubmit(CALL)]
    assert table.call_lost(CALL, ACTOR, FIRST, -1) == [Resubmit(CALL)]


def test_a_broken_connection_is_inquired_about(table: ActorTable) -> None:
    alive(table)
    table.call_lost(CALL, ACTOR, FIRST, 0)
    assert table.connection_lost(ACTOR, FIRST) == [Inquire(ACTOR, FIRST)]
    assert table.process_lives(ACTOR, FIRST) == [
        FailCall(CALL, ACTOR, dead=False),
        Connect(ACTOR, 1, FIRST, "unix:/a"),
    ]


def test_a_broken_connection_that_is_explained_already_is_not(table: ActorTable) -> None:
    alive(table)
    table.heard(ACTOR, 1, Stage.RESTARTING)
    assert table.connection_lost(ACTOR, FIRST) == []
    alive(table, 2, SECOND)
    assert table.connection_lost(ACTOR, FIRST) == []
    assert table.process_lives(ACTOR, FIRST) == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("heard"), st.integers(0, 3), st.sampled_from(list(Stage)[1:])),
            st.tuples(st.just("lost"), st.integers(0, 3), st.just(Stage.UNKNOWN)),
        ),
        max_size=30,
    )
)
def test_every_lost_call_is_settled_once_when_the_actor_is_dead(
    steps: list[tuple[str, int, Stage]],
) -> None:
    table = ActorTable()
    table.track(ACTOR)
    workers = [bytes([n]) * 16 for n in range(4)]
    lost: list[bytes] = []
    effects: list[Effect] = []
    for number, (kind, incarnation, stage) in enumerate(steps):
        if kind == "heard":
            effects += table.heard(ACTOR, incarnation, stage, workers[incarnation], "unix:/a")
        else:
            lost.append(number.to_bytes(16, "big"))
            effects += table.call_lost(lost[-1], ACTOR, workers[incarnation], 0)
    effects += table.heard(ACTOR, 9, Stage.DEAD)
    assert sorted(effect.task_id for effect in effects if isinstance(effect, FailCall)) == sorted(lost)
    connected = [effect.incarnation for effect in effects if isinstance(effect, Connect)]
    assert connected == sorted(set(connected))  # never back to an older incarnation
