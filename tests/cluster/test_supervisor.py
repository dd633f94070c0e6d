"""The supervisor with real processes, over daemons that misbehave as told."""

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aktis._common.paths import SessionPaths
from aktis._common.records import DaemonRecord

from tests.support.sandbox import Sandbox, wait_for_exit

ROOT = Path(__file__).resolve().parents[2]
DAEMONS = ("raylet", "plasma", "gcs")


@dataclass
class Started:
    """A supervisor over fake daemons, and the pipe on which it reports."""

    process: subprocess.Popen[bytes]
    paths: SessionPaths
    ready_fd: int

    def report(self, timeout_s: float = 20.0) -> dict[str, Any]:
        poller = select.poll()
        poller.register(self.ready_fd, select.POLLIN)
        assert poller.poll(timeout_s * 1000), "no report"
        with os.fdopen(self.ready_fd) as file:
            return dict(json.loads(file.readline()))

    def record(self, name: str) -> DaemonRecord:
        record = DaemonRecord.read(self.paths.daemon_record(name))
        assert record is not None
        return record


def start(
    sandbox: Sandbox, behaviours: dict[str, dict[str, object]], *more: str, pass_fds: tuple[int, ...] = ()
) -> Started:
    paths = SessionPaths.in_session(sandbox.base / "aktis" / "s-00000000")
    paths.root.mkdir(parents=True)
    ready_read, ready_write = os.pipe()
    command = [sys.executable, "-m", "tests.support.fake_daemons", json.dumps(behaviours)]
    command += ["--session-dir", str(paths.root), "--ready-fd", str(ready_write), *more]
    process = subprocess.Popen(
        command, cwd=ROOT, env=sandbox.env, pass_fds=(ready_write, *pass_fds), stderr=subprocess.DEVNULL
    )
    os.close(ready_write)
    return Started(process, paths, ready_read)


def stops(sandbox: Sandbox) -> list[str]:
    """Return the daemons that were asked to stop, in order, and forget it."""
    path = sandbox.base / "stops"
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def test_start_and_stop_in_order(sandbox: Sandbox) -> None:
    started = start(sandbox, {})
    report = started.report()
    assert report["status"] == "ready"
    assert started.record("supervisor").state == "running"
    assert [daemon["name"] for daemon in report["daemons"]] == list(DAEMONS)
    titles = {process.command for process in sandbox.processes()}
    assert {"aktis-raylet", "aktis-plasma", "aktis-gcs"} <= titles
    groups = {os.getpgid(daemon["pid"]) for daemon in report["daemons"]}
    assert groups == {daemon["pid"] for daemon in report["daemons"]}
    started.process.terminate()
    assert started.process.wait(10) == 0
    assert stops(sandbox) == list(DAEMONS)


@pytest.mark.parametrize("name", DAEMONS)
def test_a_killed_daemon_comes_back_in_a_new_epoch(sandbox: Sandbox, name: str) -> None:
    started = start(sandbox, {})
    started.report()
    before = {daemon: started.record(daemon) for daemon in DAEMONS}
    os.mkfifo(sandbox.base / "starts")
    os.kill(before[name].pid, signal.SIGKILL)
    with (sandbox.base / "starts").open() as starts:
        again, epoch, pid = starts.readline().split()
    assert (again, epoch) == (name, "2")
    assert int(pid) == started.record(name).pid != before[name].pid
    assert all(started.record(other) == before[other] for other in DAEMONS if other != name)
    started.process.terminate()
    assert started.process.wait(10) == 0
    (sandbox.base / "starts").unlink()
    stops(sandbox)


def test_a_refusal_is_reported_with_its_reason(sandbox: Sandbox) -> None:
    started = start(sandbox, {"plasma": {"refuse": "plasma.x: the moon is full: wait"}})
    report = started.report()
    assert report["status"] == "error"
    assert report["daemon"] == "plasma"
    assert report["message"] == "plasma.x: the moon is full: wait"
    assert "aktis-plasma: error: plasma.x: the moon is full: wait" in report["log"]
    assert started.process.wait(10) == 2
    stops(sandbox)


def test_a_daemon_that_keeps_dying_ends_the_start_with_its_last_words(sandbox: Sandbox) -> None:
    settings = json.dumps({"supervisor.restart_limit": 2, "supervisor.restart_delay_ms": 1})
    started = start(sandbox, {"gcs": {"die": 7}}, "--settings", settings)
    report = started.report()
    assert report["daemon"] == "gcs"
    assert "exited with status 7, 3 times" in report["message"]
    assert report["log"].count("last words") == 3
    assert started.process.wait(10) == 1
    stops(sandbox)


def test_daemons_that_do_not_react_are_killed_in_time(sandbox: Sandbox) -> None:
    settings = json.dumps({"supervisor.stop_timeout_s": 2})
    started = start(sandbox, {"raylet": {"deaf": True}}, "--settings", settings)
    started.report()
    started.process.terminate()
    assert started.process.wait(10) == 0
    assert stops(sandbox) == list(DAEMONS)


def test_orphans_end_with_the_supervisor(sandbox: Sandbox) -> None:
    started = start(sandbox, {"raylet": {"orphan": True}})
    started.report()
    assert [process for process in sandbox.processes() if process.command == "sleep 1000"]
    started.process.terminate()
    assert started.process.wait(10) == 0
    stops(sandbox)


def test_everything_ends_when_the_parent_is_killed(sandbox: Sandbox) -> None:
    parent = subprocess.Popen(["sleep", "1000"])
    parent_fd = os.pidfd_open(parent.pid)
    started = start(
        sandbox, {"raylet": {"orphan": True}}, "--parent-fd", str(parent_fd), pass_fds=(parent_fd,)
    )
    os.close(parent_fd)
    started.report()
    parent.kill()
    parent.wait()
    assert started.process.wait(10) == 0
    assert stops(sandbox) == list(DAEMONS)


def test_everything_ends_when_the_parents_pipe_closes(sandbox: Sandbox) -> None:
    read_end, write_end = os.pipe()
    started = start(sandbox, {}, "--parent-fd", str(read_end), pass_fds=(read_end,))
    os.close(read_end)
    started.report()
    os.close(write_end)
    assert started.process.wait(10) == 0
    stops(sandbox)


def test_daemons_stop_when_the_supervisor_is_killed(sandbox: Sandbox) -> None:
    started = start(sandbox, {})
    pids = [daemon["pid"] for daemon in started.report()["daemons"]]
    started.process.kill()
    started.process.wait()
    for pid in pids:
        assert wait_for_exit(pid, 5)
    assert sorted(stops(sandbox)) == sorted(DAEMONS)
    assert sandbox.processes() == []
    sandbox.remove_sessions()  # a killed supervisor cannot; the next cluster's start sweeps it


def test_a_wrong_setting_stops_the_start(sandbox: Sandbox) -> None:
    started = start(sandbox, {}, "--settings", '{"raylet.num_cpus": "many"}')
    report = started.report()
    assert report["status"] == "error"
    assert "raylet.num_cpus: expected a valid number" in report["message"]
    assert started.process.wait(10) == 2
    sandbox.remove_sessions()
