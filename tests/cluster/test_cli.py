"""The commands against a real cluster."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from aktis._common.paths import current_cluster_file
from aktis._find import find_cluster

from tests.support.commands import SMALL, aktis_command, start_cluster, started_cluster
from tests.support.sandbox import Sandbox


@pytest.fixture
def started(sandbox: Sandbox) -> Iterator[dict[str, Any]]:
    """A cluster that `aktis start` left running; what the command printed."""
    with started_cluster(sandbox) as report:
        yield report


def test_start_status_stop(sandbox: Sandbox, started: dict[str, Any]) -> None:
    status = json.loads(aktis_command(sandbox, "status", "--json"))
    (node,) = status["nodes"]
    assert (node["state"], node["is_head"]) == ("ALIVE", True)
    assert node["resources"]["total"]["CPU"] == 1
    by_name = {daemon["name"]: daemon for daemon in node["daemons"]}
    assert {"gcs", "raylet", "plasma"} == set(by_name)
    for daemon in started["daemons"]:
        shown = by_name[daemon["name"]]
        assert shown["state"] == "running"
        for field in ("pid", "epoch", "grpc_address", "metrics_address"):
            assert shown[field] == daemon[field], (daemon["name"], field)
    assert status["actors"] == {}
    table = aktis_command(sandbox, "status")
    assert "ALIVE" in table
    assert str(by_name["raylet"]["pid"]) in table


def test_drivers_find_the_cluster(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]  # free a moment ago; a fixed one would collide with parallel tests
    started = start_cluster(sandbox, port=port)
    by_record = find_cluster()
    assert by_record is not None
    assert by_record.raylet_address == started["raylet_address"]
    assert find_cluster("auto") == by_record
    by_port = find_cluster(f"127.0.0.1:{port}")
    assert by_port is not None
    assert by_port.gcs_address == f"127.0.0.1:{port}"
    assert (by_port.raylet_address, by_port.token) == (by_record.raylet_address, by_record.token)
    aktis_command(sandbox, "stop")


def test_a_second_start_is_refused(sandbox: Sandbox, started: dict[str, Any]) -> None:
    output = aktis_command(sandbox, "start", "--head", "--port", "0", *SMALL, code=1)
    assert f"a cluster already runs in {started['session_dir']}" in output


def test_stop_without_a_cluster(sandbox: Sandbox) -> None:
    assert aktis_command(sandbox, "stop") == "No cluster is running.\n"
    assert "no cluster of this user is running" in aktis_command(sandbox, "status", code=1)


def test_a_taken_port_is_named_and_nothing_is_left(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        output = aktis_command(sandbox, "start", "--head", "--port", port, *SMALL, code=2)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in output
    assert "Traceback" not in output
    sandbox.assert_clean(0)


def test_an_exposed_address_needs_a_decision(sandbox: Sandbox) -> None:
    output = aktis_command(sandbox, "start", "--head", "--host", "0.0.0.0", "--port", "0", *SMALL, code=2)
    assert "use a loopback address or set security.insecure = true" in output
    sandbox.assert_clean(0)


def test_block_stays_until_it_is_told_to_stop(sandbox: Sandbox) -> None:
    command = [sys.executable, "-m", "aktis.cli.main", "start", "--head", "--port", "0", "--block", *SMALL]
    with subprocess.Popen(command, env=sandbox.env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "aktis stop" in line:
                break
        assert current_cluster_file().exists()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    sandbox.assert_clean(0)


def test_a_cluster_whose_supervisor_was_killed_is_no_obstacle(sandbox: Sandbox) -> None:
    report = start_cluster(sandbox)
    os.kill(report["supervisor_pid"], signal.SIGKILL)
    assert sandbox.wait_until_gone(5) == []
    assert aktis_command(sandbox, "stop") == "No cluster is running.\n"
    report = start_cluster(sandbox)
    assert [str(session) for session in sandbox.sessions] == [report["session_dir"]]
    aktis_command(sandbox, "stop")
