"""The readiness protocol's sending side."""

import os
import socket
from pathlib import Path

import pytest
from aktis._common.notify import Notifier, watchdog_period_s


@pytest.mark.parametrize("abstract", [False, True])
def test_fields_arrive_as_one_message(tmp_path: Path, abstract: bool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        if abstract:
            name = f"aktis-test-{os.getpid()}"
            receiver.bind("\0" + name)
            address = "@" + name
        else:
            address = str(tmp_path / "n")
            receiver.bind(address)
        notifier = Notifier.from_environ({"NOTIFY_SOCKET": address})
        assert notifier.send(READY="1", STATUS="up")
        assert receiver.recv(100) == b"READY=1\nSTATUS=up"
        notifier.close()
        assert not notifier.send(READY="1")


def test_without_a_manager_nothing_happens() -> None:
    assert not Notifier.from_environ({}).send(READY="1")


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "n"))
        notifier = Notifier(str(tmp_path / "n"))
    assert not notifier.send(READY="1")
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "period_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_watchdog_period(environ: dict[str, str], period_s: float | None) -> None:
    assert watchdog_period_s(environ) == period_s
