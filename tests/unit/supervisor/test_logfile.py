"""Log files are limited in size and remember their last lines."""

import os
from pathlib import Path

from aktisd.supervisor.logfile import LogFile


def test_rotation_keeps_one_old_file(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "gcs.log", limit_bytes=10)
    for text in (b"first line\n", b"second\n", b"3rd\n"):
        log.write(text)
    log.close()
    assert (tmp_path / "gcs.log").read_bytes() == b"3rd\n"
    assert (tmp_path / "gcs.log.1").read_bytes() == b"second\n"


def test_an_existing_file_is_continued(tmp_path: Path) -> None:
    for text in (b"a\n", b"b\n"):
        log = LogFile(tmp_path / "gcs.log", limit_bytes=100)
        log.write(text)
        log.close()
    assert (tmp_path / "gcs.log").read_bytes() == b"a\nb\n"


def test_tail_has_the_last_lines_and_the_unfinished_one(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "gcs.log", limit_bytes=10_000, tail_lines=2)
    log.write(b"one\ntw")
    log.write(b"o\nthree\nfo")
    log.close()
    assert log.tail() == ["two", "three", "fo"]


def test_copy_reads_until_the_pipe_is_empty_and_tells_its_end(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "gcs.log", limit_bytes=1_000_000)
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    os.write(write_end, b"x" * 60_000)
    assert log.copy_from(read_end)
    assert (tmp_path / "gcs.log").stat().st_size == 60_000
    assert log.copy_from(read_end)  # nothing there, still open
    os.close(write_end)
    assert not log.copy_from(read_end)
    os.close(read_end)
    log.close()


def test_a_disk_that_refuses_loses_lines_but_keeps_the_tail(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "gcs.log", limit_bytes=1)
    log.write(b"a\n")
    (tmp_path / "gcs.log.1").mkdir()  # the rotation fails
    log.write(b"bc\n")
    log.close()
    assert log.lost_bytes == 3
    assert log.tail() == ["a", "bc"]
