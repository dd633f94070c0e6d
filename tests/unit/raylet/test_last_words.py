"""What a dead process had sent is handled before its death: it may have said why it ends."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aktis import _core
from aktisd.raylet.control import LAST_WORDS_TIMEOUT_S, Control

WORKER = b"w" * 16


class Owner:
    """The raylet: remembers what it is to do later."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        self.later.append((delay_s, action))

    def metrics_end(self, worker_id: bytes, job_id: bytes) -> None:
        pass

    def submit(self, event: object) -> None:
        pass


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def control(owner: Owner) -> Control:
    return Control(owner, bytes(16))  # type: ignore[arg-type]


class Peer:
    hello = SimpleNamespace(sender=WORKER, pid=1, role=_core.ROLE_WORKER)
    credentials = None


def connect(control: Control) -> Any:
    peer: Any = Peer()
    control.on_open(peer)
    return peer


def test_a_death_waits_until_the_connection_is_read_to_its_end(control: Control, owner: Owner) -> None:
    peer = connect(control)
    heard: list[str] = []
    control.hear_out(WORKER, lambda: heard.append("dead"))
    assert heard == []
    control.on_closed(peer, "closed by peer")
    assert heard == ["dead"]
    for _, action in owner.later:
        action()
    assert heard == ["dead"]


def test_a_death_does_not_wait_for_ever(control: Control, owner: Owner) -> None:
    connect(control)
    heard: list[str] = []
    control.hear_out(WORKER, lambda: heard.append("dead"))
    ((delay_s, action),) = owner.later
    assert delay_s == LAST_WORDS_TIMEOUT_S
    action()
    assert heard == ["dead"]


def test_who_is_not_connected_has_nothing_more_to_say(control: Control, owner: Owner) -> None:
    heard: list[str] = []
    control.hear_out(WORKER, lambda: heard.append("dead"))
    assert heard == ["dead"]
    assert owner.later == []
