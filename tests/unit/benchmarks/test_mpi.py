"""The members under ``mpirun``: whatever they say, they are gone afterwards."""

import os
import sys
from pathlib import Path

import pytest

from benchmarks.systems import mpi


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a program may be put that stands for ``mpirun``."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return tmp_path / "mpirun"


def write(launcher: Path, script: str) -> None:
    launcher.write_text(f"#!/bin/sh\necho $$ > {launcher.parent}/pid\n{script}\n")
    launcher.chmod(0o755)


def has_ended(launcher: Path) -> bool:
    try:
        os.kill(int((launcher.parent / "pid").read_text()), 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("script", "end_timeout_s", "message"),
    [
        ("echo a warning; while read line; do :; done; exit 3", 30, "a warning.*exit status 3"),
        ("exit 4", 30, "b'' instead of.*exit status 4"),
        ("echo a warning; exec sleep 1000", 0.1, "a warning.*exit status -15"),
        ("trap '' TERM; echo a warning; exec sleep 1000", 0.1, "a warning.*exit status -9"),
    ],
)
def test_members_that_say_something_else_are_ended(
    launcher: Path, script: str, end_timeout_s: float, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mpi, "END_TIMEOUT_S", end_timeout_s)
    write(launcher, script)
    with pytest.raises(ConnectionError, match=message):
        mpi._allreduce(8, 1, 1)
    assert has_ended(launcher)


def test_members_that_do_not_end_are_ended(launcher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpi, "END_TIMEOUT_S", 0.1)
    write(launcher, "echo ready; exec sleep 1000")
    load = mpi._allreduce(8, 1, 1)
    load.close()
    assert has_ended(launcher)
