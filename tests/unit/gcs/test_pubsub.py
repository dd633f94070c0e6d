"""No publication is lost unnoticed: a subscriber gets each one, or is told to resynchronize."""

import pytest
from aktis._proto import gcs_pb2
from aktisd.gcs.errors import RequestError
from aktisd.gcs.limits import Limits
from aktisd.gcs.pubsub import TERM_SHIFT, PubSub
from hypothesis import given
from hypothesis import strategies as st

LIMITS = Limits(channel_items=4)


def publish(pubsub: PubSub, number: int, channel: str = "actors", size: int = 0) -> None:
    key = number.to_bytes(4, "big")
    actor = gcs_pb2.Actor(restarts=number, pending_reason="x" * size)
    pubsub.publish(gcs_pb2.Publication(channel=channel, key=key, actor=actor))


def test_new_subscriber_resynchronizes_then_follows() -> None:
    pubsub = PubSub(LIMITS, term=1)
    publish(pubsub, 1)
    subscription = pubsub.subscribe("actors", 0)
    (first,) = subscription.take(10)
    assert first.resynchronize
    assert first.sequence == (1 << TERM_SHIFT) + 1
    assert subscription.take(10) == []
    publish(pubsub, 2)
    publish(pubsub, 3)
    assert subscription.behind == 2
    items = subscription.take(10)
    assert [item.sequence - first.sequence for item in items] == [1, 2]


def test_resume_where_it_was() -> None:
    pubsub = PubSub(LIMITS, term=1)
    before = pubsub.subscribe("actors", 0)
    position = before.take(1)[0].sequence
    publish(pubsub, 1)
    resumed = pubsub.subscribe("actors", position)
    assert [item.actor.restarts for item in resumed.take(10)] == [1]


def test_too_slow_is_told() -> None:
    pubsub = PubSub(LIMITS, term=1)
    subscription = pubsub.subscribe("actors", 0)
    subscription.take(1)
    for number in range(5):
        publish(pubsub, number)
    (item,) = subscription.take(10)
    assert item.resynchronize
    assert subscription.take(10) == []


def test_ring_is_bounded_in_bytes() -> None:
    pubsub = PubSub(Limits(channel_bytes=10_000), term=1)
    subscription = pubsub.subscribe("actors", 0)
    subscription.take(1)
    publish(pubsub, 1, size=6_000)
    publish(pubsub, 2, size=6_000)
    assert subscription.take(10)[0].resynchronize


def test_position_of_another_term_is_not_resumed() -> None:
    old, new = PubSub(LIMITS, term=1), PubSub(LIMITS, term=2)
    publish(old, 1)
    position = old.subscribe("actors", 0).take(1)[0].sequence
    for _ in range(2):
        assert new.subscribe("actors", position).take(1)[0].resynchronize
        publish(new, 2)
    future = new.subscribe("actors", 3 << TERM_SHIFT)
    assert future.take(1)[0].resynchronize


def test_keyed_subscriber_sees_only_its_key() -> None:
    pubsub = PubSub(LIMITS, term=1)
    subscription = pubsub.subscribe("actors", 0, key=(7).to_bytes(4, "big"))
    subscription.take(1)
    publish(pubsub, 6)
    publish(pubsub, 7)
    publish(pubsub, 8)
    assert [item.actor.restarts for item in subscription.take(10)] == [7]
    assert subscription.behind == 0


def test_channels_are_apart() -> None:
    pubsub = PubSub(LIMITS, term=1)
    subscription = pubsub.subscribe("jobs", 0)
    subscription.take(1)
    publish(pubsub, 1, channel="nodes")
    assert subscription.take(10) == []
    with pytest.raises(RequestError, match="no channel"):
        pubsub.subscribe("absent", 0)


@given(st.lists(st.one_of(st.just("publish"), st.just("resume"), st.integers(1, 3)), max_size=60))
def test_nothing_is_missed_unnoticed(steps: list[str | int]) -> None:
    pubsub = PubSub(LIMITS, term=3)
    subscription = pubsub.subscribe("actors", 0)
    published, known = 0, 0
    for step in [*steps, 1_000]:
        if step == "publish":
            published += 1
            publish(pubsub, published)
        elif step == "resume":
            subscription = pubsub.subscribe("actors", subscription.position)
        else:
            for item in subscription.take(int(step)):
                if item.resynchronize:
                    known = published
                else:
                    assert item.actor.restarts == known + 1
                    known += 1
    assert known == published
