"""What workers take over from their driver."""

import os
import sys
from pathlib import Path

import pytest
from aktis._runtime.job import JobConfig


def test_it_travels() -> None:
    config = JobConfig("space", ["/a", "/b"], "/c", {"A": "1"})
    assert JobConfig.decode(config.encode()) == config


def test_relative_entries_of_the_path_are_the_drivers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "lib", "/abs"])
    config = JobConfig.of_this_process("space", {})
    assert config.sys_path == [f"{tmp_path}/", f"{tmp_path}/lib", "/abs"]
    assert config.cwd == str(tmp_path)


def test_a_worker_adopts_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", ["/own", "/both"])
    monkeypatch.delenv("AKTIS_TEST_JOB", raising=False)
    JobConfig("space", ["/drivers", "/both"], str(tmp_path), {"AKTIS_TEST_JOB": "1"}).adopt()
    assert sys.path == ["/drivers", "/both", "/own"]
    assert os.getcwd() == str(tmp_path)
    assert os.environ.pop("AKTIS_TEST_JOB") == "1"


def test_a_working_directory_that_is_not_here_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", [])
    JobConfig("space", [], "/no/such/directory", {}).adopt()
    assert os.getcwd() == "/"
