"""Collective groups: what goes wrong in one moment or in one thread."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from aktis.util.collective import mesh
from aktis.util.collective.errors import CollectiveError, CollectiveTimeoutError
from aktis.util.collective.rendezvous import Meeting
from aktis.util.collective.tcp import TcpGroup

LONG_S = 60.0


@contextlib.contextmanager
def pair() -> Iterator[tuple[TcpGroup, tuple[socket.socket, socket.socket]]]:
    """Rank 0 of two, and what rank 1 has: its connections for collective operations and for messages."""
    own, other = zip(*[socket.socketpair() for _ in range(2)], strict=True)
    for connection in own:
        connection.setblocking(False)
    try:
        yield TcpGroup(0, 2, {1: own[0]}, {1: own[1]}), other
    finally:
        for connection in (*own, *other):
            connection.close()


def test_a_thread_that_receives_learns_at_once_that_another_one_broke_the_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiving = threading.Event()
    move = mesh._move

    def moved(*arguments: Any) -> None:
        move(*arguments)
        receiving.set()

    with pair() as (group, (_, their_direct)):
        monkeypatch.setattr(mesh, "_move", moved)
        errors: list[Exception] = []

        def receive() -> None:
            try:
                group.receive(np.zeros(8, dtype=np.uint8), 0, 1, LONG_S)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=receive)
        thread.start()
        assert receiving.wait(LONG_S)
        with pytest.raises(CollectiveTimeoutError, match="waited in vain for rank 1"):
            group.barrier(0.01)
        thread.join(LONG_S / 2)
        assert [str(error) for error in errors] == ["waited in vain for rank 1 until the group's timeout"]
        their_direct.settimeout(LONG_S / 2)
        assert their_direct.recv(1) == b"", "closed by whoever left last"
        with pytest.raises(CollectiveError, match="waited in vain"):
            group.barrier(LONG_S)


def test_a_member_that_turns_away_while_it_is_greeted_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = socket.socketpair()
    ends[1].close()
    monkeypatch.setattr(socket, "create_connection", lambda *_: ends[0])
    with pytest.raises(CollectiveError, match=r"a member at 10\.0\.0\.1:99 cannot be reached"):
        mesh._dial(("10.0.0.1", 99), b"hello", time.monotonic() + LONG_S)
    assert ends[0].fileno() == -1


def test_who_is_answered_when_its_time_is_up_is_told_what_the_others_are() -> None:
    async def play() -> None:
        meeting = Meeting()
        async with asyncio.TaskGroup() as group:
            # Its time is up in the loop's next turn, and the last member comes in this one.
            first = group.create_task(meeting.exchange("stage", 2, 0, "a", 0.0))
            second = group.create_task(meeting.exchange("stage", 2, 1, "b", LONG_S))
        assert second.result()[0] == "all"
        assert first.result() == second.result()

    asyncio.run(play())
