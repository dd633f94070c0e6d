"""`aktis status` tells what the GCS answered, in values and in tables."""

from pathlib import Path

import pytest
from aktis._common.resources import ResourceSet
from aktis._find import FoundCluster
from aktis._proto import gcs_pb2
from aktis.cli import status
from click.testing import CliRunner

CLUSTER = FoundCluster("unix:/s/raylet.sock", "unix:/s/gcs.sock", Path("/s"), "token")


def daemon(name: str, pid: int) -> gcs_pb2.Daemon:
    return gcs_pb2.Daemon(
        name=name,
        pid=pid,
        epoch=2,
        grpc_address=f"unix:/s/{name}",
        metrics_address="127.0.0.1:1",
        state="running",
    )


def answers() -> tuple[gcs_pb2.ClusterInfo, list[gcs_pb2.Node], list[gcs_pb2.Job], list[gcs_pb2.Actor]]:
    head = gcs_pb2.Node(
        node_id=b"\x01" * 16,
        hostname="alpha",
        ip="10.0.0.1",
        state=gcs_pb2.Node.ALIVE,
        is_head=True,
        total=ResourceSet.of({"CPU": 2, "memory": 2**31}).to_proto(),
        available=ResourceSet.of({"CPU": 1.5, "memory": 2**31}).to_proto(),
        daemons=[daemon("raylet", 11), daemon("plasma", 12), daemon("gcs", 1)],
    )
    dead = gcs_pb2.Node(
        node_id=b"\x02" * 16, hostname="beta", state=gcs_pb2.Node.DEAD, death_message="silent"
    )
    actors = [
        gcs_pb2.Actor(state=state) for state in (gcs_pb2.Actor.ALIVE, gcs_pb2.Actor.ALIVE, gcs_pb2.Actor.DEAD)
    ]
    info = gcs_pb2.ClusterInfo(
        cluster_id=b"\xaa" * 16,
        version="0.1.0",
        gcs=daemon("gcs", 10),
        environments=[
            gcs_pb2.EnvironmentUse(hash="ab" * 16, job_ids=[b"\0\0\0\2"], packages=["01"]),
            gcs_pb2.EnvironmentUse(hash="cd" * 16, packages=["01"]),
        ],
        packages=3,
        package_bytes=5 << 20,
    )
    return info, [head, dead], [gcs_pb2.Job(state=gcs_pb2.Job.RUNNING)], actors


def test_values() -> None:
    summary = status.summarize(*answers(), CLUSTER)
    head, dead = summary["nodes"]
    assert [(d["name"], d["pid"], d["epoch"]) for d in head["daemons"]] == [
        ("gcs", 10, 2),  # what the GCS says of itself, not what the raylet has heard
        ("plasma", 12, 2),
        ("raylet", 11, 2),
    ]
    assert head["daemons"][2] == {
        "name": "raylet",
        "pid": 11,
        "epoch": 2,
        "grpc_address": "unix:/s/raylet",
        "metrics_address": "127.0.0.1:1",
        "state": "running",
    }
    assert head["resources"]["available"] == {"CPU": 1.5, "memory": 2**31}
    assert (dead["state"], dead["daemons"], dead["death_message"]) == ("DEAD", [], "silent")
    assert summary["jobs"] == {"RUNNING": 1}
    assert summary["environments"][0] == {"hash": "ab" * 16, "jobs": ["00000002"], "packages": ["01"]}
    assert summary["packages"] == {"count": 3, "bytes": 5 << 20}
    assert summary["actors"] == {"ALIVE": 2, "DEAD": 1}


def test_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    async def collect(_cluster: FoundCluster) -> dict[str, object]:
        return status.summarize(*answers(), CLUSTER)

    monkeypatch.setattr(status, "find_cluster", lambda _address: CLUSTER)
    monkeypatch.setattr(status, "collect", collect)
    output = CliRunner().invoke(status.command, []).output
    assert "Node 01010101 on alpha (10.0.0.1, head): ALIVE" in output
    assert "Node 02020202 on beta" in output
    assert "silent" in output
    assert "unix:/s/raylet" in output
    (cpu,) = [line.split() for line in output.splitlines() if line.startswith("CPU")]
    assert [word for word in cpu if word[0].isdigit()] == ["0.5", "2"]
    assert "2.00 GiB" in output
    assert "Actors: 2 alive, 1 dead" in output
    assert "Uploaded packages: 3 with 5.0 MiB, 1 of them in use" in output
    rows = [line.split() for line in output.splitlines() if line.startswith(("abab", "cdcd"))]
    assert [row[0] for row in rows] == ["ab" * 16, "cd" * 16]
    assert "00000002" in rows[0]
    assert "detached" in rows[1]


def test_without_a_cluster_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("AKTIS_ADDRESS", raising=False)
    result = CliRunner().invoke(status.command, ["--json"])
    assert result.exit_code == 1
    assert "no cluster of this user is running" in result.output
