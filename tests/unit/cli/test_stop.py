"""`aktis stop` ends exactly the process of the record."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from aktis._common.paths import current_cluster_file
from aktis._common.records import start_ticks
from aktis._common.sessions import CurrentCluster
from aktis.cli.stop import command
from click.testing import CliRunner

DEAF = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def _base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "aktis").mkdir()


def record(process: subprocess.Popen[str], ticks_off: int = 0) -> None:
    ticks = start_ticks(process.pid)
    assert ticks is not None
    CurrentCluster("/session", process.pid, ticks + ticks_off).write(current_cluster_file())


def test_the_recorded_process_is_stopped() -> None:
    with subprocess.Popen(["sleep", "1000"], text=True) as process:
        record(process)
        result = CliRunner().invoke(command, ["--json"])
        assert process.wait(10) == -15
    assert json.loads(result.output) == {"stopped": True, "session_dir": "/session"}


def test_a_process_that_only_has_the_same_pid_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "1000"], text=True) as process:
        record(process, ticks_off=-1)
        result = CliRunner().invoke(command, [])
        assert process.poll() is None
        process.kill()
    assert result.output == "No cluster is running.\n"
    assert not current_cluster_file().exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_deaf_process_is_killed_only_by_force(force: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aktis.cli.stop._KILL_TIMEOUT_S", 0.2)
    arguments = [sys.executable, "-c", DEAF]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        record(process)
        result = CliRunner().invoke(command, ["--timeout", "0.1", *(["--force"] if force else [])])
        if force:
            assert process.wait(10) == -9
        else:
            assert process.poll() is None
        process.kill()
    assert result.exit_code == (0 if force else 1)
    assert force or "does not stop within 0.1 s" in result.output
