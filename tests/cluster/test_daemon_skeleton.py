"""The skeleton of a daemon as a real process: readiness, signals, records, exit statuses and messages."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aktis._common.paths import SessionPaths, new_token, write_token
from aktis._common.records import DaemonRecord

from tests.support.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def session(sandbox: Sandbox) -> Iterator[SessionPaths]:
    paths = SessionPaths.in_session(sandbox.base / "aktis" / "s-00000000")
    paths.create()
    write_token(paths.token_file, new_token())
    yield paths
    sandbox.remove_sessions()


class Running:
    """A daemon and what it tells its manager."""

    def __init__(self, process: subprocess.Popen[str], manager: socket.socket) -> None:
        self.process = process
        self._manager = manager

    def wait_for(self, message: str) -> None:
        """Wait until the manager has heard a message with this text."""
        while True:
            ready, _, _ = select.select([self._manager], [], [], 20)
            assert ready, f"no {message} within 20 s"
            if message in self._manager.recv(4096).decode():
                return

    def finish(self, timeout_s: float = 20) -> tuple[int, list[dict[str, object]]]:
        """Return the exit status and the lines of the log."""
        _, errors = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, [json.loads(line) for line in errors.splitlines() if line[:1] == "{"]


@contextmanager
def run(sandbox: Sandbox, session: SessionPaths, how: str, *more: str, **env: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "tests.support.service_daemon", how, "--session-dir", str(session.root)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(session.notify_socket))
        environ = {**sandbox.env, "NOTIFY_SOCKET": str(session.notify_socket), **env}
        process = subprocess.Popen(
            [*command, *more],
            cwd=ROOT,
            env=environ,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield Running(process, manager)
        finally:
            process.kill()
            process.communicate()


def refused(sandbox: Sandbox, session: SessionPaths, how: str, *more: str, **env: str) -> str:
    """Run a daemon that cannot start; return what it says besides its log."""
    command = [sys.executable, "-m", "tests.support.service_daemon", how, "--session-dir", str(session.root)]
    environ = {**sandbox.env, **env}
    result = subprocess.run(
        [*command, *more], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines(keepends=True) if line[:1] != "{"]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("aktis-plasma: error: ")
    return lines[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_life(sandbox: Sandbox, session: SessionPaths, number: signal.Signals) -> None:
    with run(sandbox, session, "serve") as daemon:
        daemon.wait_for("READY=1")
        record = DaemonRecord.read(session.daemon_record("plasma"))
        assert record is not None
        assert (record.pid, record.epoch, record.state) == (daemon.process.pid, 1, "running")
        assert record.grpc_address == "unix:/nowhere"
        with urllib.request.urlopen(f"http://{record.metrics_address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        assert "aktis_plasma_loop_lag_seconds" in text
        assert "aktis_plasma_epoch 1.0" in text
        assert "process_resident_memory_bytes" in text
        daemon.process.send_signal(number)
        status, log = daemon.finish()
    assert status == 0
    assert [line["event"] for line in log] == ["daemon_running", "daemon_stopping", "service_stop"]
    assert not session.daemon_record("plasma").exists()


def test_epochs_grow_and_a_dead_record_is_no_obstacle(sandbox: Sandbox, session: SessionPaths) -> None:
    for epoch in (1, 2):
        with run(sandbox, session, "serve") as daemon:
            daemon.wait_for("READY=1")
            record = DaemonRecord.read(session.daemon_record("plasma"))
            assert record is not None
            assert record.epoch == epoch
            daemon.process.kill()
            daemon.finish()
        session.notify_socket.unlink()


def test_a_second_signal_ends_the_wait_for_a_stop(sandbox: Sandbox, session: SessionPaths) -> None:
    with run(sandbox, session, "hang", "--set", "supervisor.stop_timeout_s=1000") as daemon:
        daemon.wait_for("READY=1")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for("STOPPING=1")
        daemon.process.send_signal(signal.SIGTERM)
        status, log = daemon.finish()
    assert status == 1
    assert log[-1]["event"] == "stop_incomplete"


def test_a_stop_that_hangs_is_cut_off(sandbox: Sandbox, session: SessionPaths) -> None:
    with run(sandbox, session, "hang", "--set", "supervisor.stop_timeout_s=0.1") as daemon:
        daemon.wait_for("READY=1")
        daemon.process.send_signal(signal.SIGTERM)
        status, _ = daemon.finish()
    assert status == 1


def test_a_failing_task_ends_the_daemon_with_its_traceback(sandbox: Sandbox, session: SessionPaths) -> None:
    with run(sandbox, session, "crash") as daemon:
        status, log = daemon.finish()
    assert status == 1
    assert log[-1]["event"] == "daemon_crashed"
    fields = log[-1]["fields"]
    assert isinstance(fields, dict)
    assert "LookupError: lost my way" in fields["exception"]
    assert "service_stop" in [line["event"] for line in log]


def test_reload_and_watchdog(sandbox: Sandbox, session: SessionPaths) -> None:
    with run(sandbox, session, "serve", WATCHDOG_USEC="100000") as daemon:
        daemon.wait_for("READY=1")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("WATCHDOG=1")
        daemon.wait_for("WATCHDOG=1")
        daemon.process.terminate()
        status, log = daemon.finish()
    assert status == 0
    assert "service_reload" in [line["event"] for line in log]


def test_a_second_daemon_leaves_the_first_alone(sandbox: Sandbox, session: SessionPaths) -> None:
    with run(sandbox, session, "serve") as daemon:
        daemon.wait_for("READY=1")
        before = session.daemon_record("plasma").read_bytes()
        message = refused(sandbox, session, "serve")
        assert f"already runs in {session.root} as process {daemon.process.pid}" in message
        assert session.daemon_record("plasma").read_bytes() == before
        daemon.process.terminate()
        assert daemon.finish()[0] == 0


def test_refusals_are_one_line(sandbox: Sandbox, session: SessionPaths) -> None:
    assert refused(sandbox, session, "taken").endswith("plasma.grpc_address: taken: choose another\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        message = refused(sandbox, session, "serve", "--set", f"plasma.metrics_address={address}")
    assert f"plasma.metrics_address: cannot listen on {address}: Address already in use" in message
    assert "expected KEY=VALUE" in refused(sandbox, session, "serve", "--set", "nonsense")
    message = refused(sandbox, session, "serve", AKTIS_PLASMA_POPULATE="perhaps")
    assert "environment AKTIS_PLASMA_POPULATE: plasma.populate: expected a valid boolean" in message
    session.token_file.chmod(0o644)
    assert f"chmod 600 {session.token_file}" in refused(sandbox, session, "serve")
    session.token_file.unlink()
    assert f"{session.token_file}: No such file or directory" in refused(sandbox, session, "serve")
    assert not session.daemon_record("plasma").exists()


def test_a_directory_that_cannot_be_written_is_named(sandbox: Sandbox, session: SessionPaths) -> None:
    # A file in place of the directory: even root cannot write there.
    blocked = sandbox.base / "aktis" / "s-file"
    blocked.touch()
    message = refused(sandbox, SessionPaths.in_session(blocked), "serve")
    assert str(blocked) in message
    assert "check that it exists and that this user may read and write it" in message
    blocked.unlink()
    os.makedirs(session.state_dir / "plasma.epoch")
    assert "plasma.epoch: Is a directory" in refused(sandbox, session, "serve")
