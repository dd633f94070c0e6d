"""Embedded clusters end without a trace however their driver ends, and explain a start that fails."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aktis._common.records import DaemonRecord
from aktis._embedded import ClusterStartError, EmbeddedCluster, LaunchOptions, launch
from aktis._find import find_cluster

from tests.support.sandbox import Sandbox, wait_for_exit

SMALL = {"plasma.capacity_bytes": 64 * 2**20, "raylet.num_cpus": 1, "raylet.workers.prestart": 1}
DAEMONS = ("raylet", "plasma", "gcs")

# A driver that starts a cluster, says where, and then does what its argument says.
DRIVER = """
import os, sys, time
from aktis._embedded import LaunchOptions, launch
cluster = launch(LaunchOptions({settings!r}))
if sys.argv[1] == "fork" and os.fork() == 0:
    time.sleep(1000)
print(cluster.paths.root, flush=True)
if sys.argv[1] == "raise":
    raise SystemError("the program failed")
sys.stdin.read()
"""


def start(**settings: object) -> EmbeddedCluster:
    return launch(LaunchOptions({**SMALL, **settings}))


def records(cluster: EmbeddedCluster) -> dict[str, DaemonRecord]:
    found = {name: DaemonRecord.read(cluster.paths.daemon_record(name)) for name in DAEMONS}
    return {name: record for name, record in found.items() if record is not None}


def test_start_and_shutdown(sandbox: Sandbox) -> None:
    cluster = start()
    assert set(records(cluster)) == set(DAEMONS)
    assert all(record.state == "running" for record in records(cluster).values())
    found = find_cluster(cluster.raylet_address)
    assert found is not None
    assert (found.token, found.gcs_address) == (cluster.token, cluster.gcs_address)
    assert find_cluster(None) is None  # an embedded cluster is nobody else's
    cluster.shutdown()
    cluster.shutdown()
    assert not cluster.is_alive()
    sandbox.assert_clean(0)


def test_a_forked_child_cannot_shut_its_parents_cluster_down(sandbox: Sandbox) -> None:
    cluster = start()
    pid = os.fork()
    if pid == 0:
        cluster.shutdown()
        os._exit(0)
    os.waitpid(pid, 0)
    assert cluster.is_alive()
    cluster.shutdown()


def test_nothing_is_left_when_the_driver_is_killed(sandbox: Sandbox) -> None:
    driver = drive(sandbox, "plain")
    driver.kill()
    driver.communicate()
    sandbox.assert_clean(5)


def test_a_fork_that_outlives_the_driver_does_not_keep_the_cluster(sandbox: Sandbox) -> None:
    driver = drive(sandbox, "fork")
    # Both run the same command line; the fork holds every descriptor that the driver held.
    (fork,) = {process.pid for process in sandbox.processes() if "launch(" in process.command} - {driver.pid}
    cluster = [process.pid for process in sandbox.processes() if process.pid not in (fork, driver.pid)]
    driver.kill()
    driver.wait()
    assert all(wait_for_exit(pid, 5) for pid in cluster)
    assert sandbox.sessions == []
    os.kill(fork, signal.SIGKILL)
    driver.communicate()
    sandbox.assert_clean(5)


def test_nothing_is_left_after_an_exception_in_the_driver(sandbox: Sandbox) -> None:
    driver = drive(sandbox, "raise")
    _, errors = driver.communicate(timeout=30)
    assert driver.returncode == 1
    assert "SystemError: the program failed" in errors
    sandbox.assert_clean(5)


def drive(sandbox: Sandbox, how: str) -> subprocess.Popen[str]:
    code = DRIVER.format(settings=SMALL)
    driver = subprocess.Popen(
        [sys.executable, "-c", code, how],
        env=sandbox.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    assert Path(driver.stdout.readline().strip()).is_dir()
    return driver


def test_shutdown_cleans_up_after_a_killed_supervisor(sandbox: Sandbox) -> None:
    cluster = start()
    pids = [record.pid for record in records(cluster).values()]
    os.kill(cluster.supervisor_pid, signal.SIGKILL)
    cluster.shutdown()
    assert all(wait_for_exit(pid, 0) for pid in pids)
    sandbox.assert_clean(5)


@pytest.mark.parametrize("name", DAEMONS)
def test_a_killed_daemon_is_started_again(sandbox: Sandbox, name: str) -> None:
    cluster = start()
    before = records(cluster)[name]
    log = cluster.paths.log_dir / "supervisor.log"
    from_here = f"+{log.stat().st_size + 1}"
    follow = subprocess.Popen(["tail", "-f", "-c", from_here, str(log)], stdout=subprocess.PIPE, text=True)
    assert follow.stdout is not None
    os.kill(before.pid, signal.SIGKILL)
    events = []
    for line in follow.stdout:
        event = json.loads(line)
        events.append((event["event"], event["fields"].get("daemon")))
        if events[-1] == ("daemon_ready", name):
            break
    follow.kill()
    follow.communicate()
    after = records(cluster)[name]
    assert (after.epoch, after.state) == (before.epoch + 1, "running")
    assert after.pid != before.pid
    assert ("daemon_exited", name) in events
    cluster.shutdown()
    sandbox.assert_clean(5)


def test_a_taken_port_is_named_and_nothing_is_left(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ClusterStartError) as caught:
            start(**{"gcs.listen_addresses": [address]})
    message = str(caught.value)
    assert message.startswith("the cluster cannot start: aktis-gcs: gcs.listen_addresses: cannot listen on ")
    assert f"{address}: Address already in use" in message
    sandbox.assert_clean(0)


def test_a_wrong_setting_is_named_and_nothing_is_left(sandbox: Sandbox) -> None:
    with pytest.raises(
        ClusterStartError, match=r"flag raylet.num_cpus: raylet.num_cpus: expected a valid number"
    ):
        start(**{"raylet.num_cpus": "many"})
    sandbox.assert_clean(0)


def test_a_base_directory_that_cannot_be_written_is_named(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = sandbox.base / "blocked"
    blocked.mkdir()
    (blocked / "aktis").touch()  # even root cannot make a directory there
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(blocked))
    with pytest.raises(ClusterStartError, match=f"cannot create a session directory: .*{blocked}/aktis"):
        start()
    (blocked / "aktis").unlink()
    blocked.rmdir()


def test_a_start_that_takes_too_long_is_ended(sandbox: Sandbox) -> None:
    with pytest.raises(ClusterStartError, match=r"not ready within 0.001 s"):
        launch(LaunchOptions(SMALL, ready_timeout_s=0.001))
    sandbox.assert_clean(5)


def test_the_next_start_sweeps_what_two_kills_left(sandbox: Sandbox) -> None:
    driver = drive(sandbox, "plain")
    (session,) = sandbox.sessions
    record = DaemonRecord.read(session / "run" / "supervisor.json")
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    driver.kill()
    driver.communicate()
    assert sandbox.wait_until_gone(5) == []
    assert session.exists()
    cluster = start()
    assert sandbox.sessions == [cluster.paths.root]
    cluster.shutdown()
