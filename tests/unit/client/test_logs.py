"""What workers print, as the driver shows it."""

import io
import sys
import threading

import pytest
from aktis._proto import raylet_pb2
from aktis._runtime.logs import MAX_QUEUED, Printer, format_line, print_batch


def test_a_line_says_who_printed_it() -> None:
    line = raylet_pb2.LogLine(text="hello", pid=7, label="f")
    assert format_line(line, colour=False) == "(f pid=7) hello"
    assert format_line(raylet_pb2.LogLine(text="x", pid=7), colour=False) == "(worker pid=7) x"


def test_a_repeated_line_says_how_often() -> None:
    line = raylet_pb2.LogLine(text="hello", pid=7, label="f", repeats=3)
    assert format_line(line, colour=False).endswith("hello [repeated 3x across cluster]")


def test_colours_tell_processes_apart_and_leave_the_text_alone() -> None:
    line = raylet_pb2.LogLine(text="hello", pid=7, label="f")
    assert format_line(line, colour=True).endswith("m(f pid=7)\x1b[0m hello")
    assert format_line(line, colour=True) == format_line(line, colour=True)


def test_lines_go_where_they_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    batch = raylet_pb2.LogBatch(
        lines=[
            raylet_pb2.LogLine(text="out", pid=1, label="f"),
            raylet_pb2.LogLine(text="err", pid=1, label="f", is_stderr=True),
        ],
        dropped=5,
    )
    print_batch(batch)
    shown = capsys.readouterr()
    assert shown.out == "(f pid=1) out\n"
    assert "(f pid=1) err\n" in shown.err
    assert "5 lines" in shown.err


class SlowReader(io.StringIO):
    """A stream whose reader lets nothing through until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.reads = threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        assert self.reads.wait(20)
        return super().write(text)


def test_a_reader_that_does_not_read_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SlowReader()
    monkeypatch.setattr(sys, "stderr", stream)
    printer = Printer()
    printer.complain("first")
    assert stream.reached.wait(20)
    for number in range(MAX_QUEUED + 5):
        printer.complain(f"number {number}")
    stream.reads.set()
    printer.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "aktis: first"
    assert "aktis: 5 lines were left out" in lines[1]
    assert lines[2:] == [f"aktis: number {number}" for number in range(MAX_QUEUED)]


def test_output_that_the_program_has_closed_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    closed = io.StringIO()
    closed.close()
    printer = Printer()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        printer.show(raylet_pb2.LogBatch(lines=[raylet_pb2.LogLine(text="out", pid=1)]))
        printer.close()
    assert "Traceback" not in capfd.readouterr().err
