"""Readiness messages carry the sender that the kernel saw."""

import os
from pathlib import Path

from aktis._common.notify import Notifier
from aktisd.supervisor.notifications import NotifySocket, parse


def test_messages_arrive_with_the_senders_pid(tmp_path: Path) -> None:
    receiver = NotifySocket(tmp_path / "n.sock")
    sender = Notifier(str(tmp_path / "n.sock"))
    assert sender.send(READY="1", STATUS="serving")
    (notification,) = receiver.receive()
    assert notification.pid == os.getpid()
    assert notification.fields == {"READY": "1", "STATUS": "serving"}
    assert receiver.receive() == []
    sender.close()
    receiver.close()
    assert not (tmp_path / "n.sock").exists()


def test_parse_ignores_what_is_no_assignment() -> None:
    assert parse(b"READY=1\nnonsense\nSTATUS=a=b\n\xff") == {"READY": "1", "STATUS": "a=b"}
