"""Fan-out of publications: one subscription upstream, resuming, resynchronization."""

import pytest
from aktis._proto import gcs_pb2
from aktisd.raylet.publications import RING_SIZE, Fanout


def publication(sequence: int) -> gcs_pb2.Publication:
    return gcs_pb2.Publication(channel="actors", sequence=sequence)


class Harness:
    """A fan-out with what went upstream and what each client got."""

    def __init__(self) -> None:
        self.upstream: list[gcs_pb2.ChannelSubscription] = []
        self.fanout = Fanout(self.upstream.append)
        self.got: dict[str, list[tuple[int, bool]]] = {}

    def subscribe(self, who: str, after: int = 0) -> None:
        got = self.got.setdefault(who, [])
        self.fanout.subscribe(who, "actors", after, lambda p: got.append((p.sequence, p.resynchronize)))


def test_one_subscription_upstream_serves_all() -> None:
    h = Harness()
    h.subscribe("a")
    h.subscribe("b")
    h.fanout.publish(publication(1))
    h.fanout.unsubscribe("a")
    h.fanout.publish(publication(2))
    assert [wish.channel for wish in h.upstream] == ["actors"]
    assert h.got == {"a": [(1, False)], "b": [(1, False), (2, False)]}


def test_a_later_client_resynchronizes_first_and_one_that_comes_back_resumes() -> None:
    h = Harness()
    h.subscribe("a")
    for sequence in (1, 2, 3):
        h.fanout.publish(publication(sequence))
    h.subscribe("new")
    h.subscribe("back", after=1)
    h.subscribe("up to date", after=3)
    assert h.got["new"] == [(3, True)]
    assert h.got["back"] == [(2, False), (3, False)]
    assert h.got["up to date"] == []


def test_who_missed_more_than_is_kept_resynchronizes() -> None:
    h = Harness()
    h.subscribe("a")
    for sequence in range(1, RING_SIZE + 10):
        h.fanout.publish(publication(sequence))
    h.subscribe("back", after=3)
    assert h.got["back"] == [(RING_SIZE + 9, True)]


def test_where_to_resume_after_a_break() -> None:
    h = Harness()
    h.subscribe("a")
    h.fanout.publish(publication(7))
    assert [(s.channel, s.after_sequence) for s in h.fanout.subscriptions()] == [("actors", 7)]


def test_unknown_channel() -> None:
    with pytest.raises(ValueError, match="no channel 'x': expected one of actors, errors, jobs, nodes"):
        Harness().fanout.subscribe("a", "x", 0, lambda p: None)
