"""A node asks its processes, waits until a deadline, and keeps to the limit."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aktis._proto import common_pb2, raylet_pb2, snapshot_pb2
from aktisd.raylet import log_files, snapshots
from aktisd.raylet.process_book import ProcessBook
from aktisd.raylet.snapshots import Snapshots


@dataclass
class Process:
    worker_id: bytes
    pid: int
    sent: list[raylet_pb2.RayletMessage] = field(default_factory=list)

    def send_message(self, message: raylet_pb2.RayletMessage) -> None:
        self.sent.append(message)

    def asked(self) -> snapshot_pb2.TakeSnapshot:
        (message,) = self.sent
        return message.take_snapshot


class Node:
    """The shell of the raylet as far as snapshots need it."""

    def __init__(self, log_dir: Path, *processes: Process) -> None:
        self.answers: list[snapshot_pb2.NodeSnapshot] = []
        self.deadlines: list[tuple[float, Callable[[], None]]] = []
        self.book = ProcessBook(10, str(log_dir), lambda: 5)
        environment = snapshot_pb2.EnvironmentSnapshot(hash="e")
        self.snapshots = Snapshots(
            snapshot_pb2.NodeSnapshot(node_id=b"n", ip="1.2.3.4"),
            log_dir,
            lambda: processes,
            self.book,
            lambda: [environment],
            self.answers.append,
            lambda delay_s, action: self.deadlines.append((delay_s, action)),
            self.aside,
        )

    def aside(self, blocking: Callable[[], None], then: Callable[[], None]) -> None:
        thread = threading.Thread(target=blocking)
        thread.start()
        thread.join()
        then()


def tasks(number: int, count: int) -> snapshot_pb2.ProcessSnapshot:
    one = snapshot_pb2.TaskSnapshot(name="f")
    return snapshot_pb2.ProcessSnapshot(round=number, tasks=[one] * count)


def test_the_answer_comes_when_all_have_answered(tmp_path: Path) -> None:
    first, second = Process(b"a", 1), Process(b"b", 2)
    node = Node(tmp_path, first, second)
    node.snapshots.take(snapshot_pb2.TakeSnapshot(round=7, limit=5, tasks=True, timeout_ms=2000))
    assert first.asked().limit == 5
    assert first.asked().tasks
    assert not first.asked().objects
    assert node.deadlines[0][0] == 2
    node.snapshots.answered(first, True, tasks(first.asked().round, 1))
    assert node.answers == []
    node.snapshots.answered(second, False, tasks(second.asked().round, 2))
    (answer,) = node.answers
    assert (answer.round, answer.node_id, answer.ip, list(answer.silent)) == (7, b"n", "1.2.3.4", [])
    assert [(one.pid, one.is_driver, len(one.tasks)) for one in answer.processes] == [
        (1, True, 1),
        (2, False, 2),
    ]
    node.deadlines[0][1]()
    assert len(node.answers) == 1


def test_who_does_not_answer_is_named_and_who_leaves_is_not(tmp_path: Path) -> None:
    silent, leaving, stranger = Process(b"a", 11), Process(b"b", 22), Process(b"c", 33)
    node = Node(tmp_path, silent, leaving)
    node.snapshots.take(snapshot_pb2.TakeSnapshot(limit=5, objects=True))
    node.snapshots.answered(stranger, False, tasks(silent.asked().round, 1))
    node.snapshots.gone(b"b")
    assert node.answers == []
    node.deadlines[0][1]()
    (answer,) = node.answers
    assert list(answer.silent) == ["worker 61 (pid 11)"]
    assert list(answer.processes) == []
    node.snapshots.answered(silent, False, tasks(silent.asked().round, 1))
    assert list(answer.processes) == []


def test_records_of_all_processes_together_are_bounded(tmp_path: Path) -> None:
    processes = [Process(bytes([number]), number) for number in range(1, 4)]
    node = Node(tmp_path, *processes)
    node.snapshots.take(snapshot_pb2.TakeSnapshot(limit=10, tasks=True))
    for process in processes:
        node.snapshots.answered(process, False, tasks(process.asked().round, 8))
    (answer,) = node.answers
    assert [len(one.tasks) for one in answer.processes] == [8, 8, 4]
    assert [one.left_off for one in answer.processes] == [0, 0, 4]


def test_a_process_may_say_that_it_left_off_more_than_can_be_counted(tmp_path: Path) -> None:
    process = Process(b"a", 1)
    node = Node(tmp_path, process)
    node.snapshots.take(snapshot_pb2.TakeSnapshot(limit=1, tasks=True))
    answer = tasks(process.asked().round, 9)
    answer.left_off = 2**64 - 1
    node.snapshots.answered(process, False, answer)
    assert node.answers[0].processes[0].left_off == 2**64 - 1


def test_bytes_of_all_processes_together_are_bounded(tmp_path: Path) -> None:
    processes = [Process(bytes([number]), number) for number in range(1, 4)]
    node = Node(tmp_path, *processes)
    node.snapshots.take(snapshot_pb2.TakeSnapshot(limit=10, tasks=True))
    for process in processes:
        said = tasks(process.asked().round, 1)
        said.tasks[0].name = "n" * (snapshots.MAX_BYTES * 2 // 5)
        node.snapshots.answered(process, False, said)
    (answer,) = node.answers
    assert [(len(one.tasks), one.left_off) for one in answer.processes] == [(1, 0), (1, 0), (0, 1)]


def test_what_the_node_knows_itself_is_answered_at_once(tmp_path: Path) -> None:
    process = Process(b"a", 1)
    node = Node(tmp_path, process)
    for number in range(3):
        node.book.joined(bytes([number]), number, is_driver=number == 0)
    node.snapshots.take(snapshot_pb2.TakeSnapshot(limit=2, workers=True, environments=True))
    (answer,) = node.answers
    assert process.sent == []
    assert [one.pid for one in answer.workers] == [0, 1]
    assert answer.left_off == 1
    assert [one.hash for one in answer.environments] == ["e"]


def test_the_book_remembers_the_last_dead(tmp_path: Path) -> None:
    now_ms = iter(range(1, 100))
    book = ProcessBook(2, str(tmp_path), lambda: next(now_ms))
    for number in range(4):
        book.joined(bytes([number]), number, is_driver=False, stdout_path=f"{tmp_path}/workers/w.out")
    book.became_actor(b"\1", b"actor")
    book.became_actor(b"stranger", b"actor")
    for number in (0, 1, 2):
        cause = common_pb2.DeathCause(
            kind=common_pb2.DeathCause.EXITED, exit_code=number, message="it " * 9999
        )
        book.ended(bytes([number]), cause)
    book.ended(b"stranger", common_pb2.DeathCause())
    alive, last, before = book
    assert (alive.pid, alive.is_alive, alive.stdout_file) == (3, True, "workers/w.out")
    assert (last.pid, last.is_alive, last.cause.exit_code, last.end_time_unix_ms) == (2, False, 2, 7)
    assert len(last.cause.message) < 5000
    assert (before.pid, before.actor_id) == (1, b"actor")


def test_logs_are_found_and_read_from_their_end(tmp_path: Path) -> None:
    logs = tmp_path / "log"
    (logs / "workers").mkdir(parents=True)
    (logs / "a.log").write_text("one\ntwo\nthree")
    (logs / "workers" / "w.out").write_text("")
    (tmp_path / "token").write_text("secret")
    (logs / "link").symlink_to(tmp_path / "token")
    assert log_files.names(logs) == ["a.log", "link", "workers/w.out"]
    assert log_files.tail(logs, "a.log", 2) == b"two\nthree"
    assert log_files.tail(logs, "a.log", 0) == b"one\ntwo\nthree"
    assert log_files.tail(logs, "workers/w.out", 1) == b""
    for name in ("../token", "link", "none", "workers", str(tmp_path / "token"), "", "a\0b", "x" * 5000):
        assert log_files.tail(logs, name, 1) is None, name


def test_a_long_log_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "MAX_TAIL_BYTES", 5)
    (tmp_path / "a").write_text("0123456789")
    assert log_files.tail(tmp_path, "a", 0) == b"56789"


def test_a_directory_that_is_removed_while_log_files_are_listed_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.log", "going/b.log", "staying/c.log"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    scan = os.scandir

    def removed_just_now(path: str) -> Any:
        if Path(path).name == "going":
            raise FileNotFoundError(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", removed_just_now)
    node = Node(tmp_path)
    node.snapshots.take(snapshot_pb2.TakeSnapshot(round=1, logs=True))
    assert list(node.answers[0].log_files) == ["a.log", "staying/c.log"]
