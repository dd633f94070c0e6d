"""Daemon records and epochs tell one life of a daemon from another."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from aktis._common.records import DaemonRecord, next_epoch, own_record, start_ticks


def test_a_record_survives_the_round_trip_and_knows_that_we_live(tmp_path: Path) -> None:
    record = own_record("gcs", 3)
    record.write(tmp_path / "gcs.json")
    read = DaemonRecord.read(tmp_path / "gcs.json")
    assert read == record
    assert record.is_alive()
    assert (record.pid, record.epoch, record.state) == (os.getpid(), 3, "starting")


def test_a_reused_pid_is_not_the_same_process() -> None:
    record = own_record("gcs", 1)
    assert not replace(record, start_ticks=record.start_ticks - 1).is_alive()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"name": "gcs"}', "\x00"])
def test_a_broken_record_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "gcs.json").write_text(content)
    assert DaemonRecord.read(tmp_path / "gcs.json") is None
    assert DaemonRecord.read(tmp_path / "absent.json") is None


def test_a_zombie_counts_as_gone() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(process.pid) is None
    process.wait()
    assert start_ticks(process.pid) is None


def test_epochs_grow_per_name(tmp_path: Path) -> None:
    assert [next_epoch(tmp_path, "gcs") for _ in range(3)] == [1, 2, 3]
    assert next_epoch(tmp_path, "raylet") == 1


def test_a_damaged_counter_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "gcs.epoch").write_text("what\n")
    with pytest.raises(ValueError, match=r"gcs\.epoch must hold the number of the last start"):
        next_epoch(tmp_path, "gcs")
    assert (tmp_path / "gcs.epoch").read_text() == "what\n"
