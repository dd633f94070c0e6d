"""The board adds up; the command line refuses nonsense."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.wordcount.__main__ import main, parse
from examples.wordcount.progress import MAP, SHUFFLE, ProgressBoard, StageProgress


def test_reports_of_a_stage_add_up() -> None:
    board = ProgressBoard()
    board.add(MAP, StageProgress(documents=2, size_bytes=10))
    board.add(MAP, StageProgress(1, 1, 5, 7, 0.5, 1))
    board.add(SHUFFLE, StageProgress(tasks=1))
    assert board.snapshot() == {MAP: StageProgress(1, 3, 15, 7, 0.5, 1), SHUFFLE: StageProgress(tasks=1)}


def test_a_snapshot_does_not_change_later() -> None:
    board = ProgressBoard()
    board.add(MAP, StageProgress(tasks=1))
    before = board.snapshot()
    board.add(MAP, StageProgress(tasks=1))
    assert before[MAP].tasks == 1


@pytest.mark.parametrize(
    "arguments",
    [["--maps", "0"], ["--partitions", "0"], ["--address", "x", "--num-cpus", "2"], ["--system", "rya"]],
)
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(arguments)
    assert stop.value.code == 2


def test_a_folder_without_sources_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--source", str(tmp_path)]) == 2
    assert "no Python source text" in capsys.readouterr().err
